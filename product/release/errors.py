"""What can go wrong for somebody who publishes releases."""

from __future__ import annotations

from product.errors import KubesoloError


class ReleaseError(KubesoloError):
    """The base of every error in this package."""


class KeyFileError(ReleaseError):
    """A key file is missing, exposed to others, in the way, or not an Ed25519 key."""


class RepositoryError(ReleaseError):
    """A repository directory is missing, in the way, damaged, or signed by other keys."""


class MarksUnwritableError(RepositoryError):
    """The versions that are being signed cannot be noted beside the keys."""


class SlotFilesError(ReleaseError):
    """A directory of slot files does not hold what its manifest says."""


class RegistryError(ReleaseError):
    """A registry cannot be reached, refuses, or holds what a push must not replace."""


class DownloadsError(ReleaseError):
    """Files of a release are not what was signed, or cannot be signed."""
