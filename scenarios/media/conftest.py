"""Media of the image under test, each made once a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.qemu.arch import Arch
from product.image.media.iso import build_iso

if TYPE_CHECKING:
    from conftest import Images


@pytest.fixture(scope="session")
def iso(arch: Arch, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ISO image."""
    path = tmp_path_factory.mktemp("iso") / f"{arch}.iso"
    build_iso(images.builder(arch.value), images[arch.value], path)
    return path
