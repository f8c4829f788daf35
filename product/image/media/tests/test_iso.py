"""An ISO image: the same bytes at every build, and the disk image comes out of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product.disk.pieces import join, parse
from product.image.media.iso import LABEL, build_iso, volume_id
from product.image.media.usb import build_usb
from product.image.recipe import Arch
from product.image.tools import HostTools
from product.release.errors import RepositoryError
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.stick import served_files
from product.release.tests.slotfiles import make_slot

if TYPE_CHECKING:
    from conftest import Images


def extracted(iso: Path, folder: Path, tools: HostTools) -> Path:
    tools.run("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/kubesolo", folder)
    return folder


def test_identifiers_are_dates_that_tell_volumes_apart() -> None:
    found = {volume_id(f"digest {number}") for number in range(200)}
    assert len(found) == 200
    assert all(len(one.replace("-", "")) == 16 and "2020" <= one[:4] <= "2028" for one in found)


@pytest.mark.parametrize("arch", list(Arch))
def test_the_disk_image_comes_out_and_each_build_is_the_same(
    arch: Arch, images: Images, host_tools: HostTools, tmp_path: Path
) -> None:
    builder, image = images.builder(arch.value), images[arch.value]
    first, second = tmp_path / "first.iso", tmp_path / "second.iso"
    build_iso(builder, image, first)
    build_iso(builder, image, second)
    with first.open("rb") as one, second.open("rb") as two:
        assert (
            hashlib.file_digest(one, "sha256").digest()
            == hashlib.file_digest(two, "sha256").digest()
        )
        one.seek(16 * 2048)
        descriptor = one.read(2048)
    assert descriptor[40:72].decode().strip() == LABEL
    assert descriptor[830:846].decode() == volume_id(image.digest).replace("-", "")
    folder = extracted(first, tmp_path / "files", host_tools)
    document = parse((folder / "disk.json").read_bytes(), "disk.json")
    disk = tmp_path / "disk"
    with disk.open("w+b") as stream:
        join(document, lambda name: os.open(folder / name, os.O_RDONLY), stream.fileno())
        stream.seek(0)
        assert hashlib.file_digest(stream, "sha256").hexdigest() == image.sha256
    # Each slot file is there once: the rest is small.
    slot = sum(path.stat().st_size for path in image.slot.folder.iterdir())
    assert first.stat().st_size < slot + (48 << 20)


def test_a_stick_has_the_releases_behind_the_system(
    images: Images, host_tools: HostTools, tmp_path: Path
) -> None:
    repository, archives = tmp_path / "repository", tmp_path / "archives"
    keys = KeyDirectory.generate(tmp_path / "keys")
    Repository.create(repository, keys).publish(
        make_slot(tmp_path / "slot", "0.2.0"), channel="stable"
    )
    wanted = served_files(repository)
    archives.mkdir()
    (archives / "app.tar").write_bytes(b"app")
    sticks = [tmp_path / "one.img", tmp_path / "two.img"]
    for stick in sticks:
        build_usb(
            images.builder("x86_64"), images["x86_64"], stick,
            repository=repository, images=archives,
        )  # fmt: skip
    assert sticks[0].read_bytes() == sticks[1].read_bytes()
    listing = host_tools.run("sfdisk", "--dump", sticks[0]).decode()
    start = next(
        int(line.split("start=")[1].split(",")[0])
        for line in listing.splitlines()
        if ".img3 :" in line
    )
    place = f"{sticks[0]}@@{start * 512}"
    assert b"KSOLOUPD" in host_tools.run("mdir", "-i", place, "::")
    assert len(wanted) > 5
    for name, path in {**wanted, "images/app.tar": archives / "app.tar"}.items():
        assert host_tools.run("mtype", "-i", place, f"::{name}") == path.read_bytes()
    listed = host_tools.run("mdir", "-b", "-/", "-i", place, "::").decode().split()
    assert {name[3:] for name in listed if not name.endswith("/")} == {*wanted, "images/app.tar"}


def test_a_stick_with_releases_that_nobody_signed_is_not_made(
    images: Images, tmp_path: Path
) -> None:
    repository, stick = tmp_path / "repository", tmp_path / "stick.img"
    keys = KeyDirectory.generate(tmp_path / "keys")
    Repository.create(repository, keys).publish(
        make_slot(tmp_path / "slot", "0.2.0"), channel="stable"
    )
    artifact = next(path for path in (repository / "artifacts").rglob("*") if path.is_file())
    artifact.write_bytes(b"another one")
    with pytest.raises(RepositoryError):
        build_usb(
            images.builder("x86_64"), images["x86_64"], stick, repository=repository, images=None
        )
    assert not stick.exists()
