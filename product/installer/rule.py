"""What a seed says about the installation: the section ``install`` of user-data."""

from __future__ import annotations

from typing import NamedTuple

from product.cloudinit.sources import USER_DATA, Seed
from product.installer.disks import Rule

REBOOT, POWEROFF = "reboot", "poweroff"


class Order(NamedTuple):
    """Install to the disk of ``rule``; ``wipe``: what lies on it may be lost; ``then`` reboot or
    poweroff."""

    rule: Rule
    wipe: bool
    then: str


def order_of(seed: Seed | None) -> Order | None:
    """What the seed orders; None where it does not. Raises CloudInitError for a faulty one."""
    if seed is None or USER_DATA not in seed.files:
        return None
    from product.cloudinit.load import load_user_data

    section = load_user_data(seed.files[USER_DATA], USER_DATA).config.install
    if section is None:
        return None
    disk = section.disk
    rule = Rule() if disk is None else Rule(
        disk.serial or "", disk.model or "", disk.path or "", disk.pick or ""
    )  # fmt: skip
    return Order(rule, bool(section.wipe), section.then or REBOOT)
