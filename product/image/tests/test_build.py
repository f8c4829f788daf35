"""Whole builds: the same bytes in another folder by another user, nothing done when unchanged."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from product.image import disk, initramfs, progress, rootfs, sbom
from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache, file_sha256
from product.image.dep5 import declared
from product.image.recipe import Arch
from product.image.tests.copies import link_copy
from product.image.tools import IMAGES, HostTools
from product.manifest import ARTIFACT_NAMES, INITRAMFS_NAME, Manifest

# The user that a build by root changes to: it owns nothing and may mount nothing.
NOBODY = 65534


def _own_folders(folder: Path, user: int) -> None:
    """Files stay as they are: they are links to the cache's."""
    for parent, folders, _ in os.walk(folder):
        for name in [".", *folders]:
            os.chown(Path(parent) / name, user, user, follow_symlinks=False)


def test_an_ordinary_user_in_another_folder_builds_the_same_bytes(
    cache: Cache, host_tools: HostTools
) -> None:
    """Neither the user, the folder, the umask, the time nor the cache's state reaches the image."""
    first = Builder(Arch.X86_64, cache=cache, tools=host_tools).image("0.1.0")
    # Not pytest's folder: only its owner may enter that one.
    other = Path(tempfile.mkdtemp(prefix="kubesolo-other-folder-"))
    try:
        link_copy(cache.blobs, other / "blobs")
        link_copy(host_tools.root, other / "tools")
        shutil.copytree(IMAGES, other / "images", symlinks=True)
        shutil.copytree(rootfs.PRODUCT, other / "product")
        (other / "cache").mkdir()
        (other / "blobs").rename(other / "cache/blobs")
        root = os.geteuid() == 0
        if root:
            other.chmod(0o755)
            _own_folders(other, NOBODY)
        # What the first line of a build imports may lie where the other user cannot read.
        with progress.step("build as another user"):
            subject = sbom.Subject("x", "0.1.0", "x86_64", "x", "0" * 64, 0)
            sbom.write(subject, [], {"": declared(b"", sbom.known_licences())})
        answer_read, answer_write = os.pipe()
        child = os.fork()
        if child == 0:
            answer = "no answer"
            try:
                os.chdir(other)
                # As users have it whose group is their own.
                os.umask(0o002)
                for folder, _, files in os.walk(other / "product"):
                    for name in [".", *files]:
                        path = Path(folder, name)
                        path.chmod(path.stat().st_mode | 0o060)
                if root:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                rootfs.PRODUCT = other / "product"
                tools = HostTools(
                    other / "tools", host_tools.arch, host_tools.digest, host_tools.drift
                )
                builder = Builder(
                    Arch.X86_64,
                    cache=Cache(other / "cache"),
                    tools=tools,
                    recipe=other / "images" / DEFAULT_RECIPE.name,
                )
                image = builder.image("0.1.0")
                answer = f"{file_sha256(image.disk)} {file_sha256(image.sbom)}"
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            finally:
                os.write(answer_write, answer.encode())
                os._exit(0)
        os.close(answer_write)
        with os.fdopen(answer_read) as stream:
            second = stream.read()
        os.waitpid(child, 0)
        assert second == f"{file_sha256(first.disk)} {file_sha256(first.sbom)}"
        assert second.split()[0] == first.sha256
    finally:
        shutil.rmtree(other, ignore_errors=True)


def test_a_build_with_nothing_changed_builds_nothing(
    cache: Cache, host_tools: HostTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    Builder(Arch.X86_64, cache=cache, tools=host_tools).image("0.1.0")

    def refuse(*_args: object, **_kwargs: object) -> bytes:
        raise AssertionError("a program ran")

    monkeypatch.setattr(HostTools, "run", refuse)
    Builder(Arch.X86_64, cache=cache, tools=host_tools).image("0.1.0")


def test_the_initramfs_is_packed_once_for_all_versions_and_anew_for_another_init(
    cache: Cache, host_tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def initramfs_of(folder: Path, version: str) -> str:
        builder = Builder(
            Arch.X86_64, cache=cache, tools=host_tools, recipe=folder / DEFAULT_RECIPE.name
        )
        return file_sha256(builder.slot(version).folder / INITRAMFS_NAME)

    first = initramfs_of(DEFAULT_RECIPE.parent, "0.1.0")
    images = tmp_path / "images"
    shutil.copytree(DEFAULT_RECIPE.parent, images, symlinks=True)
    with (images / "boot/init").open("a") as init:
        init.write(f"# {uuid.uuid4()}\n")
    other = initramfs_of(images, "0.1.0")
    assert other != first

    def refuse(*_args: object) -> None:
        raise AssertionError("it was packed again")

    monkeypatch.setattr(initramfs, "build", refuse)
    assert initramfs_of(images, "0.1.1") == other


@pytest.mark.parametrize("arch", list(Arch))
def test_the_disk_has_the_fixed_layout(cache: Cache, host_tools: HostTools, arch: Arch) -> None:
    image = Builder(arch, cache=cache, tools=host_tools).image("0.1.0")
    table = json.loads(host_tools.run("sfdisk", "--json", image.disk))["partitiontable"]
    assert table["label"] == "gpt"
    rows = [(row["name"], row["size"] * 512 // disk.MIB) for row in table["partitions"]]
    assert rows[:3] == [("KSOLOEFI", 256), ("KSOLOA", 512), ("KSOLOB", 512)]
    assert rows[3][0] == "KSOLODATA"
    # The first boot makes the data file system, see product.disk.
    assert [row.get("attrs") for row in table["partitions"]] == [None, None, None, "GUID:59"]
    with image.disk.open("rb") as stream:
        stream.seek(disk.layout()[3].offset)
        assert not any(stream.read(disk.MIB))
    for partition in disk.layout()[1:3]:
        device = f"{image.disk}?offset={partition.offset}"
        host_tools.run("e2fsck", "-f", "-n", device)
        owner = host_tools.run("debugfs", "-R", "stat /", device).decode()
        assert "User:     0   Group:     0" in owner
    manifest = image.slot.manifest
    assert manifest.architecture == arch
    for name in ARTIFACT_NAMES:
        assert manifest.artifact(name).sha256 == file_sha256(image.slot.folder / name)


def test_a_slot_leaves_room_for_the_next_one(cache: Cache, host_tools: HostTools) -> None:
    """An update writes into a slot of 512 MiB: image and 10 % must fit with the kernel."""
    slot = Builder(Arch.AARCH64, cache=cache, tools=host_tools).slot("0.1.0")
    assert slot.manifest.total_size * 1.1 < disk.SLOT_MIB * disk.MIB
    assert Manifest.parse((slot.folder / "manifest.json").read_bytes()).version == "0.1.0"


def test_times_and_owners_in_the_root_are_the_recipes(
    cache: Cache, host_tools: HostTools, tmp_path: Path
) -> None:
    builder = Builder(Arch.X86_64, cache=cache, tools=host_tools)
    listing = host_tools.run(
        "unsquashfs", "-lln", builder.slot("0.1.0").folder / "root.squashfs"
    ).decode()
    day = time.strftime("%Y-%m-%d", time.gmtime(builder.recipe.source_date))
    rows = [line.split(None, 5) for line in listing.splitlines() if line[:1] in "-dlcb"]
    assert len(rows) > 1000
    # The group shadow is 42.
    [shadow] = [row for row in rows if row[5] == "squashfs-root/etc/shadow"]
    assert shadow[:2] == ["-rw-r-----", "0/42"]
    assert {row[1] for row in rows if row is not shadow} == {"0/0"}
    assert {row[3] for row in rows} == {day}
    assert not [row for row in rows if row[0][3] == "s" or row[0][6] == "s"], "set-id programs"


def test_a_folder_that_modules_have_left_is_no_part_of_the_image(
    host_tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout keeps the byte code of moved modules, and with it their folder."""
    product = tmp_path / "product"
    shutil.copytree(rootfs.PRODUCT, product, ignore=shutil.ignore_patterns("__pycache__"))
    (product / "agent/moved/__pycache__").mkdir(parents=True)
    (product / "agent/moved/__pycache__/x.cpython-313.pyc").write_bytes(b"old")
    monkeypatch.setattr(rootfs, "PRODUCT", product)
    tree = tmp_path / "tree"
    rootfs.copy_code(tree, host_tools)
    shipped = tree / rootfs.CODE / "product/agent"
    assert (shipped / "update/trial.py").exists()
    assert not (shipped / "moved").exists()
