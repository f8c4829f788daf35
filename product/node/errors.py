"""Errors of the node's Kubernetes set-up."""

from __future__ import annotations

from product.errors import KubesoloError


class NodeError(KubesoloError):
    """Something that keeps Kubernetes from being set up."""


class PayloadError(NodeError):
    """The image carries no Kubernetes, or its description is garbage."""


class StorageError(NodeError):
    """The data partition does not take what must be kept there."""


class RuntimeUnreadyError(NodeError):
    """A service that this one needs did not answer in time."""


class ProgramFailedError(NodeError):
    """A program that was run ended with an error."""
