"""Bring a machine restored from a snapshot back to the present.

Its clock still shows the moment of the snapshot, and its random generator is in the same state as
that of every other machine restored from it.
"""

from __future__ import annotations

import fcntl
import struct
import time

# linux/random.h: _IOW('R', 0x03, int[2]) and _IO('R', 0x07). The second makes the generator use
# the credited bits at once instead of at its next interval of up to a minute.
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207


def set_clock(seconds: float) -> None:
    """Set the wall clock to Unix time ``seconds``. Raises OSError."""
    time.clock_settime(time.CLOCK_REALTIME, seconds)


def credit_entropy(data: bytes) -> None:
    """Mix ``data`` into the kernel's generator and credit it in full. Raises OSError."""
    pool = struct.pack(f"=ii{len(data)}s", len(data) * 8, len(data), data)
    with open("/dev/random", "rb") as file:
        fcntl.ioctl(file, _RNDADDENTROPY, pool)
        fcntl.ioctl(file, _RNDRESEEDCRNG)
