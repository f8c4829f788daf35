"""File systems that are only named."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from product.disk.foreign import read_foreign
from product.disk.labels import Volume
from product.image.seed import seed_image
from product.image.tools import HostTools


def exfat(label: str, root: int = 4) -> bytes:
    """512-byte sectors, clusters of 4 KiB, the heap at sector 2048."""
    image = bytearray(2048 * 512 + 8 * 4096)
    image[3:11] = b"EXFAT   "
    struct.pack_into("<III", image, 88, 2048, 6, root)
    image[108], image[109] = 9, 3
    image[510:512] = b"\x55\xaa"
    at = 2048 * 512 + (4 - 2) * 4096
    image[at] = 0x81
    at += 32
    image[at : at + 2] = bytes([0x83, len(label)])
    image[at + 2 : at + 2 + 2 * len(label)] = label.encode("utf-16-le")
    return bytes(image)


def ntfs(label: str, size: int = -10) -> bytes:
    """512-byte sectors, clusters of 4 KiB, file records of 1 KiB from cluster 4 on."""
    image = bytearray(10 * 4096)
    image[3:11] = b"NTFS    "
    struct.pack_into("<HB", image, 11, 512, 8)
    struct.pack_into("<Q", image, 48, 4)
    struct.pack_into("<b", image, 64, size)
    image[510:512] = b"\x55\xaa"
    at = 4 * 4096 + 3 * 1024
    name = label.encode("utf-16-le")
    image[at : at + 4] = b"FILE"
    struct.pack_into("<H", image, at + 20, 56)
    # $STANDARD_INFORMATION, then $VOLUME_NAME, both resident.
    struct.pack_into("<II", image, at + 56, 0x10, 96)
    struct.pack_into("<II", image, at + 152, 0x60, 24 + len(name) + 8)
    struct.pack_into("<IH", image, at + 152 + 16, len(name), 24)
    image[at + 176 : at + 176 + len(name)] = name
    return bytes(image)


def read(tmp_path: Path, image: bytes) -> Volume | None:
    path = tmp_path / "image"
    path.write_bytes(image)
    return read_foreign(str(path))


@pytest.mark.parametrize("label", ["", "KSOLOUPD", "Grüße"])
def test_labels_are_read(tmp_path: Path, label: str) -> None:
    labels = (label,) if label else ()
    assert read(tmp_path, exfat(label)) == Volume("exfat", labels)
    assert read(tmp_path, ntfs(label)) == Volume("ntfs", labels)


def test_ext4_as_it_is_made(tmp_path: Path, host_tools: HostTools) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(4 << 20)
    host_tools.run("mke2fs", "-q", "-t", "ext4", "-L", "KSOLOUPD", path)
    assert read_foreign(str(path)) == Volume("ext4", ("KSOLOUPD",))


def test_what_the_node_reads_is_not_foreign(tmp_path: Path, host_tools: HostTools) -> None:
    seed_image(tmp_path / "fat", {"a": b""}, label="KSOLOUPD", tools=host_tools)
    assert read_foreign(str(tmp_path / "fat")) is None
    assert read_foreign(str(tmp_path / "none")) is None
    assert read(tmp_path, b"") is None


@pytest.mark.parametrize(
    "image",
    [
        exfat("LABEL", root=99),
        exfat("LABEL", root=0),
        ntfs("LABEL", size=-99),
        ntfs("LABEL", size=0),
        exfat("LABEL")[:600],
        ntfs("LABEL")[:600],
        ntfs("LABEL")[: 4 * 4096 + 3 * 1024 + 160],
    ],
)
def test_numbers_that_lead_nowhere_lead_to_no_label(tmp_path: Path, image: bytes) -> None:
    found = read(tmp_path, image)
    assert found is not None
    assert found.labels == ()
