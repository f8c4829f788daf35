"""A resident process that has the agent's imports: ``kubesolo-update`` starts at once.

Importing the update client costs an emulated node two CPU seconds. This process imports it once.
Each command runs in a fork of it, with the caller's arguments, environment, folder, priority and
standard files, and the caller ends with its exit code. Who cannot connect runs the command itself,
so nothing depends on this process. Only root's processes of the same root and namespaces are
served: for others the same command would mean something else.

One connection is one command. The caller sends ``K1``, four bytes of length (big-endian) and fields
with NUL between them: umask, nice value, folder, number of arguments, arguments, and ``NAME=VALUE``
of the environment; with it go the three standard files (SCM_RIGHTS). The answer is ``S`` once the
command has begun, and one byte, its exit code. A caller that goes away, or shuts down its side,
interrupts the command as Ctrl-C does.
"""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

MAGIC = b"K1"
# Of the message before its fields: bytes.
_HEAD = len(MAGIC) + 4
MAX_BYTES = 1024 * 1024
# How long a caller may take to say what it wants: seconds.
PATIENCE = 5.0
BEGUN = b"S"
_NAMESPACES = ("mnt", "net", "pid")
Command = Callable[[Sequence[str]], int]


class RefusedError(Exception):
    """The caller is not served, and runs the command itself."""


def serve(path: str, command: Command) -> NoReturn:
    """Run ``command`` for each caller of the socket ``path``. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    # Forks are nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        listener.bind(path)
        os.umask(before)
        listener.listen(16)
        while True:
            caller, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _run(caller, command)
            caller.close()


def _run(caller: socket.socket, command: Command) -> NoReturn:
    """Be the command that ``caller`` wants, to its end."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        arguments = _become(caller)
        caller.sendall(BEGUN)
        code = _interruptible(caller, lambda: command(arguments))
        caller.sendall(bytes([code & 0xFF]))
    except (RefusedError, OSError, ValueError):
        # It sees the end of the connection. One that has heard BEGUN ends with an error.
        pass
    except BaseException:
        # What a fresh interpreter would do.
        sys.excepthook(*sys.exc_info())
        with suppress(OSError):
            caller.sendall(b"\1")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _become(caller: socket.socket) -> list[str]:
    """Take the place of ``caller``; its arguments. Raises RefusedError, OSError, ValueError."""
    caller.settimeout(PATIENCE)
    require_alike(caller)
    fields, files = _message(caller)
    caller.settimeout(None)
    mask, nice, folder, count = int(fields[0]), int(fields[1]), fields[2], int(fields[3])
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        before = getattr(sys, f"__{name}__")
        stream = open(  # noqa: SIM115
            number, mode, encoding=before.encoding, errors=before.errors, closefd=False,
            buffering=1 if os.isatty(number) or number == 2 else -1,
        )  # fmt: skip
        setattr(sys, name, stream)
    os.chdir(folder)
    os.umask(mask)
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    os.environb.clear()
    for entry in fields[4 + count :]:
        variable, _, value = entry.partition(b"=")
        os.environb[variable] = value
    time.tzset()
    return [os.fsdecode(argument) for argument in fields[4 : 4 + count]]


def require_alike(caller: socket.socket) -> None:
    """Raises RefusedError unless ``caller`` is root, and sees what this process sees."""
    raw = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", raw)
    if user != os.getuid():
        raise RefusedError
    try:
        for name in _NAMESPACES:
            if os.readlink(f"/proc/{process}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
                raise RefusedError
        if not os.path.samestat(os.stat(f"/proc/{process}/root"), os.stat("/proc/self/root")):
            raise RefusedError
    except OSError:
        raise RefusedError from None


def _message(caller: socket.socket) -> tuple[list[bytes], list[int]]:
    """The fields and the three files. Raises ValueError, OSError."""
    data = bytearray()
    files = array.array("i")
    size = _HEAD
    while len(data) < size:
        part, ancillary, _, _ = caller.recvmsg(
            min(size - len(data), 65536), socket.CMSG_SPACE(3 * files.itemsize)
        )
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                files.frombytes(content[: len(content) - len(content) % files.itemsize])
        data += part
        if len(data) == _HEAD == size:
            size += int.from_bytes(data[len(MAGIC) :], "big")
        if not part or size > MAX_BYTES or not data.startswith(MAGIC[: len(data)]):
            raise ValueError("this is no message of a caller")
    if len(files) != 3:
        raise ValueError(f"the message brings {len(files)} files")
    return bytes(data[_HEAD:]).split(b"\0"), list(files)


def _interruptible(caller: socket.socket, action: Callable[[], int]) -> int:
    """What ``action`` returns; KeyboardInterrupt is raised in it where the caller goes away."""

    def look(number: int, frame: FrameType | None) -> None:
        try:
            if caller.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                return
        except BlockingIOError:
            # The socket can be written to again, say.
            return
        except OSError:
            pass
        raise KeyboardInterrupt

    signal.signal(signal.SIGIO, look)
    fcntl.fcntl(caller, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(caller, fcntl.F_GETFL)
    fcntl.fcntl(caller, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        # It may have gone before.
        look(signal.SIGIO, None)
        return action()
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
