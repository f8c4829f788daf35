"""Readers that act on what they read, with what they would do to this host left out.

The channel's daemon is given a stream, its programs and its clock are not the host's. The folder of
pods' requests is a real one, filled with real files of every kind that a pod could leave.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

from product.errors import KubesoloError

_EXEC = {"id": 1, "op": "exec", "argv": ["true"], "env": {}, "stdin": "QQ==", "timeout": 5}
_RESYNC = {"id": 2, "op": "resync", "time": 1.5, "entropy": "QUFB"}
CHANNEL_SEEDS = tuple(
    b"\x1e" + json.dumps(message).encode() + b"\n"
    for message in (_EXEC, _RESYNC, {"id": 3, "op": "ping", "nonce": "n"})
)


def channel_daemon(data: bytes) -> None:
    """Serve ``data`` as what the host sends, then its end."""
    from product.channel import daemon as served
    from product.channel import resync
    from product.channel.framing import Decoder

    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        mock.patch.object(served, "Command", side_effect=FileNotFoundError(2, "no program")),
        mock.patch.object(resync, "set_clock"),
        mock.patch.object(resync, "credit_entropy"),
    ):
        ours.setblocking(False)
        daemon = served.Daemon(ours.fileno())
        theirs.sendall(data)
        daemon._on_port(select.EPOLLIN)
        daemon._kill_overdue()
        daemon._throttle()
        daemon._epoll.close()
        assert not daemon._commands, "a program is left"
        theirs.setblocking(False)
        said = b""
        with suppress(BlockingIOError):
            while piece := theirs.recv(1 << 16):
                said += piece
    requests = [message for message in Decoder().feed(data) if "op" in message]
    answers = [message for message in Decoder().feed(said) if "hello" not in message]
    assert len(answers) == len(requests), "a request has no answer, or more than one"


# What an entry is, by a byte of the input; a name by the next one, then the length of its content.
_KINDS = ("file", "link", "hard link", "pipe", "folder", "large", "device", "socket")
_NAMES = (
    "a.request", "b.request", "a.reply", ".reply-1", "A.request", "..request", "a b.request",
    "x\n.request", "-rf.request", "\udcff.request", "other", "a.request.request",
)  # fmt: skip


def _folder(*entries: tuple[str, str, bytes]) -> bytes:
    return b"".join(
        bytes([_KINDS.index(kind), _NAMES.index(name), len(content)]) + content
        for kind, name, content in entries
    )


FOLDER_SEEDS = (
    _folder(*((kind, "a.request", b"/../outside") for kind in _KINDS)),
    _folder(("file", "a.request", b'{"action": "check"}'), ("link", "a.reply", b"../outside")),
    _folder(("folder", "b.request", b"x"), ("hard link", "a.request", b""), ("pipe", "other", b"")),
)


def request_folder(data: bytes) -> None:
    """Serve a folder with the entries of ``data``: nothing outside it is touched or read."""
    from product.agent.services.request_directory import Reply, opened

    with tempfile.TemporaryDirectory(prefix="kubesolo-fuzz-") as made:
        outside, folder = Path(made, "outside"), Path(made, "requests")
        outside.write_text('{"action": "apply"}')
        outside.chmod(0o600)
        before = outside.stat()
        folder.mkdir()
        _fill(folder, outside, data)
        with opened(str(folder)) as directory:
            directory.sweep(0.0)
            for name in directory.waiting():
                owner = directory.owner(name)
                linked = (folder / name).is_symlink()
                with suppress(KubesoloError):
                    directory.take(name)
                    assert not linked, "a link was followed"
                with suppress(OSError):
                    directory.reply(name.removesuffix(".request"), Reply(0, "done", "x"), owner)
            directory.sweep(1e12)
        left = [path.name for path in folder.iterdir()]
        assert not left, f"{left} is left"
        after = outside.stat()
        assert outside.read_text() == '{"action": "apply"}', "a file outside was written"
        kept = ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns")
        assert all(getattr(after, key) == getattr(before, key) for key in kept)


def _fill(folder: Path, outside: Path, data: bytes) -> None:
    at = 0
    while at + 3 <= len(data):
        kind, name, length = data[at : at + 3]
        content = data[at + 3 : at + 3 + length]
        at += 3 + length
        path = folder / _NAMES[name % len(_NAMES)]
        # A name that is taken stays as it is; some content is no name.
        with suppress(OSError, ValueError):
            _make(_KINDS[kind % len(_KINDS)], path, outside, content)


def _make(kind: str, path: Path, outside: Path, content: bytes) -> None:
    """One entry. Raises OSError, and ValueError for a link to what can be no name."""
    if kind == "file":
        if not os.path.lexists(path):
            path.write_bytes(content)
    elif kind == "link":
        os.symlink(content[:64] or os.fsencode(outside), os.fsencode(path))
    elif kind == "hard link":
        other = path.with_name("other")
        if not os.path.lexists(other):
            other.write_bytes(content)
        os.link(other, path, follow_symlinks=False)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "inner").symlink_to(outside)
        (path / "file").write_bytes(content)
    elif kind == "large":
        with path.open("xb") as file:
            file.truncate(1 << 20)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
