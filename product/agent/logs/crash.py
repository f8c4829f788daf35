"""Taking what the firmware kept of failed boots out of its memory, into ``/var/log/crash``.

The kernel's pstore shows each record as a file: ``dmesg-BACKEND-ID``, whose first line is
``Panic#1 Part3``; part 1 is the latest text. UEFI has room for little, so a record is removed once
its text is on the disk, and never before. Memory that outlives a restart (ramoops) also keeps the
console of the boot before, ``console-ramoops-0``, however that boot ended: it is kept as
``NNNNNNNN-console-0.txt``, and counts as no crash. A record that cannot be read stays, and is said.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import NamedTuple

from product.agent.logs.boots import list_boots
from product.agent.system.clock import timestamp
from product.agent.system.files import write_atomic
from product.agent.system.paths import Paths

# Files that are kept; each has some 20 kB.
KEPT = 20
# Consoles that are kept.
KEPT_CONSOLES = 3
_RECORD = re.compile(r"dmesg-(.+)-(\d+)(\.enc\.z)?")
_CONSOLE = re.compile(r"console-(.+)-(\d+)(\.enc\.z)?")
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


def collect(paths: Paths, say: Callable[[str], None] = print) -> list[str]:
    """Write a file for each dump, remove its records; the files.

    ``say`` hears of each record that cannot be read or removed. Raises OSError of the disk alone.
    """
    if not os.path.isdir(f"{paths.logs}/crash"):
        # In memory they would be lost: the firmware keeps them.
        return []
    found_by = list_boots(paths)[-1].number
    parts, consoles = [], []
    for name in sorted(os.listdir(paths.pstore)):
        path = f"{paths.pstore}/{name}"
        try:
            if (part := _read(path, name)) is not None:
                parts.append(part)
            elif match := _CONSOLE.fullmatch(name):
                consoles.append((path, match[2], _content(path)))
        except OSError as error:
            say(f"{path} cannot be read: {error.strerror}")
    folder = f"{paths.logs}/crash"
    for path, number, text in consoles:
        write_atomic(f"{folder}/{found_by:08d}-console-{number}.txt", text)
        _remove(path, say)
    written = []
    for count, dump in enumerate(_dumps(sorted(parts)), 1):
        name = f"{found_by:08d}-{count}.txt"
        write_atomic(f"{folder}/{name}", _join(dump, found_by))
        written.append(f"{paths.own_logs}/crash/{name}")
        for part in dump:
            _remove(part.path, say)
    _bound(folder)
    return written


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 20)


def _remove(path: str, say: Callable[[str], None]) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        say(f"{path} cannot be removed: {error.strerror}")


def _read(path: str, name: str) -> _Part | None:
    match = _RECORD.fullmatch(name)
    if match is None:
        return None
    data = _content(path)
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
    consoles = [name for name in names if "-console-" in name]
    dumps = [name for name in names if name not in consoles]
    for kind, kept in ((dumps, KEPT), (consoles, KEPT_CONSOLES)):
        for name in kind[: max(len(kind) - kept, 0)]:
            os.unlink(f"{folder}/{name}")


def main(paths: Paths | None = None) -> int:
    """What stage 22 runs: a line for the console for each file, and for what is wrong; 1 then."""
    wrong: list[str] = []
    try:
        for path in collect(paths or Paths(), wrong.append):
            print(f"the last console of a failed boot: {path}")
    except OSError as error:
        wrong.append(f"{error.filename or 'pstore'}: {error.strerror}")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
