"""Building a medium: names, the cache, what is kept private, what a kind refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product.image import cli
from product.image.build import Builder
from product.image.cache import file_sha256
from product.image.errors import ImageError
from product.image.media import kinds
from product.image.media.kinds import Kind, MediaOptions, build, file_name, parse_size
from product.image.recipe import Arch
from product.image.tools import HostTools, host_arch

if TYPE_CHECKING:
    from conftest import Images

GIB = 1 << 30
CONFIG = b"#cloud-config\nhostname: edge-07\n"
MADE_OF_THE_DISK = [Kind.DISK, Kind.OCI, Kind.QCOW2, Kind.VMDK, Kind.VHDX]


@pytest.fixture(scope="module")
def builder(images: Images) -> Builder:
    return images.builder(host_arch().value)


def test_names_say_what_it_is() -> None:
    assert file_name(Kind.ISO, "1.2.0", Arch.X86_64, "generic") == "kubesolo-os-1.2.0-x86_64.iso"
    assert file_name(Kind.USB, "1.2.0", Arch.AARCH64, "rpi") == (
        "kubesolo-os-1.2.0-aarch64-rpi.usb.img"
    )
    assert file_name(Kind.DISK, "dev", Arch.X86_64, None) == "kubesolo-os-dev-x86_64.img.zst"
    names = {file_name(kind, "1.0.0", Arch.X86_64, None) for kind in Kind}
    assert len(names) == len(Kind)


@pytest.mark.parametrize(
    ("text", "size"), [("8G", 8 * GIB), ("500m", 500 << 20), ("1TiB", 1 << 40), ("2GB", 2 * GIB)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8", "-8G", "8.5G", "8K", "G", "9" * 12 + "G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ImageError, match="is no size of a disk"):
        parse_size(text)


@pytest.mark.parametrize("kind", MADE_OF_THE_DISK)
def test_two_caches_give_the_same_bytes(
    kind: Kind, builder: Builder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = builder.image("0.1.0")
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    first, second = (
        kinds.write(kind, builder, image, folder, MediaOptions()) for folder in folders
    )
    assert file_sha256(first) == file_sha256(second)
    assert first.name == second.name == file_name(kind, "0.1.0", builder.arch, "generic")


def test_a_medium_is_kept_and_its_sum_lies_beside_it(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = build(Kind.VHDX, builder, "0.1.0", tmp_path)
    assert medium.path == tmp_path / file_name(Kind.VHDX, "0.1.0", builder.arch, None)
    assert (medium.size, medium.sha256) == (medium.path.stat().st_size, file_sha256(medium.path))
    done = subprocess.run(["sha256sum", "-c", medium.sum_path.name], cwd=tmp_path, check=False)
    assert done.returncode == 0

    def fail(*_: object) -> Path:
        raise AssertionError("it was built again")

    monkeypatch.setattr(kinds, "write", fail)
    named = tmp_path / "node.vhdx"
    again = build(Kind.VHDX, builder, "0.1.0", named)
    assert (again.path, again.sha256) == (named, medium.sha256)
    with pytest.raises(AssertionError, match="built again"):
        build(Kind.VHDX, builder, "0.1.0", named, options=MediaOptions(disk_size=9 * GIB))


def test_a_medium_with_configuration_is_its_owners_alone(
    builder: Builder, host_tools: HostTools, tmp_path: Path
) -> None:
    def kept() -> set[str]:
        return {path.name for path in builder.cache.trees.glob(f"medium-qcow2-{builder.arch}-*")}

    before = kept()
    options = MediaOptions(files={"user-data": CONFIG})
    medium = build(Kind.QCOW2, builder, "0.1.0", tmp_path, options=options)
    assert kept() == before
    assert medium.path.stat().st_mode & 0o777 == 0o600
    raw = tmp_path / "raw.img"
    host_tools.run("qemu-img", "convert", "-O", "raw", medium.path, raw)
    found = host_tools.run("mtype", "-i", f"{raw}@@{1 << 20}", "::kubesolo/user-data")
    assert found == CONFIG


@pytest.mark.parametrize("kind", [Kind.ISO, Kind.USB, Kind.OCI])
def test_what_installs_many_machines_takes_no_configuration_of_one(
    kind: Kind, builder: Builder, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="holds no configuration of one machine") as caught:
        build(kind, builder, "0.1.0", tmp_path, options=MediaOptions(files={"user-data": CONFIG}))
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_only_a_stick_brings_releases(builder: Builder, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="takes no releases"):
        build(Kind.ISO, builder, "0.1.0", tmp_path, options=MediaOptions(repository=tmp_path))
    with pytest.raises(ImageError, match="is no release repository"):
        build(Kind.USB, builder, "0.1.0", tmp_path, options=MediaOptions(repository=tmp_path))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--kind", "qcow2", "--disk-size", "much"], "is no size of a disk"),
        (["--kind", "qcow2", "--disk-size", "1G"], "cannot hold the image"),
        (["--kind", "disk", "--output", "/nonexistent"], "there is no folder /nonexistent"),
        (["--kind", "disk", "--config", "/nonexistent"], "/nonexistent cannot be read"),
        (["--kind", "oci", "--config", "CONFIG"], "holds no configuration of one machine"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "user-data"
    config.write_bytes(CONFIG)
    monkeypatch.chdir(tmp_path)
    arguments = [str(config) if word == "CONFIG" else word for word in words]
    monkeypatch.setattr(
        sys, "argv", ["kubesolo-image", "media", "--recipe", "appliance", *arguments]
    )
    assert cli.main() == 1
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["user-data"]
