"""Errors."""

from __future__ import annotations

from product.errors import KubesoloError


class CloudInitError(KubesoloError):
    """x"""


class InvalidFileError(CloudInitError):
    """x"""

    problems = ()
