"""What can go wrong for somebody who makes a release."""

from __future__ import annotations

from product.errors import KubesoloError


class PublishError(KubesoloError):
    """The base of every error in this package."""


class ChangelogError(PublishError):
    """The changelog has nothing to say of a version."""


class CheckoutError(PublishError):
    """The checkout is not what a release can be made from."""


class MatrixError(PublishError):
    """No report of a run of the matrix can be read."""


class StepError(PublishError):
    """A step failed; the message begins with its name, the hint ends with how to run it again."""
