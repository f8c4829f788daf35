"""Faults that the guest itself shows: its side is played here, QEMU is real where it is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.commands.channel import CompletedCommand
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.faults import processor
from harness.faults.clock import ClockJump
from harness.faults.fault import NeverFiredError
from harness.faults.link import LinkDown
from harness.faults.memory import MemoryPressure
from harness.faults.processor import CpuStarvation, WatchdogStarvation
from harness.faults.stick import PulledStick, Stick
from harness.journal.journal import Journal, Source
from harness.qemu.machine import Machine

Answer = Callable[[list[str]], str | int]


def target(answer: Answer) -> Any:
    """A target whose guest answers commands so: with a text, or with another status than 0."""

    def execute(argv: list[str], deadline: Deadline, **_: object) -> CompletedCommand:
        said = answer(argv)
        status, text = (said, "") if isinstance(said, int) else (0, said)
        return CompletedCommand(tuple(argv), status, text.encode(), b"", 0.0)

    hog = SimpleNamespace(output=lambda: b"taken 400\n", wait=lambda deadline: None)
    channel = SimpleNamespace(
        up=True, exec=execute, put=lambda *_: None, start=lambda *_, **__: hog
    )
    return SimpleNamespace(
        journal=Journal(), running=True, channel=channel, deadline=Deadline.after, name="node"
    )


class Clock:
    """A guest's, which is set or cannot be."""

    def __init__(self, *, can_be_set: bool = True) -> None:
        self.can_be_set = can_be_set
        self.ahead = 0.0

    def __call__(self, argv: list[str]) -> str:
        if argv[2] == "-s":
            if self.can_be_set:
                self.ahead = float(argv[3][1:]) - time.time()
            return ""
        return f"{time.time() + self.ahead:.0f} shown\n"


@pytest.mark.parametrize("seconds", [86400.0, -86400.0])
def test_a_clock_jumps_and_is_set_right(seconds: float) -> None:
    clock = Clock()
    with ClockJump(target(clock), seconds) as fault:
        assert abs(clock.ahead - seconds) < 2
        assert fault.fired
    assert abs(clock.ahead) < 2


def test_a_clock_that_stays_did_not_jump() -> None:
    fault = ClockJump(target(Clock(can_be_set=False)), 3600)
    with pytest.raises(HarnessError, match="the guest's clock did not jump: it shows shown"):
        fault.arm()


def test_a_clock_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(HarnessError, match="cannot be read or set"):
        ClockJump(target(lambda argv: 1), 3600).arm()


def test_a_cable_that_no_guest_saw_go_is_an_error(machine: Machine) -> None:
    said = "link: the network cable is out never fired: no guest that takes commands has seen it"
    with pytest.raises(NeverFiredError, match=said), LinkDown(machine):
        pass
    nic = machine.monitor("info network")
    assert "link down" not in nic.lower()


def test_a_starved_machine_stands_still_and_goes_on(machine: Machine) -> None:
    with CpuStarvation(machine, 0.2, period=0.2) as fault:
        time.sleep(1)
        # QMP is answered in between.
        assert machine.qmp("query-status") == {"status": "running", "running": True}
    assert 3 <= fault.count <= 12
    assert machine.qmp("query-status") == {"status": "running", "running": True}


def test_a_starved_machine_can_lose_its_power(machine: Machine) -> None:
    with CpuStarvation(machine, 0.1, period=0.3) as fault:
        fault.wait_fired(Deadline.after(30))
        machine.power_cut()
    with pytest.raises(HarnessError, match="is off: it has no processors to lose"):
        CpuStarvation(machine, 0.5).arm()


def test_stops_that_the_kernel_does_not_confirm_are_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_stands_still", lambda pid: False)
    said = "cpu-starvation: the machine runs 50% of each 0.1 s never fired: it stood still 0 times"
    with pytest.raises(NeverFiredError, match=said), CpuStarvation(machine, 0.5, period=0.1):
        pass


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_of_all_or_nothing_is_no_starvation(machine: Machine, share: float) -> None:
    with pytest.raises(HarnessError, match="a machine cannot have"):
        CpuStarvation(machine, share)


def test_a_watchdog_that_was_fed_all_the_same_is_an_error() -> None:
    guest = target(lambda argv: "")
    said = "watchdog-starvation: nobody feeds the watchdog never fired: .* over 0 times"
    with pytest.raises(NeverFiredError, match=said), WatchdogStarvation(guest, ["stop"]):
        pass
    with WatchdogStarvation(guest, ["stop"]) as fault:
        guest.journal.append(Source.QMP, "event", "WATCHDOG", action="reset")
    assert fault.count == 1
    with pytest.raises(HarnessError, match="was not stopped"):
        WatchdogStarvation(target(lambda argv: 1), ["stop"]).arm()


def test_memory_that_was_not_taken_is_an_error() -> None:
    plenty = target(lambda argv: "MemAvailable: 400000 kB\noom_kill 0\n")
    said = "memory-pressure: 16 MiB of memory are left never fired: 390 MiB were left, 0 processes"
    with pytest.raises(NeverFiredError, match=said), MemoryPressure(plenty, 16):
        pass


def test_memory_is_short_where_the_guest_says_so() -> None:
    answers = iter(["400000 kB\noom_kill 1", "15000 kB\noom_kill 1"])
    short = target(lambda argv: f"MemAvailable: {next(answers, '14000 kB oom_kill 3')}\n")
    with MemoryPressure(short, 16) as fault:
        assert fault.fired
    assert (fault.count, fault.killed) == (1, 2)


def test_a_stick_that_nobody_read_was_not_in_use(machine: Machine, tmp_path: Path) -> None:
    image = tmp_path / "stick.img"
    image.write_bytes(bytes(1 << 20))
    stick = Stick(machine, image)
    machine.qmp("stop")
    stick.plug()
    said = "usb-hotplug: the USB stick stick.img is pulled out never fired: 0 bytes of it"
    with pytest.raises(NeverFiredError, match=said), PulledStick(stick):
        pass


def test_a_stick_that_was_read_is_pulled(tmp_path: Path) -> None:
    pulled = []
    stick = SimpleNamespace(
        bytes_read=4096, pull=lambda: pulled.append(True), machine=target(lambda argv: "")
    )
    with PulledStick(cast("Stick", stick)) as fault:
        assert pulled == [True]
    assert fault.count == 4096
