"""What goes wrong with a configured network."""

from __future__ import annotations

from product.errors import KubesoloError


class NetworkFileError(KubesoloError):
    """The file cannot be read, or does not have its format."""
