"""Whether this boot was offered the command channel, and where.

The channel is a root shell, so it exists only where the machine's owner said so: the hypervisor
hands over the SMBIOS string below, or the firmware of a board without SMBIOS a device tree that
names a serial line, or somebody at the console chose the debug menu entry.
"""

from __future__ import annotations

import re

OFFER = b"io.kubesolo.channel=virtio"
DEBUG_PARAMETER = "kubesolo.debug"
# A property of /chosen: the serial line's name under /dev.
LINE_PROPERTY = "kubesolo,channel"

_OEM_STRINGS = 11
_END_OF_TABLE = 127


def oem_strings(table: bytes) -> list[bytes]:
    """Strings of all SMBIOS type 11 structures in a raw table (SMBIOS 3.x, section 6.1).

    A structure is a formatted area, whose length its second byte gives, then its strings, each
    ending in NUL, then one more NUL. A truncated table gives what it holds.
    """
    found: list[bytes] = []
    position = 0
    while position + 4 <= len(table):
        kind, length = table[position], table[position + 1]
        if length < 4:
            break
        strings = position + length
        end = table.find(b"\0\0", strings)
        if end < 0:
            break
        if kind == _OEM_STRINGS:
            found.extend(text for text in table[strings:end].split(b"\0") if text)
        if kind == _END_OF_TABLE:
            break
        position = end + 2
    return found


def offered_line(root: str = "/") -> str | None:
    """Device path of the serial line that the device tree offers the channel on; None where it
    offers none, or names what is no serial line."""
    try:
        with open(f"{root}proc/device-tree/chosen/{LINE_PROPERTY}", "rb") as file:
            name = file.read(64)
    except OSError:
        return None
    found = re.fullmatch(rb"(tty[A-Za-z]{1,8}[0-9]{1,3})\0", name)
    return f"{root}dev/{found[1].decode()}" if found else None


def offered(root: str = "/") -> bool:
    """True where the hypervisor, the firmware or the boot menu asked for the channel; ``root`` is
    for tests."""
    if offered_line(root) is not None:
        return True
    try:
        with open(f"{root}sys/firmware/dmi/tables/DMI", "rb") as file:
            if OFFER in oem_strings(file.read()):
                return True
    except OSError:
        pass  # A machine without SMBIOS offers nothing.
    try:
        with open(f"{root}proc/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split()
    except OSError:
        return False
    return DEBUG_PARAMETER in words or f"{DEBUG_PARAMETER}=1" in words
