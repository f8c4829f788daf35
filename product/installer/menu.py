"""Choosing a disk on the console: a numbered list, and the disk's path typed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from product.installer.disks import Disk
from product.installer.errors import NoDiskError, NotChosenError

Ask = Callable[[str], str]
QUESTION = "Number of the disk, or q to leave: "


def choose_disk(disks: Sequence[Disk], least: int, ask: Ask, tell: Callable[[str], None]) -> Disk:
    """The disk that a person chose and confirmed, ``least`` bytes or more.

    Raises NoDiskError where there is none to choose, NotChosenError where none was.
    """
    free = [disk for disk in disks if not disk.refusal(least)]
    if free:
        tell("Disks that the system can be installed to:")
    for number, disk in enumerate(free, 1):
        tell(f"  {number}  {disk.describe()}")
    for disk in disks:
        if reason := disk.refusal(least):
            tell(f"  -  {disk.describe()}: {reason}")
    if not free:
        raise NoDiskError(
            f"none of {len(disks)} disks can be installed to; the system takes "
            f"{least / 1e9:.1f} GB",
            hint="connect a disk",
        )
    while True:
        answer = ask(QUESTION).strip()
        if answer in ("q", "Q"):
            raise NotChosenError("no disk was chosen, and nothing was written")
        if answer in (str(number) for number in range(1, len(free) + 1)):
            break
        tell(f"{answer[:40]!r} is none of 1 to {len(free)}")
    disk = free[int(answer) - 1]
    tell(f"Everything on {disk.path} will be lost: {disk.holds or 'it is empty'}")
    typed = ask(f"Type {disk.path} to go on: ").strip()
    if typed != disk.path:
        raise NotChosenError(f"{typed[:40]!r} is not {disk.path}; nothing was written")
    return disk
