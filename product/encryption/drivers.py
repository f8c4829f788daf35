"""Drivers that the boot needs before its stage for drivers: a stick's, a keyboard's.

There is no udev: what turns up on USB is asked for again and again, as long as somebody waits.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from product.agent.errors import AgentError
from product.agent.system import program
from product.cloudinit.sources import Where

# USB's host controllers by their class; what hangs on USB by its own alias.
_HOSTS = re.compile(r"pci:.*bc0Csc03")
# FAT, the disks of USB storage, and keyboards that no bus tells of.
_ALWAYS = ("vfat", "nls_cp437", "nls_ascii", "sd_mod", "hid_generic", "atkbd", "i8042")


def load(where: Where) -> None:
    """Load what is missing; what the kernel does not have is passed over."""
    wanted = [alias for alias in _aliases(where, "pci") if _HOSTS.match(alias)]
    wanted += _aliases(where, "usb")
    with suppress(AgentError):
        program.run(["modprobe", "-q", "-a", "-b", *_ALWAYS, *dict.fromkeys(wanted)])


def _aliases(where: Where, bus: str) -> list[str]:
    folder = where.under(f"sys/bus/{bus}/devices")
    found = []
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            with suppress(OSError), open(os.path.join(folder, name, "modalias")) as file:
                found.append(file.read().strip())
    return found
