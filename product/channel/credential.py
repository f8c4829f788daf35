"""Whether this boot was offered the command channel.

The channel is a root shell, so it exists only where the machine's owner said so: the hypervisor
hands over the SMBIOS string below, or somebody at the console chose the debug menu entry.
"""

from __future__ import annotations

OFFER = b"io.kubesolo.channel=virtio"
DEBUG_PARAMETER = "kubesolo.debug"

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


def offered(root: str = "/") -> bool:
    """True where the hypervisor or the boot menu asked for the channel; ``root`` is for tests."""
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
