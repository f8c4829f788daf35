"""autoboot.txt: which partition the firmware is told to boot, and who counts the tries."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from product.agent.bootloader.protocol import BootEnvError, Environment
from product.agent.bootloader.tests.loaders import Tryboot
from product.agent.bootloader.tryboot import (
    Reading,
    Step,
    contradiction,
    read_firmware,
)
from product.disk.autoboot import PARTITIONS, choose


@pytest.fixture
def loader(tmp_path: Path) -> Tryboot:
    found = Tryboot(tmp_path)
    found.put("A", "3", "1")
    return found


def partitions(loader: Tryboot) -> tuple[int, int]:
    """What the firmware boots without its flag, and with it."""
    data = loader.path.read_bytes()
    assert choose(data, tryboot=True).a_b
    return choose(data, tryboot=False).partition, choose(data, tryboot=True).partition


def test_until_the_commit_the_default_is_the_known_good_slot(loader: Tryboot) -> None:
    assert partitions(loader) == (5, 5), "a flag that somebody set leads nowhere new"
    loader.env.arm("B", "t")
    assert partitions(loader) == (5, 6)
    loader.env.commit("B")
    assert partitions(loader) == (6, 6)
    loader.env.force_rollback("A")
    assert partitions(loader) == (5, 5)


def test_a_planned_restart_spends_a_try_before_it_sets_the_flag(loader: Tryboot) -> None:
    loader.env.arm("B", "t")
    assert [loader.env.spend_try() for _ in range(5)] == [True, True, True, False, False]
    assert loader.env.read().boot_counter == 0
    assert partitions(loader) == (5, 6)


def test_a_restart_of_a_confirmed_system_sets_no_flag_and_writes_nothing(
    loader: Tryboot,
) -> None:
    before = loader.path.read_bytes()
    loader.path.chmod(0o444)
    assert not loader.env.spend_try()
    assert loader.env.settle("A") is Step.GO_ON
    assert loader.path.read_bytes() == before


def test_a_try_that_cannot_be_counted_is_not_made(
    loader: Tryboot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    loader.env.arm("B", "t")
    monkeypatch.setattr("os.pwrite", fail)
    with pytest.raises(BootEnvError, match="Input/output"):
        loader.env.spend_try()
    with pytest.raises(BootEnvError, match="Input/output"):
        loader.env.settle("A")


def test_the_known_good_slot_tries_until_none_is_left(loader: Tryboot) -> None:
    loader.put("B", "2", "0", trial="t")
    assert [loader.env.settle("A") for _ in range(3)] == [Step.TRY, Step.TRY, Step.GO_ON]
    assert loader.env.read() == Environment("A", 0, True, "t")
    assert partitions(loader) == (5, 5)


def test_the_slot_on_trial_counts_nothing_of_its_own_boot(loader: Tryboot) -> None:
    loader.put("B", "2", "0", trial="t")
    before = loader.path.read_bytes()
    assert loader.env.settle("B") is Step.GO_ON
    assert loader.path.read_bytes() == before


def test_a_slot_that_was_never_seen_was_not_tried(loader: Tryboot) -> None:
    loader.env.arm("B", "t")
    assert [loader.env.settle("A") for _ in range(4)] == [Step.TRY] * 3 + [Step.GO_ON]
    assert loader.env.read() == Environment("A", 0, True, "t", untried=True)
    loader.put("B", "0", "0", trial="t", tried="1")
    loader.env.settle("A")
    assert loader.env.read() == Environment("A", 0, True, "t")


def test_a_slot_that_was_given_the_default_counts_its_boots(loader: Tryboot) -> None:
    """As early boot leaves it where the confirmed slot cannot be started."""
    loader.path.write_bytes(
        b"[all]\ntryboot_a_b=1\nboot_partition=6\n[tryboot]\nboot_partition=6\n[all]\n"
        b"# kubesolo active_slot=B boot_counter=3 boot_success=0 tried=1 rescued=A\n".ljust(
            480, b"\n"
        )
    )
    assert not loader.env.spend_try()
    steps = [loader.env.settle("B") for _ in range(4)]
    assert steps == [Step.GO_ON, Step.GO_ON, Step.GO_ON, Step.LEAVE]
    assert partitions(loader) == (5, 5)


def test_the_firmware_goes_before_the_variables(loader: Tryboot) -> None:
    """Somebody turned the partitions round by hand: which slot is confirmed is not known."""
    loader.put("A", "3", "1")
    text = loader.path.read_bytes()
    loader.path.write_bytes(text.replace(b"boot_partition=5", b"boot_partition=6"))
    found = loader.env.read()
    assert not found.valid
    assert "says that slot A is active, and tries B" in found.problems[0]
    loader.path.write_bytes(text.replace(b"boot_partition=5", b"boot_partition=6", 1))
    assert "confirmed, and boots B" in loader.env.read().problems[0]


def nodes(base: Path, **values: bytes) -> str:
    folder = base / "device-tree/chosen/bootloader"
    folder.mkdir(parents=True)
    for name, data in values.items():
        (folder / name).write_bytes(data)
    return str(base)


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def test_what_the_firmware_says(tmp_path: Path) -> None:
    assert read_firmware(str(tmp_path)) == Reading(None, None)
    proc = nodes(tmp_path / "a", partition=number(6), tryboot=number(1))
    assert read_firmware(proc) == Reading(6, 1)
    assert read_firmware(nodes(tmp_path / "b", partition=b"6", tryboot=b"")) == Reading(None, None)


@pytest.mark.parametrize("said", [None, 0, 5, 2, 32, 63])
def test_a_number_that_names_no_slot_is_no_contradiction(said: int | None) -> None:
    assert contradiction(Reading(said, None), "A", PARTITIONS) is None


def test_the_other_slots_number_is_one() -> None:
    problem = contradiction(Reading(6, 1), "A", PARTITIONS)
    assert problem == "the firmware says that it booted partition 6, and slot A runs"
