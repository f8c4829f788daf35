"""Choosing a disk on the console: a numbered list, and the disk's path typed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from product.installer.disks import Disk
from product.installer.errors import InstallError

Ask = Callable[[str], str]


def choose_disk(disks: Sequence[Disk], least: int, ask: Ask, tell: Callable[[str], None]) -> Disk:
    """The disk that a person chose and confirmed. Raises InstallError where he did not."""
    large = [disk for disk in disks if disk.size >= least]
    if not large:
        there = "; ".join(disk.describe() for disk in disks) or "none"
        raise InstallError(
            f"no disk has the {least / 1e9:.1f} GB that the system takes; there is: {there}",
            hint="connect a disk, and start the installer again: kubesolo-install",
        )
    tell("Disks that the system can be installed to:")
    for number, disk in enumerate(large, 1):
        tell(f"  {number}  {disk.describe()}")
    while True:
        answer = ask("Number of the disk, or q to leave: ").strip()
        if answer in ("q", "Q"):
            raise InstallError("nothing was chosen, and nothing was written")
        if answer.isascii() and answer.isdigit() and 0 < int(answer) <= len(large):
            break
        tell(f"{answer!r} is none of 1 to {len(large)}")
    disk = large[int(answer) - 1]
    tell(f"Everything on {disk.path} will be lost: {disk.holds or 'it is empty'}")
    typed = ask(f"Type {disk.path} to go on: ").strip()
    if typed != disk.path:
        raise InstallError(f"{typed!r} is not {disk.path}; nothing was written")
    return disk
