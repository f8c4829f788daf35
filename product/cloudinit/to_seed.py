"""The service ``kubeconfig-to-seed``: ``kubeconfig: to-seed`` of user-data.

Whoever takes the seed disk back, or reads KSOLOEFI, gets a kubeconfig for the node's own address.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from product.agent.system.files import read_bounded, sync_directory
from product.cloudinit.boot import OWED, digest_of_seed
from product.cloudinit.errors import CloudInitError
from product.cloudinit.sources import KUBECONFIG_NAME as NAME
from product.cloudinit.sources import Where, find_seeds


def write_to_seed(where: Where, boot_disk: str, esp: str, kubeconfig: bytes) -> str:
    """Put ``kubeconfig`` onto the seed that was applied; where it lies now.

    Raises CloudInitError where that seed is gone, or cannot be written.
    """
    try:
        owed = read_bounded(where.under(OWED), 4096).decode().strip()
    except (OSError, ValueError):
        owed = ""
    seeds, _ = find_seeds(where, boot_disk, esp)
    seed = next((seed for seed in seeds if digest_of_seed(seed) == owed), None)
    if seed is None or seed.device is None or seed.kind != "vfat":
        raise CloudInitError(
            "the seed whose user-data wants a kubeconfig is not there, or cannot be written",
            hint="plug it in, as a FAT file system, or take the kubeconfig over SSH",
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
