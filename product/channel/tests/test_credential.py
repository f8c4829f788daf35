"""The channel exists only where the machine's owner asked for it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from product.channel.credential import oem_strings, offered, offered_line


def structure(kind: int, *strings: bytes, formatted: bytes = b"\1") -> bytes:
    head = struct.pack("<BBH", kind, 4 + len(formatted), 0) + formatted
    return head + (b"".join(text + b"\0" for text in strings) or b"\0") + b"\0"


BIOS = structure(0, b"EDK II", b"1.0", formatted=bytes(20))
END = structure(127, formatted=b"")
OFFER = b"io.kubesolo.channel=virtio"


def test_only_strings_of_type_11_are_read() -> None:
    table = BIOS + structure(1, OFFER) + structure(11, b"a", b"b") + structure(11, b"c") + END
    assert oem_strings(table) == [b"a", b"b", b"c"]


def test_nothing_is_read_after_the_end_of_the_table() -> None:
    assert oem_strings(BIOS + END + structure(11, OFFER)) == []


@pytest.mark.parametrize("cut", range(40))
def test_a_truncated_table_is_no_error(cut: int) -> None:
    table = BIOS + structure(11, b"a")
    assert oem_strings(table[: len(table) - cut]) in ([b"a"], [])


def test_a_structure_without_strings_is_skipped() -> None:
    assert oem_strings(structure(16, formatted=bytes(11)) + structure(11, OFFER)) == [OFFER]


def node(root: Path, table: bytes | None, cmdline: str) -> str:
    if table is not None:
        (root / "sys/firmware/dmi/tables").mkdir(parents=True)
        (root / "sys/firmware/dmi/tables/DMI").write_bytes(table)
    (root / "proc").mkdir()
    (root / "proc/cmdline").write_text(cmdline)
    return f"{root}/"


@pytest.mark.parametrize(
    ("table", "cmdline", "expected"),
    [
        (BIOS + structure(11, OFFER) + END, "quiet\n", True),
        (BIOS + structure(11, OFFER + b"x") + END, "quiet\n", False),
        (BIOS + structure(11, b"io.kubesolo.channel=") + END, "quiet\n", False),
        (BIOS + END, "quiet\n", False),
        (None, "quiet\n", False),
        (None, "quiet kubesolo.debug\n", True),
        (None, "kubesolo.debug=1 quiet\n", True),
        (None, "kubesolo.debug=0 quiet\n", False),
        (None, "kubesolo.debugger quiet\n", False),
    ],
)
def test_who_is_offered_the_channel(
    tmp_path: Path, table: bytes | None, cmdline: str, expected: bool
) -> None:
    assert offered(node(tmp_path, table, cmdline)) is expected


def test_a_machine_that_tells_nothing_is_offered_nothing(tmp_path: Path) -> None:
    assert not offered(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (b"ttyAMA0\0", "ttyAMA0"),
        (b"ttyS1\0", "ttyS1"),
        (b"", None),
        (b"\0", None),
        (b"ttyS1", None),
        (b"ttyS1\0ttyS2\0", None),
        (b"../etc/shadow\0", None),
        (b"tty\0", None),
        (b"console\0", None),
        (b"t" * 100_000, None),
    ],
)
def test_a_device_tree_offers_a_serial_line(tmp_path: Path, value: bytes, line: str | None) -> None:
    root = node(tmp_path, None, "quiet\n")
    chosen = tmp_path / "proc/device-tree/chosen"
    chosen.mkdir(parents=True)
    (chosen / "kubesolo,channel").write_bytes(value)
    assert offered_line(root) == (f"{root}dev/{line}" if line else None)
    assert offered(root) is (line is not None)
