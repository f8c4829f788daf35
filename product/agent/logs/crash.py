"""Taking what the firmware kept of failed boots out of its memory, into ``/var/log/crash``.

The kernel's pstore shows each record as a file: ``dmesg-BACKEND-ID``, whose first line is
``Panic#1 Part3``; part 1 is the latest text. UEFI has room for little, so a record is removed once
its text is on the disk, and never before.
"""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

from product.agent.logs.boots import list_boots
from product.agent.system.clock import timestamp
from product.agent.system.files import write_atomic
from product.agent.system.paths import Paths

# Files that are kept; each has some 20 kB.
KEPT = 20
_RECORD = re.compile(r"dmesg-(.+)-(\d+)(\.enc\.z)?")
_HEAD = re.compile(rb"([A-Za-z]+)#(\d+) Part(\d+)\n")


class _Part(NamedTuple):
    # In the order in which the parts of all dumps were written: its second (of UEFI's records), its
    # number, the count of its dump in that boot.
    second: int
    number: int
    nth: int
    path: str
    reason: str
    text: bytes
    time: float


def collect(paths: Paths) -> list[str]:
    """Write a file for each dump, remove its records; the files. Raises OSError."""
    if not os.path.isdir(f"{paths.logs}/crash"):
        # In memory they would be lost: the firmware keeps them.
        return []
    found_by = list_boots(paths)[-1].number
    parts = [
        part
        for name in os.listdir(paths.pstore)
        if (part := _read(f"{paths.pstore}/{name}", name)) is not None
    ]
    written = []
    for count, dump in enumerate(_dumps(sorted(parts)), 1):
        name = f"{found_by:08d}-{count}.txt"
        write_atomic(f"{paths.logs}/crash/{name}", _join(dump, found_by))
        written.append(f"{paths.own_logs}/crash/{name}")
        for part in dump:
            os.unlink(part.path)
    _bound(f"{paths.logs}/crash")
    return written


def _read(path: str, name: str) -> _Part | None:
    match = _RECORD.fullmatch(name)
    if match is None:
        return None
    with open(path, "rb") as file:
        data = file.read(1 << 20)
    seen = os.stat(path).st_mtime
    identity = int(match[2])
    second, number, count = identity // 100_000, identity // 1000 % 100, identity % 1000
    head = _HEAD.match(data)
    if match[3]:
        text = b"[a part that cannot be unpacked]\n"
        return _Part(second, number, count, path, "unknown", text, seen)
    if head is None:
        return _Part(second, number, count, path, "unknown", data, seen)
    text = data[head.end() :]
    return _Part(second, int(head[3]), int(head[2]), path, head[1].decode(), text, seen)


def _dumps(parts: list[_Part]) -> list[list[_Part]]:
    """The parts of each dump: their numbers rise while it is written, over some seconds."""
    dumps: list[list[_Part]] = []
    for part in parts:
        last = dumps[-1][-1] if dumps else None
        if last is None or part.number <= last.number or part.nth != last.nth:
            dumps.append([])
        dumps[-1].append(part)
    return dumps


def _join(parts: list[_Part], found_by: int) -> bytes:
    parts = sorted(parts, key=lambda part: -part.number)
    first = parts[-1]
    head = (
        f"# {first.reason}: the last of the kernel's log of a boot before boot {found_by}, "
        f"kept by the firmware at {timestamp(first.time)} of its clock\n"
    )
    body = b"".join(part.text if part.text.endswith(b"\n") else part.text + b"\n" for part in parts)
    return head.encode() + body


def _bound(folder: str) -> None:
    """Names sort by boot; the oldest make room."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".txt"))
    for name in names[: max(len(names) - KEPT, 0)]:
        os.unlink(f"{folder}/{name}")


def main(paths: Paths | None = None) -> int:
    """What stage 22 runs: a line for the console for each file."""
    try:
        for path in collect(paths or Paths()):
            print(f"the last console of a failed boot: {path}")
    except OSError as error:
        print(f"{error.filename or 'pstore'}: {error.strerror}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
