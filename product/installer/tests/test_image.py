"""The image that ships: what is installed is the disk image, byte for byte."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from product.image.media.pieces_of import split
from product.installer.tests.test_write import FileTarget
from product.installer.write import install

if TYPE_CHECKING:
    from conftest import Images


def test_the_image_is_installed_byte_for_byte(images: Images, tmp_path: Path) -> None:
    image = images["x86_64"]
    files = {path.name: path for path in sorted(image.slot.folder.iterdir())}
    document = split(image.disk, files, tmp_path / "rest.bin")
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(document.size)

    def open_file(name: str) -> int:
        return os.open(files.get(name, tmp_path / name), os.O_RDONLY)

    def zeros_are_there(at: int, length: int) -> None:
        """The disk is new."""

    target = FileTarget(disk)
    target.zero = zeros_are_there  # type: ignore[method-assign]
    found = []
    install(document, open_file, target, lambda esp: found.append((esp.name, esp.first)))
    assert found == [("KSOLOEFI", 2048)]
    with disk.open("rb") as reader:
        assert hashlib.file_digest(reader, "sha256").hexdigest() == image.sha256
