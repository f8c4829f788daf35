"""Faults of the disk, met by requests that QEMU itself makes through the disk's device."""

from __future__ import annotations

import subprocess
import time

import pytest

from harness.errors import HarnessError
from harness.faults.cache import LyingCache
from harness.faults.disk import DEVICE, Failure, HeldDisk, Sectors, SlowDisk, WriteErrors
from harness.faults.fault import NeverFiredError
from harness.faults.twin import SecondDisk
from harness.qemu.argv import Storage
from harness.qemu.machine import Machine

KIB, MIB = 1 << 10, 1 << 20


def ask(machine: Machine, command: str) -> None:
    """A request through the disk's device, answered or not."""
    machine.monitor(f'qemu-io -d {DEVICE}/virtio-backend "aio_{command}"')


def on_disk(machine: Machine, *offsets: int) -> list[int]:
    """The bytes that a machine's disk has at these offsets; the machine is off."""
    raw = machine.artefacts / "raw"
    disk = str(machine.storage.disk)
    tools = machine.host.tools
    subprocess.run(tools.argv("qemu-img", "convert", "-O", "raw", disk, str(raw)), check=True)
    with raw.open("rb") as stream:
        found = []
        for offset in offsets:
            stream.seek(offset)
            found.append(stream.read(1)[0])
    return found


@pytest.mark.parametrize("failure", list(Failure))
def test_the_nth_write_fails_and_no_other(machine: Machine, failure: Failure) -> None:
    with WriteErrors(machine, failure, nth=3) as fault:
        for number in range(1, 6):
            ask(machine, f"write -P {number} {number * 64}k 4k")
            machine.monitor(f'qemu-io -d {DEVICE}/virtio-backend "aio_flush"')
            assert fault.fired is (number >= 3)
        assert fault.evidence == "1 writes failed"
    machine.quit()
    found = on_disk(machine, *(number * 64 * KIB for number in range(1, 6)))
    assert found == [1, 2, 0, 4, 5]


def test_writes_fail_in_their_part_of_the_disk_until_they_are_let(machine: Machine) -> None:
    part = Sectors(16 * MIB // 512, 16 * MIB // 512)
    with WriteErrors(machine, nth=2, within=part) as fault:
        ask(machine, "write 16M 128k")  # the first of all
        ask(machine, "write 1M 128k")
        assert not fault.fired
        ask(machine, "write 20M 128k")
        ask(machine, "write 40M 128k")
        ask(machine, f"write {31 * MIB + 17 * KIB} 128k")
        ask(machine, "flush")
        assert fault.fired
    assert fault.count == 2
    ask(machine, "write 20M 128k")
    ask(machine, "flush")
    assert fault.look() == (2, "2 writes failed")


def test_a_write_error_that_nothing_met_is_an_error(machine: Machine) -> None:
    fault = WriteErrors(machine, nth=2)
    said = "disk-errors: EIO of write 2 never fired: 1 writes passed, none failed"
    with pytest.raises(NeverFiredError, match=said), fault:
        ask(machine, "write 0 4k")


def test_there_is_no_write_before_the_first(machine: Machine) -> None:
    with pytest.raises(HarnessError, match="there is no write 0"):
        WriteErrors(machine, nth=0)


def test_a_slow_disk_delays(machine: Machine) -> None:
    begun = time.monotonic()
    with SlowDisk(machine, 512 * KIB) as fault:
        for number in range(8):
            ask(machine, f"write {number}M 128k")
        ask(machine, "flush")
        fault.wait_fired(machine.deadline(60))
    assert time.monotonic() - begun > 0.9


def test_a_disk_that_nobody_asks_was_not_slow(machine: Machine) -> None:
    slow, held = SlowDisk(machine, 1000), HeldDisk(machine)
    with pytest.raises(NeverFiredError, match="slow-disk: the disk has 1000 B/s never fired"), slow:
        pass
    with pytest.raises(NeverFiredError, match="disk-held: the disk does not answer never"), held:
        pass


def test_a_disk_that_is_held_answers_once_it_is_let_go_of(machine: Machine) -> None:
    with HeldDisk(machine) as fault:
        for number in range(4):
            ask(machine, f"write {number}M 64k")
        # What is held shows as time: longer than any disk that answers takes.
        time.sleep(1.5)
    assert fault.count >= 3


def test_a_lying_cache_loses_what_it_acknowledged_and_keeps_the_rest(machine: Machine) -> None:
    ask(machine, "write -P 1 1M 64k")
    ask(machine, "flush")
    with LyingCache(machine) as fault:
        ask(machine, "write -P 2 1M 64k")
        ask(machine, "write -P 2 4M 64k")
        ask(machine, "flush")
        time.sleep(0.5)
        fault.tell_truth()
        ask(machine, "write -P 3 8M 64k")
        ask(machine, "flush")
        time.sleep(0.5)
        machine.power_cut()
    assert fault.count >= 128 * KIB
    assert on_disk(machine, MIB, 4 * MIB, 8 * MIB) == [1, 0, 3]
    machine.power_on()


def test_a_cache_whose_lie_nobody_saw_is_an_error(machine: Machine) -> None:
    with pytest.raises(HarnessError, match="there was none"), LyingCache(machine):
        pass


def test_a_cache_that_had_nothing_to_lose_is_an_error(machine: Machine) -> None:
    fault = LyingCache(machine)

    def cut() -> None:
        with fault:
            fault.tell_truth()
            machine.power_cut()

    with pytest.raises(NeverFiredError, match=r"lying-cache: .*: 0 bytes are lost after 0"):
        cut()


def test_a_second_disk_that_nobody_reads_is_an_error(machine: Machine) -> None:
    """The firmware looks for disks before it is there."""
    machine.qmp("stop")
    fault = SecondDisk(machine)
    said = "second-disk: .* never fired: it was read 0 times and written 0 times"
    with pytest.raises(NeverFiredError, match=said), fault:
        machine.qmp("stop")


def test_what_is_written_to_a_second_disk_is_not_on_the_first(machine: Machine) -> None:
    ask(machine, "write -P 7 2M 64k")
    fault = SecondDisk(machine)
    fault.arm()
    machine.monitor(f'qemu-io {fault.node} "write -P 9 2M 64k"')
    machine.quit()
    copy = machine.process.directory / f"{fault.name}-copy.qcow2"
    assert on_disk(machine, 2 * MIB) == [7]
    machine.storage = Storage(copy, None)
    assert on_disk(machine, 2 * MIB) == [7]
