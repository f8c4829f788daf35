"""A machine that gets little of the host's processors, and a watchdog that nobody feeds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from harness.abilities import Ability
from harness.errors import HarnessError
from harness.faults.fault import Fault
from harness.journal.journal import Event, Source
from harness.qemu.machine import Machine

_COMMAND_SECONDS = 20.0
# Until a process that was told to stop has stopped.
_STOP_SECONDS = 5.0
_LOOK = 0.005


class CpuStarvation(Fault):
    """The host gives the machine ``share`` of the time, in turns of ``period`` seconds.

    QEMU is stopped for the rest of each turn: time passes for the guest, and nothing else does. A
    turn counts once the kernel has said that QEMU stands still.
    """

    ability = Ability.CPU_STARVATION

    def __init__(self, machine: Machine, share: float, *, period: float = 1.0) -> None:
        if not 0 < share < 1 or period <= 0:
            raise HarnessError(f"a machine cannot have {share} of each {period} s")
        super().__init__(machine.journal, f"the machine runs {share:.0%} of each {period:g} s")
        self._machine = machine
        self._run_seconds, self._stop_seconds = period * share, period * (1 - share)
        self._stops = 0
        self._stood = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def arm(self) -> None:
        """Begin with a stop. Raises HarnessError for a machine that is off."""
        pid = self._machine.process.pid
        if pid is None:
            raise HarnessError(f"{self._machine.name} is off: it has no processors to lose")
        self._stops, self._stood = 0, 0.0
        self._over.clear()
        self._thread = threading.Thread(target=self._starve, args=(pid,), daemon=True)
        self._thread.start()

    def lift(self) -> None:
        """Let it run."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> tuple[int, str]:
        """Stops of QEMU."""
        return self._stops, f"it stood still {self._stops} times, {self._stood:.1f} s in all"

    def _starve(self, pid: int) -> None:
        # A process that has ended by itself, or by a power cut, is nobody else's yet: the
        # supervisor's notice comes later than its end. pidfds are of one process for good.
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return
        try:
            while not self._over.is_set():
                signal.pidfd_send_signal(process, signal.SIGSTOP)
                begun = time.monotonic()
                stopped = _stands_still(pid)
                self._over.wait(self._stop_seconds)
                signal.pidfd_send_signal(process, signal.SIGCONT)
                if stopped:
                    self._stops += 1
                    self._stood += time.monotonic() - begun
                self._over.wait(self._run_seconds)
        except ProcessLookupError:
            return
        finally:
            os.close(process)


class WatchdogStarvation(Fault):
    """Whatever feeds the machine's watchdog is stopped by ``command``, which runs in the guest.

    It has fired once QEMU says that the watchdog's time was over.
    """

    ability = Ability.WATCHDOG_STARVATION

    def __init__(self, machine: Machine, command: Sequence[str]) -> None:
        super().__init__(machine.journal, "nobody feeds the watchdog")
        self._machine = machine
        self._command = command
        self._since = 0

    def arm(self) -> None:
        """Stop it. Raises HarnessError where the command fails."""
        machine = self._machine
        self._since = machine.journal.cursor
        done = machine.channel.exec(list(self._command), machine.deadline(_COMMAND_SECONDS))
        if done.exit != 0:
            raise HarnessError(f"what feeds the watchdog was not stopped: {done}")

    def lift(self) -> None:
        """The reset has done it."""

    def look(self) -> tuple[int, str]:
        """WATCHDOG of QMP."""
        fired = sum(_is_watchdog(event) for event in self._machine.journal.events(self._since))
        return fired, f"QEMU's watchdog was over {fired} times"


def _is_watchdog(event: Event) -> bool:
    return (event.source, event.kind, event.text) == (Source.QMP, "event", "WATCHDOG")


def _stands_still(pid: int) -> bool:
    """Whether the kernel says so of a process soon after it was told to stop."""
    until = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < until:
        try:
            # Behind its name, which may hold anything.
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return False
        if state == "T":
            return True
        time.sleep(_LOOK)
    return False
