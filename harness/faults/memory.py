"""A guest that has hardly any memory left."""

from __future__ import annotations

import contextlib
import time

from harness.abilities import Ability
from harness.errors import ChannelError, HarnessError
from harness.faults.fault import Fault
from harness.target.protocols import Pending, Target

_COMMAND_SECONDS = 60.0
# Seconds between two questions: what asks takes memory, too.
_LOOK = 0.5

# In the guest, with the MiB that shall be left: take all the others and keep them. What takes them
# is the last that the kernel would end. It says when it has them, and leaves with its input.
HOG = """
import os, sys, time
left = int(sys.argv[1])
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("-1000")
def available():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("MemAvailable"))
kept = []
while (more := available() - left) > 0:
    kept.append(bytearray(os.urandom(4096) * (min(more, 8) << 8)))
print("taken", sum(map(len, kept)) >> 20, flush=True)
while os.path.exists(sys.argv[2]):
    time.sleep(0.2)
"""
_FLAG = "/run/memory-hog"
# Memory as the guest sees it, and what the kernel has ended for want of it.
_SEEN = "grep MemAvailable /proc/meminfo; grep -w oom_kill /proc/vmstat"


class MemoryPressure(Fault):
    """All but about ``left_mib`` of the guest's memory is taken, by a process that is never ended.

    It needs Python in the guest. It has fired once the guest itself has said how much is left.
    """

    ability = Ability.MEMORY_PRESSURE

    def __init__(self, target: Target, left_mib: int) -> None:
        super().__init__(target.journal, f"{left_mib} MiB of memory are left")
        self._target = target
        self._left_mib = left_mib
        self._hog: Pending | None = None
        self._left = -1
        self._killed = self._before = 0

    @property
    def killed(self) -> int:
        """How many processes the kernel has ended for want of memory."""
        self.look()
        return self._killed

    def arm(self) -> None:
        """Take it. Raises HarnessError where it cannot be taken."""
        channel = self._target.channel
        self._left = -1
        _, self._before = self._ask()
        channel.put(b"", _FLAG, self._target.deadline(_COMMAND_SECONDS))
        argv = ["python3", "-c", HOG, str(self._left_mib), _FLAG]
        self._hog = channel.start(argv, limit=None)
        deadline = self._target.deadline(_COMMAND_SECONDS)
        while b"taken" not in self._hog.output():
            self.look()
            time.sleep(_LOOK)
            if deadline.passed:
                raise HarnessError(f"{self}: the guest's memory was not taken: {self._left} MiB")

    def lift(self) -> None:
        """Give it back."""
        if self._hog is None or not (self._target.running and self._target.channel.up):
            return
        deadline = self._target.deadline(_COMMAND_SECONDS)
        self._target.channel.exec(["rm", "-f", _FLAG], deadline)
        try:
            self._hog.wait(deadline)
        except ChannelError as error:
            raise HarnessError(f"{self}: the memory was not given back: {error.message}") from error
        self._hog = None

    def look(self) -> tuple[int, str]:
        """The least that the guest said was left, and whom the kernel ended."""
        if self._hog is not None and self._target.running and self._target.channel.up:
            # What asks is itself among those that the kernel may end.
            with contextlib.suppress(HarnessError):
                left, killed = self._ask()
                self._left = left if self._left < 0 else min(left, self._left)
                self._killed = killed - self._before
        text = f"{self._left} MiB were left, {self._killed} processes were ended"
        return (1 if 0 <= self._left <= 2 * self._left_mib else 0), text

    def _ask(self) -> tuple[int, int]:
        """MiB that are left, and how many processes the kernel has ended since the boot."""
        deadline = self._target.deadline(_COMMAND_SECONDS)
        done = self._target.channel.exec(["/bin/sh", "-c", _SEEN], deadline)
        words = done.text.split()
        if done.exit != 0 or len(words) != 5:
            raise HarnessError(f"the guest does not say how much memory it has: {done}")
        return int(words[1]) >> 10, int(words[4])
