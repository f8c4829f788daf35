"""Errors of the image builders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from product.errors import KubesoloError

if TYPE_CHECKING:
    from product.image.locks import Package


class ImageError(KubesoloError):
    """Root of everything that the image builders raise on purpose."""


class RecipeError(ImageError):
    """A recipe that cannot be built: unknown key, wrong type, missing file."""


class LockError(ImageError):
    """A lock file that is damaged, stale or does not fit its recipe."""


class CacheError(ImageError):
    """The cache cannot be read or written."""


class DownloadError(ImageError):
    """A package could not be fetched, or is not the one that the lock names."""


class VanishedError(DownloadError):
    """No place has these locked packages any longer: ``packages``."""

    def __init__(self, message: str, packages: Sequence[Package], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.packages = tuple(packages)


class TreeError(ImageError):
    """A file of an overlay or archive cannot lie where it wants to, or would lie outside a root."""


class ToolError(ImageError):
    """A host program failed or is missing."""


class UnsupportedHostError(ImageError):
    """This host cannot run the builders."""
