"""What a target can do, by name: a scenario that needs more is skipped and names what is missing.

A scenario says ``pytest.mark.needs("lying-cache")``. Firmware (bios, uefi) and watchdogs (i6300esb,
itco) are abilities, too, under the names that MachineSpec has.
"""

from __future__ import annotations

import enum


class Ability(enum.StrEnum):
    """One ability of a target."""

    # What every scenario of a whole node uses.
    POWER = "power"  # plug in, pull the plug
    RESET = "reset"  # the reset button
    CONSOLE = "console"  # read the serial line
    KEYBOARD = "keyboard"  # type on the serial line
    COMMANDS = "commands"  # run a command inside, by channel or SSH
    STORAGE = "storage"  # write the disk while the node is off
    NETWORK = "network"  # reach the node's TCP ports, and be reached by it
    SNAPSHOT = "snapshot"  # fork from a saved state
    DISK_IMAGE = "disk-image"  # read the disk as a file, as evidence

    # Faults (harness.faults).
    DISK_ERRORS = "disk-errors"
    DISK_HELD = "disk-held"
    SLOW_DISK = "slow-disk"
    LYING_CACHE = "lying-cache"
    LINK = "link"
    NETWORK_FAULTS = "network-faults"
    DNS_FAULTS = "dns-faults"
    CLOCK = "clock"
    MEMORY_PRESSURE = "memory-pressure"
    CPU_STARVATION = "cpu-starvation"
    WATCHDOG_STARVATION = "watchdog-starvation"
    USB_HOTPLUG = "usb-hotplug"
    SECOND_DISK = "second-disk"


# A virtual machine of QEMU has them all.
QEMU = frozenset(Ability)
