"""What uses a disk: Linux says it by its partitions' holders (LVM, RAID, encryption), mounts, swap.

A disk in use is never written to, whatever the user says.
"""

from __future__ import annotations

from pathlib import Path


def in_use(folder: Path, *, sys: Path, proc: Path) -> list[str]:
    """Sentences on what uses a disk or its partitions; ``folder`` is the disk's in sysfs."""
    children = (child for child in sorted(folder.iterdir()) if (child / "partition").exists())
    parts = [folder, *children]
    users = []
    numbers: dict[str, str] = {}
    for part in parts:
        if number := read_line(part / "dev"):
            numbers[number] = part.name
        holders = part / "holders"
        for holder in sorted(holders.iterdir()) if holders.is_dir() else []:
            users.append(f"{part.name} is part of {read_line(holder / 'dm/name') or holder.name}")
    names = {f"/dev/{name}": name for name in numbers.values()}
    for line in _lines(proc / "self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, source = before.split(), after.split()
        if len(fields) < 5 or len(source) < 2:
            continue
        # Btrfs has a number of its own, and says the device by name alone.
        name = numbers.get(fields[2]) or names.get(source[1])
        if name:
            users.append(f"{name} is mounted at {fields[4]}")
    for line in _lines(proc / "swaps")[1:]:
        device = line.split()[0] if line.split() else ""
        if name := names.get(device):
            users.append(f"{name} is swap space")
    return users


def read_line(path: Path) -> str:
    """What a file of sysfs says; "" where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
