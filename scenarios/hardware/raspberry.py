"""What an emulated Raspberry Pi 3 gets: its card, U-Boot and device tree from the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.qemu.board import Board
from harness.qemu.device_tree import DeviceTree
from harness.qemu.devices import DiskBus, NetworkCard
from product.image.build import Image
from product.image.disk import layout
from product.image.tools import HostTools

FOLDER = "EFI/BOARD"
BOARD = Board.RASPI3B
MODEL = "bcm2837-rpi-3-b"
CARD_MIB = 2048


def copy_from_esp(image: Path, name: str, target: Path, tools: HostTools) -> Path:
    """A file of the image's KSOLOEFI as ``target``."""
    tools.run("mcopy", "-o", "-i", f"{image}@@{layout()[0].offset}", f"::{name}", target)
    return target


def fields(image: Image, folder: Path, tools: HostTools, board_tools: HostTools) -> dict[str, Any]:
    """Fields of MachineSpec for a Pi with this image on its card.

    QEMU plays the firmware: it starts U-Boot with the device tree, changed as the owner of a Pi
    could with overlays. The command channel gets the line that has the Bluetooth chip. Linux does
    not see the watchdog, because QEMU resets the machine when its driver starts it, and three of
    the four cores, which QEMU would emulate one after the other.
    """
    path = copy_from_esp(image.disk, f"{FOLDER}/{MODEL}.dtb", folder / f"{MODEL}.dtb", tools)
    tree = DeviceTree(path, board_tools)
    line = str(BOARD.channel_line)
    tree.set("/chosen", {"kubesolo,channel": line, "kubesolo,ntp": "none"})
    tree.disable("/soc/serial@7e201000/bluetooth")
    tree.disable("/soc/watchdog@7e100000")
    for number in (1, 2, 3):
        tree.remove(f"/cpus/cpu@{number}")
    return {
        "board": BOARD, "image": image.disk, "disk_bus": DiskBus.SD, "disk_size_mib": CARD_MIB,
        "kernel": copy_from_esp(image.disk, f"{FOLDER}/u-boot.bin", folder / "u-boot.bin", tools),
        "device_tree": path, "memory_mib": BOARD.memory_mib, "cpus": BOARD.cores,
        "network_card": NetworkCard.USB, "watchdog": False,
    }  # fmt: skip
