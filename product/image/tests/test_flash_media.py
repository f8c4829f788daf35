"""What ``flash`` writes beside a plain disk image: a compressed one, and installation media."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from product.image import cli
from product.image.errors import ImageError
from product.image.flash import flash
from product.image.media.tests.conftest import make_disk
from product.image.tools import HostTools


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, host_tools: HostTools) -> Path:
    return make_disk(tmp_path_factory.mktemp("image") / "disk.img", host_tools)


def iso(folder: Path, tools: HostTools, name: str = "KSOLOISO", *, hybrid: bool = True) -> Path:
    """An ISO image with a boot sector, as xorriso makes one that also starts from a stick."""
    contents = folder / "contents"
    contents.mkdir(exist_ok=True)
    (contents / "root.squashfs").write_bytes(bytes(range(256)) * 9000)
    path = folder / "x.iso"
    path.unlink(missing_ok=True)
    more = []
    if hybrid:
        boot = folder / "boot"
        boot.write_bytes(b"boot".ljust(432, b"\0"))
        more = ["-G", str(boot), "--protective-msdos-label"]
    tools.run("xorriso", "-as", "mkisofs", "-quiet", "-V", name, *more, "-o", path, contents)
    return path


def test_an_iso_is_written_byte_for_byte(host_tools: HostTools, tmp_path: Path) -> None:
    """Its partition table overlaps its file system: nothing of it is the disk image's layout."""
    image, disk, work = iso(tmp_path, host_tools), tmp_path / "disk", tmp_path / "work"
    work.mkdir()
    done = flash(image, disk, host_tools, work)
    assert disk.read_bytes() == image.read_bytes()
    assert done.written == image.stat().st_size


def test_an_iso_takes_nothing_of_one_machine(host_tools: HostTools, tmp_path: Path) -> None:
    image = iso(tmp_path, host_tools)
    with pytest.raises(ImageError, match="takes nothing of one machine") as caught:
        flash(image, tmp_path / "disk", host_tools, tmp_path, files={"user-data": b"x"})
    assert "second medium labelled cidata" in (caught.value.hint or "")
    with pytest.raises(ImageError, match="takes nothing of one machine"):
        flash(image, tmp_path / "disk", host_tools, tmp_path, repository=tmp_path)
    assert not (tmp_path / "disk").exists()


def test_another_iso_is_refused(host_tools: HostTools, tmp_path: Path) -> None:
    image = iso(tmp_path, host_tools, "Debian 13")
    with pytest.raises(ImageError, match="something else, by its name 'Debian 13'"):
        flash(image, tmp_path / "disk", host_tools, tmp_path)
    image = iso(tmp_path, host_tools, hybrid=False)
    with pytest.raises(ImageError, match="no boot sector"):
        flash(image, tmp_path / "disk", host_tools, tmp_path)


@pytest.mark.parametrize(
    ("head", "says"),
    [(b"\x1f\x8b\x08", "is compressed"), (b"\xfd7zXZ\0", "is compressed"),
     (b"QFI\xfb", "disk of a hypervisor"), (b"KDMV", "disk of a hypervisor"),
     (b"vhdxfile", "disk of a hypervisor")],
)  # fmt: skip
def test_what_a_machine_cannot_start_is_refused(
    head: bytes, says: str, host_tools: HostTools, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(head + bytes(1 << 16))
    with pytest.raises(ImageError, match=says):
        flash(tmp_path / "x", tmp_path / "disk", host_tools, tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["kubesolo-image", "flash", *map(str, words)])
    try:
        return cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)


def test_a_compressed_image_is_unpacked_and_gets_the_configuration(
    disk: Path, host_tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, target = tmp_path / "disk.img.zst", tmp_path / "node.img"
    host_tools.run("zstd", "-q", disk, "-o", packed)
    assert run(monkeypatch, packed, target) == 0
    assert target.read_bytes() == disk.read_bytes()
    config = tmp_path / "user-data"
    config.write_text("#cloud-config\nhostname: edge-07\n")
    assert run(monkeypatch, packed, target, "--config", config) == 0
    found = host_tools.run("mtype", "-i", f"{target}@@{1 << 20}", "::kubesolo/user-data")
    assert found == config.read_bytes()
    # Holes stay holes on their way through the copy.
    assert target.stat().st_blocks * 512 < 24 << 20


def test_half_of_a_compressed_image_is_refused(
    disk: Path,
    host_tools: HostTools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packed = tmp_path / "disk.img.zst"
    host_tools.run("zstd", "-q", disk, "-o", packed)
    packed.write_bytes(packed.read_bytes()[:100_000])
    assert run(monkeypatch, packed, tmp_path / "node.img") == 1
    said = capsys.readouterr().err
    assert "cannot be unpacked" in said
    assert "was it copied to its end?" in said
    assert not (tmp_path / "node.img").exists()
