"""Mounting a file system that another process may have mounted as well.

The kernel has one super block for each device, read-only or writable for all of its mounts, and
refuses a mount that differs with "busy". A mount of its own may be read-only all the same, and a
super block becomes writable by a mount that is made so; neither changes what others have mounted.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system import program

# Another process may mount or unmount between the look and the mount.
_TRIES = 3


class MountError(AgentError):
    """A file system cannot be mounted."""

    code = "partition-unusable"


class Mount(NamedTuple):
    """``number`` is major:minor; ``writable`` says it of the super block, not of this mount."""

    number: str
    point: str
    writable: bool


def read_mounts(mountinfo: str) -> list[Mount]:
    """Every mount; none where the table cannot be read. The kernel writes blanks as \\040."""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        own, _, shared = line.partition(" - ")
        fields, options = own.split(" "), shared.split(" ")[-1].split(",")
        if len(fields) > 4:
            point = fields[4].replace("\\040", " ").replace("\\011", "\t")
            found.append(Mount(fields[2], point, "rw" in options))
    return found


def device_number(device: str) -> str:
    """``major:minor`` as the kernel writes it. Raises OSError."""
    number = os.stat(device).st_rdev
    return f"{os.major(number)}:{os.minor(number)}"


def attach(
    device: str, at: str, *, kind: str, options: str, mountinfo: str, writable: bool = False
) -> None:
    """Mount ``device`` at the folder ``at``, beside mounts of others. Raises MountError."""
    for left in reversed(range(_TRIES)):
        held = _is_writable(device, mountinfo)
        try:
            _attach(device, at, kind, options, writable, held)
            return
        except program.ProgramError as error:
            if not left or _is_writable(device, mountinfo) == held:
                raise MountError(error.message) from None


def _attach(
    device: str, at: str, kind: str, options: str, writable: bool, held: bool | None
) -> None:
    wanted = "rw" if writable else "ro"
    begin = wanted if held is None else "rw" if held else "ro"
    program.require(["mount", "-t", kind, "-o", f"{begin},{options}", device, at])
    if begin == wanted:
        return
    # The whole super block becomes writable, or this mount alone read-only.
    change = "remount,rw" if writable else "remount,bind,ro"
    try:
        program.require(["mount", "-t", kind, "-o", f"{change},{options}", device, at])
    except program.ProgramError:
        program.run(["umount", at])
        raise


def _is_writable(device: str, mountinfo: str) -> bool | None:
    """How the device is mounted by now; None where it is not, or is not there."""
    try:
        number = device_number(device)
    except OSError:
        return None
    return next((one.writable for one in read_mounts(mountinfo) if one.number == number), None)
