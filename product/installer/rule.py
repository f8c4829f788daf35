"""What a seed says about the installation: the section ``install`` of user-data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from product.cloudinit.errors import InvalidFileError, Problem
from product.cloudinit.sources import META_DATA, NETWORK, USER_DATA
from product.installer.disks import Rule

REBOOT, POWEROFF = "reboot", "poweroff"


class Order(NamedTuple):
    """Install to the disk of ``rule``; ``wipe``: what lies on it may be lost; ``then`` reboot or
    poweroff."""

    rule: Rule
    wipe: bool
    then: str


def order_of(files: Mapping[str, bytes]) -> Order | None:
    """What the seed's ``files`` order; None where they do not.

    Raises InvalidFileError with every fault of every file: a node would refuse it after its first
    boot, when nobody is there any more.
    """
    from product.cloudinit.load import load_meta_data, load_network, load_user_data

    problems: list[Problem] = []
    section = None
    for name, data in files.items():
        try:
            if name == USER_DATA:
                section = load_user_data(data, name).config.install
            elif name == NETWORK:
                load_network(data, name)
            elif name == META_DATA:
                load_meta_data(data, name)
        except InvalidFileError as error:
            problems += error.problems
    if problems:
        raise InvalidFileError(problems)
    if section is None:
        return None
    disk = section.disk
    rule = Rule() if disk is None else Rule(
        disk.serial or "", disk.model or "", disk.path or "", disk.wwn or "",
        disk.min_size or 0, disk.pick or "",
    )  # fmt: skip
    return Order(rule, bool(section.wipe), section.then or REBOOT)
