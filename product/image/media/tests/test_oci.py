"""The OCI image of the real image: what it holds, and the disk that comes back out of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from product.disk.pieces import parse
from product.image.build import Builder, Image
from product.image.cache import file_sha256
from product.image.errors import ImageError
from product.image.media.from_oci import disk_from
from product.image.media.oci import merge, write_image
from product.image.recipe import Arch
from product.image.tools import HostTools, host_arch

if TYPE_CHECKING:
    from conftest import Images

SLOT = ["initramfs.img", "kernel.env", "manifest.json", "root.squashfs", "vmlinuz"]


@pytest.fixture(scope="module")
def builder(images: Images) -> Builder:
    return images.builder(host_arch().value)


@pytest.fixture(scope="module")
def image(builder: Builder) -> Image:
    return builder.image("0.1.0")


@pytest.fixture(scope="module")
def layout(builder: Builder, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oci") / "os.oci.tar"
    write_image(builder, image, path, channel="beta")
    return path


def unpacked(layout: Path, folder: Path) -> Path:
    with tarfile.open(layout) as tar:
        tar.extractall(folder, filter="data")
    return folder


def blob(folder: Path, row: dict[str, Any]) -> Any:
    return json.loads((folder / "blobs/sha256" / row["digest"][7:]).read_bytes())


def back(source: Path, tools: HostTools, folder: Path, arch: Arch | None = None) -> Path:
    work, output = folder / "work", folder / "disk.img"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    disk_from(source, arch or host_arch(), tools, work, output)
    return output


def test_the_disk_comes_back_byte_for_byte(
    layout: Path, image: Image, host_tools: HostTools, tmp_path: Path
) -> None:
    output = back(layout, host_tools, tmp_path)
    assert file_sha256(output) == image.sha256
    assert output.stat().st_blocks * 512 < 160 << 20
    folder = unpacked(layout, tmp_path / "folder")
    assert file_sha256(back(folder, host_tools, tmp_path)) == image.sha256


def test_each_file_of_the_slot_is_a_layer_and_is_there_once(
    layout: Path, image: Image, tmp_path: Path
) -> None:
    folder = unpacked(layout, tmp_path / "folder")
    (row,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    manifest = blob(folder, row)
    config = blob(folder, manifest["config"])
    assert config["os"] == row["platform"]["os"] == "linux"
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[host_arch().value]
    assert config["architecture"] == row["platform"]["architecture"] == architecture
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    said = manifest["annotations"]
    assert said["io.kubesolo.os.version"] == "0.1.0"
    assert said["io.kubesolo.os.channel"] == "beta"
    assert said["io.kubesolo.os.architecture"] == host_arch().value
    assert said["io.kubesolo.os.disk.sha256"] == image.sha256
    assert said["org.opencontainers.image.title"] == "KubeSolo OS"
    assert row["annotations"]["org.opencontainers.image.ref.name"] == "0.1.0"
    files = {}
    for layer in manifest["layers"]:
        path = folder / "blobs/sha256" / layer["digest"][7:]
        assert file_sha256(path) == layer["digest"][7:]
        assert path.stat().st_size == layer["size"]
        with tarfile.open(path) as tar:
            above, one = tar.getmembers()
            assert (above.name, above.isdir()) == ("kubesolo-os", True)
            assert (one.uid, one.mode) == (0, 0o644)
            content = tar.extractfile(one)
            assert content is not None
            files[one.name.removeprefix("kubesolo-os/")] = content.read()
    assert sorted(files) == sorted([*SLOT, "disk.json", "rest.bin", "sbom.spdx.json"])
    for name in SLOT:
        assert files[name] == (image.slot.folder / name).read_bytes()
    document = parse(files["disk.json"], "disk.json")
    covered = dict.fromkeys(files, 0)
    for piece in document.pieces:
        covered[piece.file] += piece.length
    # All of the large files comes from themselves; what is left over is small.
    for name in ("root.squashfs", "vmlinuz", "initramfs.img"):
        assert covered[name] == len(files[name])
    assert len(files["rest.bin"]) < 12 << 20


def test_the_same_image_gives_the_same_bytes(
    layout: Path, builder: Builder, image: Image, tmp_path: Path
) -> None:
    write_image(builder, image, tmp_path / "again", channel="beta")
    assert file_sha256(tmp_path / "again") == file_sha256(layout)


def _row_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    index = json.loads((folder / "index.json").read_bytes())
    return index, index["manifests"][0]


def with_layers(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace each layer, as a registry's client does that compresses them."""
    index, row = _row_of(folder)
    manifest = blob(folder, row)
    for layer in manifest["layers"]:
        old = folder / "blobs/sha256" / layer["digest"][7:]
        data = change(old.read_bytes())
        old.unlink()
        layer["digest"], layer["size"] = add(folder, data), len(data)
    data = json.dumps(manifest).encode()
    row["digest"], row["size"] = add(folder, data), len(data)
    (folder / "index.json").write_text(json.dumps(index))


def add(folder: Path, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / "blobs/sha256" / sha256).write_bytes(data)
    return f"sha256:{sha256}"


def test_layers_that_were_compressed_on_their_way_are_read(
    layout: Path, image: Image, host_tools: HostTools, tmp_path: Path
) -> None:
    for name, compress in (
        ("gzip", lambda data: gzip.compress(data, 1)),
        ("zstd", lambda data: host_tools.run("zstd", "-q", "-1", "-c", stdin=data)),
    ):
        folder = unpacked(layout, tmp_path / name)
        with_layers(folder, compress)
        assert file_sha256(back(folder, host_tools, tmp_path)) == image.sha256


@pytest.mark.parametrize("file", ["root.squashfs", "rest.bin", "disk.json"])
def test_a_changed_byte_of_a_layer_is_found(
    file: str, layout: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    """By the layer's digest; where that was made to fit, by those of ranges and of the whole."""
    folder = unpacked(layout, tmp_path / "folder")
    _, row = _row_of(folder)
    for layer in blob(folder, row)["layers"]:
        path = folder / "blobs/sha256" / layer["digest"][7:]
        with tarfile.open(path) as tar:
            found = tar.getmembers()[1]
        if found.name.endswith(file):
            break
    middle = found.offset_data + found.size // 2
    with path.open("r+b") as stream:
        stream.seek(middle)
        byte = stream.read(1)
        stream.seek(middle)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ImageError, match="another content than its name says"):
        back(folder, host_tools, tmp_path)
    with_layers(folder, lambda data: data)
    with pytest.raises(ImageError, match="does not give its disk"):
        back(folder, host_tools, tmp_path)
    assert not (tmp_path / "disk.img").exists()
    assert not (tmp_path / "disk.img.part").exists()


def test_a_disk_of_other_pieces_is_refused(
    layout: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    """Each range is right, and one is missing: the whole tells."""
    folder = unpacked(layout, tmp_path / "folder")

    def change(data: bytes) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found = tar.getmembers()[1]
            if not found.name.endswith("disk.json"):
                return data
            content = tar.extractfile(found)
            assert content is not None
            document = parse(content.read(), "disk.json")
        shorter = document._replace(pieces=document.pieces[:-1]).to_bytes()
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w") as written:
            info = tarfile.TarInfo(found.name)
            info.size = len(shorter)
            written.addfile(info, io.BytesIO(shorter))
        return output.getvalue()

    with_layers(folder, change)
    with pytest.raises(ImageError, match="does not give its disk: that has the SHA-256"):
        back(folder, host_tools, tmp_path)
    assert not (tmp_path / "disk.img").exists()


def test_an_image_of_another_architecture_is_named(
    layout: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    other = Arch.AARCH64 if host_arch() is Arch.X86_64 else Arch.X86_64
    with pytest.raises(ImageError, match=r"has no images for \w+; it has images for \w+") as caught:
        back(layout, host_tools, tmp_path, other)
    assert "--arch" in (caught.value.hint or "")


def test_one_index_names_the_images_of_several_architectures(
    layout: Path, image: Image, host_tools: HostTools, tmp_path: Path
) -> None:
    """The other one here is the same image under another name, which takes a second less."""
    folder = unpacked(layout, tmp_path / "folder")
    index, row = _row_of(folder)
    other = "arm64" if row["platform"]["architecture"] == "amd64" else "amd64"
    row["platform"]["architecture"] = other
    manifest = blob(folder, row)
    manifest["annotations"]["other"] = "yes"
    data = json.dumps(manifest).encode()
    row["digest"], row["size"] = add(folder, data), len(data)
    (folder / "index.json").write_text(json.dumps(index))
    packed = tmp_path / "other.tar"
    with tarfile.open(packed, "w") as tar:
        for name in ("index.json", "oci-layout", "blobs"):
            tar.add(folder / name, name)
    both = tmp_path / "both.tar"
    merge([layout, packed], "0.1.0", both)
    with tarfile.open(both) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    for arch in Arch:
        assert file_sha256(back(both, host_tools, tmp_path, arch)) == image.sha256


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no OCI image layout"), (b"", "no OCI image"), (b"x" * 2000, "neither a folder")],
)
def test_what_is_no_image_is_refused(
    content: bytes | None, says: str, host_tools: HostTools, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    if content is None:
        source.mkdir()
    else:
        source.write_bytes(content)
    with pytest.raises(ImageError, match=says):
        back(source, host_tools, tmp_path)


def test_an_image_of_something_else_is_refused(
    layout: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    folder = unpacked(layout, tmp_path / "folder")
    with_layers(folder, lambda data: data.replace(b"kubesolo-os/", b"something-x/"))
    with pytest.raises(ImageError, match=r"it has no /kubesolo-os/disk\.json"):
        back(folder, host_tools, tmp_path)


def test_an_archive_that_ends_early_is_refused(
    layout: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    half = tmp_path / "half.tar"
    half.write_bytes(layout.read_bytes()[: 20 << 20])
    with pytest.raises(ImageError):
        back(half, host_tools, tmp_path)
    assert not (tmp_path / "disk.img").exists()
