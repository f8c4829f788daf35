"""The pictures of the documents: SVG, drawn from the product's own tables.

Nothing is loaded from anywhere, equal sources give equal bytes, and colours follow the viewer's
light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scenarios.documents.pages import DOCS
from scenarios.documents.pictures import boot, disk, phases, update

PICTURES: Mapping[Path, Callable[[], str]] = {
    DOCS / "boot-flow.svg": boot.draw,
    DOCS / "disk-layout.svg": disk.draw,
    DOCS / "update-flow.svg": update.draw,
    DOCS / "update-phases.svg": phases.draw,
}
