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
    for name in ("metadata/timestamp.json", "targets/x.json", "artifacts/ab/root", "state/key"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(name)
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
    for name, text in (("artifacts/ab/root", b"artifacts/ab/root"), ("images/app.tar", b"app")):
        assert host_tools.run("mtype", "-i", place, f"::{name}") == text
    assert b"state" not in host_tools.run("mdir", "-b", "-i", place, "::").lower()
