"""Disks of hypervisors: their bytes, their size, what readers of the formats say of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from product.image.disk import Identifiers
from product.image.errors import ImageError
from product.image.media import vhdx
from product.image.media.convert import FORMATS, convert
from product.image.tools import HostTools

MIB = 1 << 20
SIZE = 512 * MIB


def made(name: str, disk: Path, folder: Path, tools: HostTools, digest: str = "one") -> Path:
    target = folder / f"node.{name}"
    convert(disk, FORMATS[name], SIZE, Identifiers(digest), tools, target)
    return target


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_image_gives_the_same_bytes_and_they_hold_the_image(
    name: str, disk: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (made(name, disk, folder, host_tools) for folder in folders)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(folders[0].iterdir()) == [first]
    about = json.loads(host_tools.run("qemu-img", "info", "--output=json", first))
    assert (about["format"], about["virtual-size"]) == (name, SIZE)
    # What is after the end of the raw image must be zeros, which `compare` checks.
    host_tools.run("qemu-img", "compare", "-f", "raw", "-F", name, disk, first)
    assert first.stat().st_blocks * 512 < 24 * MIB


@pytest.mark.parametrize("name", ["vmdk", "vhdx"])
def test_another_image_has_other_identifiers(
    name: str, disk: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    one = made(name, disk, tmp_path, host_tools).read_bytes()
    assert one != made(name, disk, tmp_path, host_tools, "another").read_bytes()


@pytest.mark.parametrize("name", ["qcow2", "vhdx"])
def test_the_format_s_own_check_finds_no_fault(
    name: str, disk: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    """QEMU checks the checksums of a VHDX's headers when it opens one."""
    path = made(name, disk, tmp_path, host_tools)
    host_tools.run("qemu-img", "check", "-f", name, path)


def test_a_vmdk_is_of_the_form_that_esxi_imports(
    disk: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    """ESXi refuses a stream of another version of the format than 3."""
    head = made("vmdk", disk, tmp_path, host_tools).read_bytes()[: 21 * 512]
    magic, version, flags = struct.unpack_from("<4sII", head)
    assert (magic, version) == (b"KDMV", 3)
    compressed, with_markers = 1 << 16, 1 << 17
    assert flags & compressed
    assert flags & with_markers
    assert b'createType="streamOptimized"' in head
    assert b'ddb.adapterType = "lsilogic"' in head


def test_both_headers_of_a_vhdx_are_whole(
    disk: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    """A reader takes the one with the higher number whose checksum is right."""
    data = made("vhdx", disk, tmp_path, host_tools).read_bytes()
    numbers = set()
    for at in (64 << 10, 128 << 10):
        header = bytearray(data[at : at + 4096])
        (found,) = struct.unpack_from("<I", header, 4)
        header[4:8] = bytes(4)
        assert header[:4] == b"head"
        assert vhdx.crc32c(bytes(header)) == found
        numbers.add(struct.unpack_from("<Q", header, 8)[0])
        assert header[48:64] == bytes(16)
    assert len(numbers) == 2


def test_the_checksum_is_that_of_the_standard() -> None:
    """The example of RFC 3720, appendix B.4: 32 bytes of zeros."""
    assert vhdx.crc32c(bytes(32)) == 0x8A9136AA
    assert vhdx.crc32c(b"123456789") == 0xE3069283


def test_a_vhdx_that_is_not_closed_or_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.vhdx"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(ImageError, match="is no VHDX"):
        vhdx.settle(path, Identifiers("x"))
    with path.open("r+b") as stream:
        stream.seek(64 << 10)
        stream.write(b"head" + bytes(44) + b"\1" * 16)
    with pytest.raises(ImageError, match="was not closed"):
        vhdx.settle(path, Identifiers("x"))


@pytest.mark.parametrize(("size", "says"), [(81 * MIB, "cannot hold"), (83 * MIB + 1, "MiB")])
def test_a_size_that_cannot_be_is_refused(
    size: int, says: str, disk: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=says):
        convert(disk, FORMATS["qcow2"], size, Identifiers("x"), host_tools, tmp_path / "node.qcow2")
    assert not list(tmp_path.iterdir())


def test_a_content_id_of_fewer_digits_moves_nothing_else(tmp_path: Path) -> None:
    """QEMU writes it without leading zeros."""
    path = tmp_path / "x.vmdk"
    lines = b"# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=ffffffff\n"
    settle = FORMATS["vmdk"].settle
    assert settle is not None
    found = []
    for number in (b"abcdef0", b"abcdef01"):
        path.write_bytes(bytes(512) + (lines % number).ljust(20 * 512, b"\0") + b"grain")
        settle(path, Identifiers("x"))
        found.append(path.read_bytes())
    assert found[0] == found[1]
    assert found[0].endswith(b"\0grain")
    assert len(found[0]) == 21 * 512 + 5
    path.write_bytes(bytes(20 << 10))
    with pytest.raises(ImageError, match="no VMDK"):
        settle(path, Identifiers("x"))
