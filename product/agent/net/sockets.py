"""Sockets whose every wait has an end: one for a silence, and one for the whole exchange.

A socket's own timeout begins anew with every byte, so a peer that drips escapes it. Here each wait
also ends at a moment that the exchange was given. Name resolution counts like everything else.
"""

from __future__ import annotations

import _thread
import socket
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# How often a wait looks whether it was interrupted: seconds.
SLICE = 0.5

# Gets the host as it was asked for, the port, and the address that it has; raises what forbids it.
Permit = Callable[[str, int, str], None]


class Patience:
    """What limits the waits of one connection: ``silence`` seconds each, and what is left to all.

    ``interrupt`` is called while something is waited for, and raises what ends the exchange.
    """

    def __init__(self, silence: float, interrupt: Callable[[], None] | None = None) -> None:
        self.silence = silence
        self._interrupt = interrupt
        self.allow(silence)

    def allow(self, seconds: float) -> None:
        """Give the exchange ``seconds`` from now, whatever it had before."""
        self._allowed = seconds
        self._until = monotonic() + seconds

    def left(self, most: float) -> float:
        """Seconds for a wait that may last ``most``. Raises TimeoutError, or what interrupts."""
        if self._interrupt is not None:
            self._interrupt()
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out: not done within {self._allowed:.0f} s")
        return min(left, most)

    def slice(self, since: float) -> float:
        """The same for a part of a silence that began at ``since`` on the monotonic clock."""
        quiet = since + self.silence - monotonic()
        if quiet <= 0:
            raise TimeoutError(f"timed out: silent for {self.silence:.0f} s")
        return self.left(min(quiet, SLICE))


class Timed:
    """What makes a socket obey ``patience``; to be put before a socket's class."""

    patience: Patience
    # Of the socket's class.
    settimeout: Callable[[float | None], None]

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """As a socket's; raises TimeoutError once the patience is over."""
        since = monotonic()
        receive: Any = super()
        while True:
            self.settimeout(self.patience.slice(since))
            try:
                return int(receive.recv_into(buffer, nbytes or 0, flags))
            except TimeoutError:
                continue

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """The same."""
        send: Any = super()
        self.settimeout(self.patience.left(self.patience.silence))
        send.sendall(data, flags)


class TimedSocket(Timed, socket.socket):
    """A TCP connection."""


def dial(
    host: str, port: int, patience: Patience, *, connect: float, permit: Permit | None = None
) -> TimedSocket:
    """A connection to the first address of ``host`` that takes one within ``connect`` seconds.

    ``permit`` is asked before each address is. Raises OSError, ValueError for no name.
    """
    problem: OSError | None = None
    for family, kind, protocol, _, address in resolve(host, port, patience):
        if permit is not None:
            permit(host, port, str(address[0]))
        made = TimedSocket(family, kind, protocol)
        made.patience = patience
        try:
            made.settimeout(patience.left(connect))
            made.connect(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except OSError as error:
            made.close()
            problem = error
        except BaseException:
            made.close()
            raise
    raise problem or OSError(f"{host} has no address")


def resolve(host: str, port: int, patience: Patience) -> list[Any]:
    """What getaddrinfo says, within the patience. Raises OSError, ValueError for no name."""
    try:
        return socket.getaddrinfo(
            host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
        )  # fmt: skip
    except socket.gaierror:
        pass
    # The C library has no limit for a name server that accepts a connection and says nothing.
    answers: list[list[Any] | Exception] = []
    done = _thread.allocate_lock()
    done.acquire()

    def ask() -> None:
        try:
            answers.append(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            answers.append(error)
        finally:
            done.release()

    _thread.start_new_thread(ask, ())
    while not done.acquire(timeout=patience.left(SLICE)):
        pass
    [answer] = answers
    if isinstance(answer, Exception):
        raise answer
    return answer
