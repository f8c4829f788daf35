"""``autoboot.txt``: how the firmware of a Raspberry Pi chooses the partition that it boots.

The firmware reads the file from the first FAT partition, at most 512 bytes of it. It has the format
of config.txt: ``property=value`` lines, filters in brackets, and lines that begin with ``#``, which
the firmware passes over. Ours carries the boot contract's variables in such a line::

    [all]
    tryboot_a_b=1
    boot_partition=5
    [tryboot]
    boot_partition=6
    # kubesolo active_slot=B boot_counter=3 boot_success=0 tried=0
    # kubesolo trial=B-0123456789abcdef-01234567

So what the firmware does and what the node knows of it lie in one sector, and change by one write.
Source: the pages "autoboot.txt", "config.txt" and "conditional filters" of Raspberry Pi's
documentation. Early boot reads the comment lines, too: images/boot/init.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

NAME = "autoboot.txt"
# What the firmware reads of it, which is a sector: a disk writes that whole or not at all.
MAX_BYTES = 512
# The size of ours, always the same: a write in place changes no entry of the FAT's directory.
FILE_BYTES = 480
# What the firmware reads of a line; releases before 2021 read 78 characters.
LINE_LIMIT, OLD_LINE_LIMIT = 98, 78
# A partition's number that the firmware takes; what is larger asks for none.
MAX_PARTITION = 31
# The boot partitions of the slots: entries of the partition table.
PARTITIONS = {"A": 5, "B": 6}
LABELS = {"A": "KSOLOBOOTA", "B": "KSOLOBOOTB"}
_MARK = "# kubesolo "
_WORD = re.compile(r"([a-z_]{1,32})=([A-Za-z0-9._-]{0,64})")


class Choice(NamedTuple):
    """What autoboot.txt says: the partition, 0 for the first that boots; ``a_b``: also a tryboot
    reads the partition's config.txt, in place of its tryboot.txt."""

    partition: int = 0
    a_b: bool = False


def choose(data: bytes, *, tryboot: bool, partition: int = 0) -> Choice:
    """What the firmware takes from the file, booted with the flag ``tryboot`` or without it.

    ``partition`` is the one that the reset asked for, which the filter ``[partition=N]`` looks at.
    A later assignment replaces an earlier one. What the firmware does not know it passes over.
    """
    number, a_b = 0, False
    filters: dict[str, bool] = {}
    for raw in data[:MAX_BYTES].decode("latin-1").split("\n"):
        line = raw.rstrip("\r")[:LINE_LIMIT].strip(" \t")
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            _filter(line, filters, tryboot, partition)
            continue
        name, _, value = line.partition("=")
        if not all(filters.values()) or not re.fullmatch(r"[0-9]{1,9}", value):
            continue
        if name == "boot_partition":
            number = int(value)
        elif name == "tryboot_a_b":
            a_b = int(value) == 1
    return Choice(number, a_b)


def _filter(line: str, filters: dict[str, bool], tryboot: bool, partition: int) -> None:
    """Filters of one kind replace each other, those of different kinds must all pass."""
    word = line[1:].partition("]")[0]
    if word == "all":
        filters.clear()
    elif word == "tryboot":
        filters["tryboot"] = tryboot
    elif found := re.fullmatch(r"partition=([0-9]{1,9})", word):
        filters["partition"] = int(found[1]) == partition
    else:
        # [none], and the models, serial numbers and the like that no autoboot.txt knows.
        filters["none"] = False


class Content(NamedTuple):
    """Ours: the slot that boots by default, the one that a tryboot boots, and the variables."""

    default: str
    tryboot: str
    variables: Mapping[str, str]


def format_autoboot(content: Content) -> bytes:
    """The file. Raises ValueError where it would take more than FILE_BYTES."""
    lines = [
        "[all]",
        "tryboot_a_b=1",
        f"boot_partition={PARTITIONS[content.default]}",
        "[tryboot]",
        f"boot_partition={PARTITIONS[content.tryboot]}",
        "[all]",
    ]
    line = _MARK.rstrip()
    for name, value in content.variables.items():
        word = f"{name}={value}"
        if not _WORD.fullmatch(word):
            raise ValueError(f"{name}={value!r} cannot stand in {NAME}")
        if len(line) + 1 + len(word) > OLD_LINE_LIMIT:
            lines.append(line)
            line = _MARK.rstrip()
        line += f" {word}"
    data = "\n".join([*lines, line, ""]).encode()
    if len(data) > FILE_BYTES:
        raise ValueError(f"{NAME} would take {len(data)} bytes, ours has {FILE_BYTES}")
    return data.ljust(FILE_BYTES, b"\n")


def parse_autoboot(data: bytes) -> Content:
    """What we wrote. Raises ValueError that says why it is not."""
    if not data.strip(b"\0"):
        raise ValueError("it is empty")
    by_number = {number: slot for slot, number in PARTITIONS.items()}
    found = [choose(data, tryboot=flag) for flag in (False, True)]
    slots = [by_number.get(choice.partition) for choice in found]
    if slots[0] is None or slots[1] is None:
        numbers = " and ".join(str(choice.partition) for choice in found)
        raise ValueError(f"it boots the partitions {numbers}, which are no slots'")
    if not found[1].a_b:
        raise ValueError("it lacks tryboot_a_b=1")
    variables: dict[str, str] = {}
    for line in data[:MAX_BYTES].decode("latin-1").split("\n"):
        if line.startswith(_MARK):
            variables.update(_WORD.findall(line.rstrip("\r")[len(_MARK) :]))
    return Content(slots[0], slots[1], variables)


def parse_reboot(argument: str) -> tuple[int, bool]:
    """What the firmware is asked for by the argument of reboot(2), such as ``0 tryboot``: the
    partition, 0 for autoboot.txt's, and whether the flag is set."""
    words = argument.split()
    number = int(words[0]) if words and re.fullmatch(r"[0-9]{1,9}", words[0]) else 0
    return number, "tryboot" in words[1:]
