"""Seed disks are what other programs take for a NoCloud source."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.image.errors import ImageError
from product.image.seed import Kind, seed_image
from product.image.tools import HostTools

FILES = {"user-data": b"#cloud-config\nhostname: one\n", "network-config": b"version: 2\n"}
MIB = 1 << 20


@pytest.mark.parametrize("label", ["cidata", "CIDATA"])
def test_a_fat_seed_has_its_label_and_its_files(
    tmp_path: Path, host_tools: HostTools, label: str
) -> None:
    path = seed_image(tmp_path / "seed", FILES, "vfat", label, tools=host_tools)
    assert label in host_tools.run("mlabel", "-s", "-i", path).decode()
    for name, data in FILES.items():
        assert host_tools.run("mtype", "-i", path, f"::{name}") == data
    host_tools.run("fsck.fat", "-n", path)


@pytest.mark.parametrize("rock_ridge", [True, False])
def test_an_iso_seed_has_its_label_and_its_files(
    tmp_path: Path, host_tools: HostTools, rock_ridge: bool
) -> None:
    path = seed_image(tmp_path / "seed", FILES, "iso9660", rock_ridge=rock_ridge, tools=host_tools)
    data = path.read_bytes()
    assert data[0x8001:0x8006] == b"CD001"
    assert data[0x8028:0x8048].rstrip() == b"cidata"
    assert (b"RRIP" in data) is rock_ridge
    assert ("user-data".encode("utf-16-be") in data) is rock_ridge
    for name in (b"USER_DATA.;1", b"NETWORK_CONFIG.;1"):
        assert (name in data) is not rock_ridge
    if rock_ridge:
        out = tmp_path / "out"
        host_tools.run("xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", out)
        assert {file.name: file.read_bytes() for file in out.iterdir()} == FILES


@pytest.mark.parametrize(("kind", "magic"), [("vfat", b"cidata"), ("iso9660", b"CD001")])
def test_a_partitioned_seed_has_its_file_system_behind_an_mbr(
    tmp_path: Path, host_tools: HostTools, kind: Kind, magic: bytes
) -> None:
    plain = seed_image(tmp_path / "plain", FILES, kind, tools=host_tools)
    whole = seed_image(tmp_path / "whole", FILES, kind, partitioned=True, tools=host_tools)
    data = whole.read_bytes()
    assert data[510:512] == b"\x55\xaa"
    assert data[MIB:] == plain.read_bytes()
    assert magic in data[MIB : MIB + 0x9000]
    assert "start= 2048," in " ".join(host_tools.run("sfdisk", "-d", whole).decode().split())


@pytest.mark.parametrize("kind", ["vfat", "iso9660"])
def test_equal_files_give_equal_bytes(tmp_path: Path, host_tools: HostTools, kind: Kind) -> None:
    for name in ("one", "two"):
        seed_image(tmp_path / name, FILES, kind, tools=host_tools)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one", "two"]


def test_a_large_file_has_room(tmp_path: Path, host_tools: HostTools) -> None:
    large = b"x" * 10 * MIB
    path = seed_image(tmp_path / "seed", {"user-data": large}, tools=host_tools)
    assert host_tools.run("mtype", "-i", path, "::user-data") == large


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="cannot hold a file named"):
        seed_image(tmp_path / "seed", {name: b""})
    assert not list(tmp_path.iterdir())
