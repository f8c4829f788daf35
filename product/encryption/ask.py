"""Asking for the recovery key at the console, for as long as somebody may come."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

from product.cloudinit.sources import Where
from product.encryption import drivers

# How long a boot waits for a person; the caller feeds the watchdog meanwhile. Seconds.
SECONDS = 300.0
# How often a keyboard that turns up is given its driver, and how much of a line is kept; seconds.
_DRIVERS_SECONDS = 5.0
_LINE_BYTES = 1024


def consoles(where: Where) -> list[str]:
    """The console, and the screen where that is another one: a person may sit at either."""
    found = [where.under("dev/console")]
    with suppress(OSError), open(where.under("sys/class/tty/console/active")) as file:
        if "tty0" in file.read().split()[:-1]:
            found.append(where.under("dev/tty0"))
    return found


def typed_lines(
    paths: list[str], seconds: float, prepare: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """Each line that somebody types at one of the consoles, until the time is over.

    ``prepare`` is called now and then meanwhile.
    """
    end = time.monotonic() + seconds
    poll = select.poll()
    with ExitStack() as opened:
        pending: dict[int, bytearray] = {}
        for path in paths:
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(path, flags)
                opened.callback(os.close, descriptor)
                poll.register(descriptor, select.POLLIN)
                pending[descriptor] = bytearray()
        while pending and (left := end - time.monotonic()) > 0:
            prepare()
            for descriptor, _ in poll.poll(min(left, _DRIVERS_SECONDS) * 1000):
                try:
                    chunk = os.read(descriptor, _LINE_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    chunk = b""
                if not chunk:
                    poll.unregister(descriptor)
                    del pending[descriptor]
                    continue
                line = pending[descriptor]
                line += chunk.replace(b"\r", b"\n")
                while b"\n" in line:
                    whole, _, rest = bytes(line).partition(b"\n")
                    line[:] = rest
                    if whole.strip():
                        yield whole.decode("utf-8", "replace").strip()
                del line[:-_LINE_BYTES]


def for_recovery_key(where: Where, seconds: float = SECONDS) -> Iterator[str]:
    """What is typed at this machine's consoles, with the drivers that keyboards need."""
    yield from typed_lines(consoles(where), seconds, lambda: drivers.load(where))
