"""The model of the Pi's firmware against what is documented and reported of it."""

from __future__ import annotations

import pytest

from scenarios.firmware.raspberry import (
    FatKind,
    RaspberryFirmware,
    Traits,
    UnbootableError,
    Volume,
)

AUTOBOOT = b"[all]\ntryboot_a_b=1\nboot_partition=5\n[tryboot]\nboot_partition=6\n"
SYSTEM = {"config.txt": b"", "start4.elf": None}


def card(autoboot: bytes | None = AUTOBOOT, **first: bytes) -> dict[int, Volume]:
    files: dict[str, bytes | None] = {**first}
    if autoboot is not None:
        files["autoboot.txt"] = autoboot
    return {1: Volume(files), 5: Volume(SYSTEM), 6: Volume(SYSTEM)}


def test_the_default_partition_boots() -> None:
    boot = RaspberryFirmware().boot(card())
    assert (boot.partition, boot.tryboot, boot.config) == (5, False, "config.txt")
    assert boot.nodes == {"partition": 5, "tryboot": 0}


def test_the_flag_counts_once() -> None:
    firmware = RaspberryFirmware()
    firmware.restart("0 tryboot")
    assert firmware.boot(card()).nodes == {"partition": 6, "tryboot": 1}
    assert firmware.boot(card()).nodes == {"partition": 5, "tryboot": 0}


def test_the_flag_is_cleared_though_the_boot_fails() -> None:
    firmware = RaspberryFirmware()
    broken = {**card(), 6: Volume({})}
    firmware.restart("0 tryboot")
    with pytest.raises(UnbootableError, match="partition 6"):
        firmware.boot(broken)
    assert firmware.boot(broken).partition == 5


def test_a_power_cut_loses_the_flag() -> None:
    firmware = RaspberryFirmware()
    firmware.restart("0 tryboot")
    firmware.power_cut()
    assert firmware.boot(card()).partition == 5


def test_a_plain_restart_sets_no_flag() -> None:
    firmware = RaspberryFirmware()
    firmware.restart("")
    assert firmware.boot(card()).partition == 5


def test_a_partition_that_the_restart_names_goes_before_the_file() -> None:
    firmware = RaspberryFirmware()
    firmware.restart("6")
    boot = firmware.boot(card())
    assert (boot.partition, boot.tryboot) == (6, False)
    assert firmware.boot(card()).partition == 5, "it was asked for once"


@pytest.mark.parametrize("left", [32, 63])
def test_what_a_reset_leaves_in_the_register_is_ignored(left: int) -> None:
    firmware = RaspberryFirmware()
    firmware.watchdog_reset(left)
    assert firmware.boot(card()).partition == 5


def test_a_partition_up_to_31_is_not() -> None:
    firmware = RaspberryFirmware()
    firmware.watchdog_reset(31)
    with pytest.raises(UnbootableError, match="the reset names partition 31"):
        firmware.boot(card())


@pytest.mark.parametrize("autoboot", [None, b"", b"\0" * 480, b"\xff" * 512])
def test_without_a_readable_file_the_first_bootable_partition_boots(
    autoboot: bytes | None,
) -> None:
    assert RaspberryFirmware().boot(card(autoboot)).partition == 5


def test_the_file_is_read_from_the_first_fat_alone() -> None:
    both = card()
    both[5] = Volume({**SYSTEM, "autoboot.txt": b"boot_partition=6"})
    assert RaspberryFirmware().boot(both).partition == 5


def test_an_unbootable_default_stops_unless_the_firmware_walks() -> None:
    empty = {**card(), 5: Volume({})}
    with pytest.raises(UnbootableError, match=r"bootable are \[6\]"):
        RaspberryFirmware().boot(empty)
    assert RaspberryFirmware(Traits(walks=True)).boot(empty).partition == 6


def test_nothing_to_boot() -> None:
    with pytest.raises(UnbootableError, match=r"no FAT of the card has config.txt"):
        RaspberryFirmware().boot({1: Volume({})})


def test_a_pi_4_wants_its_firmware_on_the_partition() -> None:
    pi4 = RaspberryFirmware(Traits(needs="start4.elf"))
    assert pi4.boot(card()).partition == 5
    with pytest.raises(UnbootableError, match=r"start4.elf"):
        pi4.boot({**card(), 5: Volume({"config.txt": b""})})


@pytest.mark.parametrize(("clusters", "boots"), [(65524, False), (65525, True)])
def test_a_small_fat32_is_taken_for_another_kind(clusters: int, boots: bool) -> None:
    small = {**card(), 5: Volume(SYSTEM, FatKind.FAT32, clusters)}
    if boots:
        assert RaspberryFirmware().boot(small).partition == 5
    else:
        with pytest.raises(UnbootableError):
            RaspberryFirmware().boot(small)
    fat16 = {**card(), 5: Volume(SYSTEM, FatKind.FAT16, 4000)}
    assert RaspberryFirmware().boot(fat16).partition == 5


def test_a_first_fat_that_is_too_small_hides_the_file() -> None:
    hidden = {**card(), 1: Volume({"autoboot.txt": b"boot_partition=6"}, clusters=65524)}
    assert RaspberryFirmware().boot(hidden).partition == 5


def test_without_a_b_the_flag_is_a_matter_of_files() -> None:
    firmware = RaspberryFirmware()
    files = b"boot_partition=5\n"
    firmware.restart("0 tryboot")
    with pytest.raises(UnbootableError, match=r"tryboot.txt"):
        firmware.boot(card(files))
    firmware.restart("0 tryboot")
    has = {**card(files), 5: Volume({**SYSTEM, "tryboot.txt": b""})}
    boot = firmware.boot(has)
    assert (boot.partition, boot.config) == (5, "tryboot.txt")


def test_firmware_that_does_not_know_the_flag_boots_the_default() -> None:
    old = RaspberryFirmware(Traits(knows_tryboot=False))
    old.restart("0 tryboot")
    assert old.boot(card()).nodes == {"partition": 5, "tryboot": 0}


def test_firmware_that_tells_nothing() -> None:
    assert RaspberryFirmware(Traits(tells=False)).boot(card()).nodes == {}
