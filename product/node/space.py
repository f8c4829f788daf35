"""Whether the data partition has the room that Kubernetes needs to start."""

from __future__ import annotations

import os

from product.node.errors import StorageError

# etcd takes 64 MiB for a new write-ahead log at once; on a full disk it would die half written.
FREE_BYTES = 96 << 20


def require_space(data: str) -> None:
    """Raises StorageError where too little is free around ``data``, which need not exist."""
    folder = data
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < FREE_BYTES:
        raise StorageError(
            "the data partition is full: Kubernetes needs "
            f"{FREE_BYTES >> 20} MiB to start, {free >> 20} MiB are free",
            hint="free space under /mnt/data; Kubernetes starts by itself once there is some",
        )
