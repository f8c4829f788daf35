"""Errors of the boot disk's preparation."""

from __future__ import annotations

from product.errors import KubesoloError


class DiskError(KubesoloError):
    """Something that keeps the disk from being prepared; what was on it is still there."""


class TableError(DiskError):
    """The disk has no partition table that can be believed."""
