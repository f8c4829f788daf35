"""The directory of pods' requests: files that nobody may be trusted to have written."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from product.agent.errors import EXIT_USAGE, AgentError
from product.agent.settings import check_value

ACTIONS = ("check", "apply", "healthcheck")
MAX_BYTES = 4096
MAX_TEXT = 2000
# A round serves no more; the directory itself is bounded by its file system.
MAX_SERVED = 64
# What a pod that ended early left behind goes after this many seconds.
STALE = 3600
_SOURCES = ("server", "registry", "tag")
_NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,62})\.request")
_SERVER = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?")


class RequestError(AgentError):
    """A request that is not one."""

    code = "bad-request"
    exit_code = EXIT_USAGE


class Request(NamedTuple):
    """``server``, ``registry`` and ``tag`` are None where the node's own configuration counts."""

    action: str
    server: str | None = None
    registry: str | None = None
    tag: str | None = None

    @property
    def names_source(self) -> bool:
        """Whether it says where releases are to come from."""
        return self.server is not None or self.registry is not None


class Reply(NamedTuple):
    """``exit`` is an exit code of kubesolo-update."""

    exit: int
    outcome: str
    text: str


class RequestDirectory:
    """The directory, held open: names are looked up in it and nowhere else."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def waiting(self) -> list[str]:
        """Requests by file name, the oldest first; what can be none of ours is removed."""
        found: list[tuple[int, str]] = []
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                try:
                    status = os.lstat(entry.name, dir_fd=self._descriptor)
                except OSError:
                    continue
                if _NAME.fullmatch(entry.name):
                    found.append((status.st_mtime_ns, entry.name))
                elif entry.name.endswith(".request"):
                    print(f"removed {entry.name!r}: no name of a request", flush=True)
                    self.remove(entry.name)
        return [name for _, name in sorted(found)[:MAX_SERVED]]

    def sweep(self, now: float) -> None:
        """Remove what nobody waits for any more."""
        for name in os.listdir(self._descriptor):
            try:
                old = os.lstat(name, dir_fd=self._descriptor).st_mtime < now - STALE
            except OSError:
                continue
            if old and not name.endswith(".request"):
                self.remove(name)

    def take(self, file: str) -> Request:
        """Read a request and remove it, so that it is served once. Raises RequestError."""
        try:
            data = self._read(file)
        finally:
            self.remove(file)
        try:
            document = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the request is not JSON: {error}") from None
        return _parse(document)

    def reply(self, name: str, reply: Reply, owner: tuple[int, int]) -> None:
        """Leave ``NAME.reply``, whole or not at all. Raises OSError."""
        document = {**reply._asdict(), "text": plain(reply.text)}
        # One key a line: the pod's end reads it with sed.
        data = (json.dumps(document, indent=1) + "\n").encode()
        temporary = f".reply-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o640, dir_fd=self._descriptor)
        try:
            try:
                os.write(descriptor, data)
                os.fchown(descriptor, *owner)
            finally:
                os.close(descriptor)
            target = f"{name}.reply"
            self.remove(target)
            here = self._descriptor
            os.rename(temporary, target, src_dir_fd=here, dst_dir_fd=here)
        except OSError:
            self.remove(temporary)
            raise

    def owner(self, name: str) -> tuple[int, int]:
        """User and group of an entry; root's where it is gone."""
        try:
            status = os.lstat(name, dir_fd=self._descriptor)
        except OSError:
            return 0, 0
        return status.st_uid, status.st_gid

    def holds(self, name: str) -> bool:
        """Whether an entry of that name is there."""
        try:
            os.lstat(name, dir_fd=self._descriptor)
        except OSError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove an entry, whatever it is, following nothing."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except IsADirectoryError:
            import shutil

            shutil.rmtree(name, ignore_errors=True, dir_fd=self._descriptor)
        except OSError:
            return

    def _read(self, file: str) -> bytes:
        # Without O_NONBLOCK a named pipe would be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(file, flags, dir_fd=self._descriptor)
        except OSError as error:
            raise RequestError(f"the request cannot be read: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RequestError("the request is no regular file")
            data = os.read(descriptor, MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > MAX_BYTES:
            raise RequestError(f"the request is larger than {MAX_BYTES} bytes")
        return data


@contextmanager
def opened(path: str) -> Iterator[RequestDirectory]:
    """The directory at ``path``. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        yield RequestDirectory(descriptor)
    finally:
        os.close(descriptor)


def _parse(document: object) -> Request:
    if not isinstance(document, dict):
        raise RequestError("the request is no JSON object")
    unknown = sorted(set(document) - {"action", *_SOURCES})
    if unknown:
        raise RequestError(f"the request has an unknown key {unknown[0]!r}")
    action = document.get("action")
    if action not in ACTIONS:
        raise RequestError(f"the action is {action!r}, there are: {', '.join(ACTIONS)}")
    server = document.get("server")
    if server is not None and not (
        isinstance(server, str) and len(server) <= 512 and _SERVER.fullmatch(server)
    ):
        raise RequestError("the server is no http or https address")
    named = {key: document[key] for key in _SOURCES[1:] if document.get(key) is not None}
    for key, value in named.items():
        if not isinstance(value, str) or len(value) > 512 or check_value(key, value or "/"):
            raise RequestError(f"the {key} is none that a node could use")
    if server is not None and named:
        raise RequestError("the request names a server and a registry; releases come from one")
    if "tag" in named and "registry" not in named:
        raise RequestError("the request names a tag of no registry")
    return Request(str(action), server, named.get("registry"), named.get("tag"))


def plain(text: str) -> str:
    """The end of ``text`` in characters that any terminal and sed take."""
    kept = "".join(c if " " <= c <= "~" or c == "\n" else "?" for c in text.strip())
    return kept[-MAX_TEXT:]
