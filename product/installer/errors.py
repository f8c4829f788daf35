"""Why nothing was installed; each kind has an exit code of its own."""

from __future__ import annotations

from product.errors import KubesoloError


class InstallError(KubesoloError):
    """Nothing was written."""


class NoDiskError(InstallError):
    """No disk fits what was asked for, or more than one, or none that fits can be taken."""

    exit_code = 3


class NotEmptyError(InstallError):
    """Something lies on the disk, and nobody said that it may be lost."""

    exit_code = 4


class InstalledError(InstallError):
    """The disk has been installed by this very medium and seed: a medium that was left in."""

    exit_code = 5


class HalfWrittenError(InstallError):
    """Writing began and did not come to its end: the disk starts nothing."""

    exit_code = 6


class NoOrderError(InstallError):
    """The seed does not say that anything shall be installed, or there is none."""

    exit_code = 7


class NotChosenError(InstallError):
    """A person left the menu, or confirmed no disk."""

    exit_code = 8
