"""A disk that fails, is slow, or answers no more.

QEMU fails, delays and holds the requests of the boot disk's device itself. What it counts for the
device says whether that happened to any.
"""

from __future__ import annotations

import enum
import errno
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.abilities import Ability
from harness.errors import HarnessError
from harness.faults.fault import Fault
from harness.journal.journal import Event, Source
from harness.qemu.devices import DiskBus
from harness.qemu.machine import Machine

# The boot disk's device, and QEMU's name of what has its contents: of a virtio disk, of others.
DEVICE = "/machine/peripheral/disk0"
_HALVES = (f"{DEVICE}/virtio-backend", "disk0")
# For a spec's ``extra``: a disk on ``virtio-scsi`` tells the guest that there is no space left.
# QEMU would stop the machine and wait for room; a virtio disk cannot tell that from EIO.
TELLS_NO_SPACE = ("-global", "scsi-hd.werror=report")

# At least one of so many neighbouring sectors is in each write that is as long: 128 KiB.
_STRIDE = 256


class Failure(enum.IntEnum):
    """What a failing write reports to QEMU, by its errno."""

    EIO = errno.EIO
    ENOSPC = errno.ENOSPC


@dataclass(frozen=True, slots=True)
class Sectors:
    """A part of the disk, a partition say, in sectors of 512 bytes."""

    start: int
    count: int


class WriteErrors(Fault):
    """The disk's ``nth`` write from now on fails, the next one if it is 1.

    With ``within`` each write from the ``nth`` on fails that lies there and is of 128 KiB or more:
    what is around it, such as the log of another partition, is kept. The guest merges requests
    before QEMU counts them.
    """

    ability = Ability.DISK_ERRORS
    _numbers = itertools.count(1)

    def __init__(
        self,
        machine: Machine,
        failure: Failure = Failure.EIO,
        *,
        nth: int = 1,
        within: Sectors | None = None,
    ) -> None:
        where = f" and later ones in {within.count} sectors at {within.start}" if within else ""
        super().__init__(machine.journal, f"{failure.name} of write {nth}{where}")
        if nth < 1:
            raise HarnessError(f"there is no write {nth}: the next one is 1")
        self._machine = machine
        self._failure = failure
        self._nth = nth
        self._within = within
        self._name = self._below = ""
        self._since = self._failed = self._writes = 0

    def arm(self) -> None:
        """Put blkdebug between the device and its contents."""
        self._name = f"faulty{next(self._numbers)}"
        self._below = present_node(self._machine)
        self._since = self._machine.journal.cursor
        stats = device_stats(self._machine)
        self._failed, self._writes = stats["failed_wr_operations"], stats["wr_operations"]
        # A state for each write that passes; the last one's rules inject.
        states = [
            {"event": "pwritev", "state": number, "new_state": number + 1}
            for number in range(1, self._nth)
        ]
        self._machine.qmp(
            "blockdev-add",
            **{
                "driver": "blkdebug", "node-name": self._name, "image": self._below,
                "set-state": states, "inject-error": self._rules(),
            },
        )  # fmt: skip
        self._machine.qmp("qom-set", path=DEVICE, property="drive", value=self._name)

    def _rules(self) -> list[dict[str, object]]:
        rule: dict[str, object] = {
            "event": "pwritev", "state": self._nth, "iotype": "write", "errno": int(self._failure),
        }  # fmt: skip
        part = self._within
        if part is None:
            return [{**rule, "once": True}]
        sectors = range(part.start, part.start + part.count, _STRIDE)
        return [{**rule, "sector": sector} for sector in sectors]

    def lift(self) -> None:
        """Writes succeed; a machine that QEMU has stopped for want of space goes on."""
        if not self._machine.running or not self._name:
            return
        self._machine.qmp("qom-set", path=DEVICE, property="drive", value=self._below)
        self._machine.qmp("blockdev-del", node_name=self._name)
        self._name = ""
        status = self._machine.qmp("query-status")
        if isinstance(status, Mapping) and status.get("status") == "io-error":
            self._machine.qmp("cont")

    def look(self) -> tuple[int, str]:
        """BLOCK_IO_ERROR of QMP, or what the device counts."""
        events = self._machine.journal.events(self._since)
        said = [event for event in events if _is_write_error(event)]
        # QEMU tells of many errors in a row once.
        count = max(self.count, len(said))
        writes = 0
        if self._machine.running:
            stats = device_stats(self._machine)
            count = max(count, stats["failed_wr_operations"] - self._failed)
            writes = stats["wr_operations"] - self._writes
        if not count:
            return 0, f"{writes} writes passed, none failed"
        action = f", QEMU's action: {said[0].data['action']}" if said else ""
        return count, f"{count} writes failed{action}"


class _Throttled(Fault):
    """Requests pass at so many bytes a second."""

    def __init__(self, machine: Machine, what: str, rate: int) -> None:
        super().__init__(machine.journal, what)
        self._machine = machine
        self._rate = rate
        self._before = _Work(0, 0, 0)
        self._last = _Work(0, 0, 0)

    def arm(self) -> None:
        """Raises HarnessError where QEMU does not say that it does so."""
        self._before = self._last = _Work.of(self._machine)
        _throttle(self._machine, self._rate)

    def lift(self) -> None:
        """Let go of what waits."""
        if self._machine.running:
            _throttle(self._machine, 0)

    def _work(self) -> _Work:
        if self._machine.running:
            self._last = _Work.of(self._machine) - self._before
        return self._last


class SlowDisk(_Throttled):
    """A disk as slow as old cards and sticks are; it has fired once more than a burst has moved."""

    ability = Ability.SLOW_DISK

    def __init__(self, machine: Machine, bytes_per_second: int) -> None:
        super().__init__(machine, f"the disk has {bytes_per_second} B/s", bytes_per_second)

    def look(self) -> tuple[int, str]:
        """Requests, once so many bytes have come that some had to wait for a second."""
        work = self._work()
        text = f"{work.requests} requests of {work.bytes} bytes took {work.seconds:.1f} s together"
        return (work.requests if work.bytes > self._rate and work.seconds > 1 else 0), text


class HeldDisk(_Throttled):
    """A disk that does not answer, as a dying one does: one request may pass, and no other.

    What was held is known once it was let go of, so that it has fired by then at the latest.
    """

    ability = Ability.DISK_HELD

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, "the disk does not answer", 1)

    def look(self) -> tuple[int, str]:
        """Requests, where all together took longer than any disk that answers."""
        work = self._work()
        text = f"{work.requests} requests took {work.seconds:.1f} s together"
        return (work.requests if work.seconds > 1 else 0), text


@dataclass(frozen=True, slots=True)
class _Work:
    """What a device has done: requests and their bytes; ``nanoseconds`` is the sum of each's."""

    requests: int
    bytes: int
    nanoseconds: int

    @classmethod
    def of(cls, machine: Machine) -> _Work:
        stats = device_stats(machine)
        requests = stats["rd_operations"] + stats["wr_operations"] + stats["flush_operations"]
        spent = ("rd_total_time_ns", "wr_total_time_ns", "flush_total_time_ns")
        return cls(
            requests, stats["rd_bytes"] + stats["wr_bytes"], sum(stats[name] for name in spent)
        )

    def __sub__(self, other: _Work) -> _Work:
        return _Work(
            self.requests - other.requests,
            self.bytes - other.bytes,
            self.nanoseconds - other.nanoseconds,
        )

    @property
    def seconds(self) -> float:
        return self.nanoseconds / 1e9


def device_stats(machine: Machine, *names: str) -> dict[str, int]:
    """What QEMU has counted for the device of one of ``names``, by default for the boot disk's.

    Raises HarnessError where there is none.
    """
    found: Any = machine.qmp("query-blockstats")
    for entry in found:
        if entry.get("qdev") in (names or _HALVES):
            return {k: v for k, v in entry["stats"].items() if isinstance(v, int)}
    raise HarnessError(
        f"QEMU has no device {' or '.join(names or _HALVES)}: it counts nothing for it"
    )


def present_node(machine: Machine) -> str:
    """The block node that the boot disk's device has its contents from."""
    return str(machine.qmp("qom-get", path=DEVICE, property="drive"))


def _throttle(machine: Machine, rate: int) -> None:
    device = _HALVES[0] if machine.spec.disk_bus is DiskBus.VIRTIO else _HALVES[1]
    said = machine.monitor(f"block_set_io_throttle {device} {rate} 0 0 0 0 0")
    blocks = machine.monitor("info block")
    if said or ("I/O throttling" in blocks) != bool(rate):
        raise HarnessError(f"QEMU does not hold the disk's requests as asked: {said or blocks}")


def _is_write_error(event: Event) -> bool:
    return (
        event.source is Source.QMP
        and event.text == "BLOCK_IO_ERROR"
        and event.data.get("operation") == "write"
    )
