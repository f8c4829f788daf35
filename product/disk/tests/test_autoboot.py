"""autoboot.txt as the firmware reads it, and as we write it."""

from __future__ import annotations

import pytest

from product.disk.autoboot import (
    FILE_BYTES,
    LINE_LIMIT,
    MAX_BYTES,
    OLD_LINE_LIMIT,
    Choice,
    Content,
    choose,
    format_autoboot,
    parse_autoboot,
    parse_reboot,
)

DOCUMENTED = b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"


def both(data: bytes) -> tuple[int, int]:
    return choose(data, tryboot=False).partition, choose(data, tryboot=True).partition


def test_the_documented_example() -> None:
    assert choose(DOCUMENTED, tryboot=False) == Choice(2, True)
    assert choose(DOCUMENTED, tryboot=True) == Choice(3, True)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", (0, 0)),
        ("boot_partition=2", (2, 2)),
        ("boot_partition=2\nboot_partition=3", (3, 3)),
        ("[tryboot]\nboot_partition=3\n[all]\nboot_partition=2", (2, 2)),
        ("[tryboot]\nboot_partition=3", (0, 3)),
        ("[none]\nboot_partition=2", (0, 0)),
        ("[none]\nboot_partition=2\n[all]\nboot_partition=3", (3, 3)),
        ("[none]\n[tryboot]\nboot_partition=3", (0, 0)),
        ("[pi4]\nboot_partition=3\n[all]", (0, 0)),
        ("boot_partition=2\r\n[tryboot]\r\nboot_partition=3\r\n", (2, 3)),
        ("#boot_partition=2\n # boot_partition=3", (0, 0)),
        ("# kubesolo boot_partition=9", (0, 0)),
        ("boot_partition=2 # the first", (0, 0)),
        ("boot_partition = 2", (0, 0)),
        ("boot_partition=two\nboot_partition=", (0, 0)),
        (" boot_partition=2", (2, 2)),
        ("BOOT_PARTITION=2", (0, 0)),
    ],
)
def test_filters_and_lines(text: str, numbers: tuple[int, int]) -> None:
    assert both(text.encode()) == numbers


def test_the_filter_of_the_requested_partition() -> None:
    data = b"boot_partition=2\n[partition=4]\nboot_partition=3\n"
    assert choose(data, tryboot=False).partition == 2
    assert choose(data, tryboot=False, partition=4).partition == 3


def test_nothing_beyond_512_bytes_is_read() -> None:
    line = b"boot_partition=2\n"
    assert both(b"\n" * (MAX_BYTES - len(line)) + line) == (2, 2)
    # The value's last digit, and the line end, lie beyond.
    assert both(b"\n" * (MAX_BYTES - len(line) + 2) + b"boot_partition=27\n") == (0, 0)
    assert both(b"boot_partition=2\n".ljust(MAX_BYTES, b"\n") + b"boot_partition=3\n") == (2, 2)


def test_nothing_beyond_98_characters_of_a_line_is_read() -> None:
    assert both(b"boot_partition=" + b"0" * 80 + b"123") == (0, 0)
    assert LINE_LIMIT == 98


@pytest.mark.parametrize("data", [b"\0" * 512, b"\xff" * 512, bytes(range(256)) * 2, b"["])
def test_garbage_chooses_nothing(data: bytes) -> None:
    assert choose(data, tryboot=True) == Choice()
    with pytest.raises(ValueError, match=r"partitions 0 and 0|is empty"):
        parse_autoboot(data)


VARIABLES = {
    "active_slot": "B",
    "boot_counter": "3",
    "boot_success": "0",
    "tried": "0",
    "trial": "B-0123456789abcdef-01234567",
    "rescued": "A",
}


def test_what_we_write_is_what_both_read() -> None:
    content = Content("A", "B", VARIABLES)
    data = format_autoboot(content)
    assert both(data) == (5, 6)
    assert parse_autoboot(data) == content


def test_ours_has_one_size_and_lines_that_old_firmware_reads_whole() -> None:
    data = format_autoboot(Content("A", "B", VARIABLES))
    assert len(data) == FILE_BYTES < MAX_BYTES
    assert max(map(len, data.splitlines())) <= OLD_LINE_LIMIT
    assert len(format_autoboot(Content("A", "A", {}))) == FILE_BYTES


def test_what_does_not_fit_is_refused() -> None:
    many = {f"v{'x' * n}": "y" * 60 for n in range(1, 9)}
    with pytest.raises(ValueError, match="would take"):
        format_autoboot(Content("A", "B", many))
    with pytest.raises(ValueError, match="cannot stand"):
        format_autoboot(Content("A", "B", {"trial": "a b"}))


def test_another_systems_file_is_not_ours() -> None:
    with pytest.raises(ValueError, match="partitions 2 and 3"):
        parse_autoboot(DOCUMENTED)
    with pytest.raises(ValueError, match="lacks tryboot_a_b"):
        parse_autoboot(b"boot_partition=5\n[tryboot]\nboot_partition=6\n")


@pytest.mark.parametrize(
    ("argument", "asked"),
    [
        ("0 tryboot", (0, True)),
        ("", (0, False)),
        ("tryboot", (0, False)),
        ("3", (3, False)),
        ("6 tryboot", (6, True)),
        ("63", (63, False)),
        ("bootloader", (0, False)),
    ],
)
def test_what_reboot_asks_for(argument: str, asked: tuple[int, bool]) -> None:
    assert parse_reboot(argument) == asked
