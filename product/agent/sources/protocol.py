"""What a source of releases is to the agent: the files of one release repository, by their paths.

``metadata/...``, ``targets/...`` and ``artifacts/SHA256`` are such paths (docs/publishing.md).
Whether a web server, a disk or a registry has them is the source's own business. What it brings is
trusted no more than what a stranger sends: sizes and digests are the caller's to check.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Protocol

Progress = Callable[[int, int], None]


class FetchPolicy(NamedTuple):
    """How patient a fetch is.

    ``tries`` are tries in a row that bring no byte, ``requests`` all requests of one fetch,
    ``total`` seconds for it. Waits between tries double from ``first_wait`` to ``longest_wait``
    seconds. A server that brings less than ``slowest`` bytes a second over ``window`` seconds is
    given up for this try. ``connect`` and ``silence`` are seconds until a socket times out, and
    ``answer`` those until the headers are there, redirects and all. A server that asks to wait
    longer than ``heed`` seconds is given up. In all, a fetch takes ``multiple`` times the file's
    bytes at most, whatever it has to be sent again.
    """

    tries: int = 5
    requests: int = 100
    total: float = 4 * 3600.0
    first_wait: float = 0.5
    longest_wait: float = 8.0
    slowest: int = 1024
    window: float = 30.0
    connect: float = 10.0
    silence: float = 20.0
    answer: float = 60.0
    heed: float = 120.0
    multiple: int = 4


DEFAULT_POLICY = FetchPolicy()


def wait_before(policy: FetchPolicy, fruitless: int, asked: float | None) -> float:
    """Seconds until the next try after ``fruitless`` ones; ``asked`` is what the server wants."""
    own = min(policy.first_wait * 2.0 ** max(fruitless - 1, 0), policy.longest_wait)
    return max(own, asked or 0.0)


class Answer(Protocol):
    """What a source has for a path, the bytes unread; statuses and headers are those of HTTP.

    A path that the source does not have is 404. A range that was asked for is 206, 200 where the
    whole file comes all the same, or 416. Whoever gets the answer closes it.
    """

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""

    def allow(self, seconds: float) -> None:
        """Give what is read next ``seconds`` from now."""

    def read1(self, limit: int) -> bytes:
        """At most ``limit`` bytes; empty at the end. Raises TransientError."""

    def close(self) -> None:
        """Free what stands behind it."""


class Source(Protocol):
    """One release repository, open for one look or one update; use as a context manager.

    ``address`` is where it is, for people: without a login. ``setting`` is the key of update.conf
    that names it.
    """

    @property
    def address(self) -> str: ...

    @property
    def setting(self) -> str: ...

    def open(
        self,
        path: str,
        *,
        start: int = 0,
        end: int | None = None,
        fresh: bool = False,
        until: float | None = None,
    ) -> Answer:
        """The bytes of ``path`` from ``start`` to ``end``, which is the last one.

        ``fresh``: past whatever cache may be in between. All of it ends at ``until``, a moment on
        the monotonic clock, but for the bytes that are read later. Raises TransientError where
        another try may help, and AgentError by the name of what is wrong.
        """

    def pause(self, seconds: float) -> None:
        """Wait; raises what interrupts."""

    def __enter__(self) -> Source: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def place(source: Source, path: str) -> str:
    """Where ``path`` of ``source`` is, for people."""
    return f"{source.address}/{path}"
