"""What may be wrong with a document."""

from __future__ import annotations

from product.errors import KubesoloError


class DocumentError(KubesoloError):
    """A document says something that does not hold; the message begins with ``PAGE:LINE:``."""
