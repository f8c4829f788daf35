"""The service ``kubeconfig-to-seed``: ``kubeconfig: to-seed`` of user-data.

Whoever takes the seed disk back, or reads KSOLOEFI, gets a kubeconfig for the node's own address.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from product.agent.system.files import sync_directory
from product.cloudinit.boot import OWED
from product.cloudinit.errors import CloudInitError
from product.cloudinit.record import read_record
from product.cloudinit.sources import Seed, Where, find_seeds

NAME = "kubeconfig"


def write_to_seed(where: Where, boot_disk: str, esp: str, kubeconfig: bytes) -> str:
    """Put ``kubeconfig`` onto the seed that was applied; where it lies now.

    Raises CloudInitError where that seed is gone, or cannot be written.
    """
    source = read_record(where.under("var/lib/kubesolo/config/applied.json")).source
    seed = _applied(find_seeds(where, boot_disk, esp), source)
    if seed is None or seed.device is None or seed.kind != "vfat":
        raise CloudInitError(
            f"user-data wants a kubeconfig on {source or 'its seed'}, which is not there, or "
            "cannot be written",
            hint="plug in a FAT seed disk, or take the kubeconfig over SSH",
        )
    with where.mounted(seed.device, seed.kind, writable=True) as folder:
        path = os.path.join(folder, seed.folder, NAME)
        try:
            with open(f"{path}.new", "wb") as file:
                file.write(kubeconfig)
                file.flush()
                os.fsync(file.fileno())
            os.replace(f"{path}.new", path)
            sync_directory(os.path.dirname(path))
        except OSError as error:
            raise CloudInitError(f"cannot write {NAME} to {seed.place}: {error.strerror}") from None
    with suppress(FileNotFoundError):
        os.unlink(where.under(OWED))
    return f"{NAME} on {seed.place}"


def _applied(seeds: Sequence[Seed], source: str | None) -> Seed | None:
    """The seed of that name. A disk may have another device name than when it was applied."""
    for seed in seeds:
        if (
            source is not None
            and seed.place.partition(" /dev/")[0] == source.partition(" /dev/")[0]
        ):
            return seed
    return None


def main(arguments: Sequence[str], where: Where | None = None) -> int:
    """``DISK ESP FILE``: print where the kubeconfig in FILE went, or why it did not; 0 or 1."""
    boot_disk, esp, path = arguments
    try:
        with open(path, "rb") as file:
            content = file.read()
        print(write_to_seed(where or Where(), boot_disk, esp, content))
    except (CloudInitError, OSError, ValueError) as error:
        print(error)
        return 1
    return 0
