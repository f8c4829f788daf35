"""Sticks with what a repository serves."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from product.disk.labels import Volume, read_volume
from product.image.tools import HostTools
from product.release.cli import main
from product.release.contents import needed_files
from product.release.errors import ReleaseError, RepositoryError
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.state import read_state
from product.release.stick import make_stick
from product.release.tests.slotfiles import make_slot


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    keys = KeyDirectory.generate(tmp_path / "keys")
    made = Repository.create(tmp_path / "repository", keys)
    for version in ("0.2.0", "0.3.0"):
        made.publish(make_slot(tmp_path / version, version), channel="stable")
    made.publish(make_slot(tmp_path / "arm", "0.3.0", "aarch64"), channel="stable")
    return tmp_path / "repository"


def partition_of(image: Path, folder: Path) -> Path:
    path = folder / "partition"
    path.write_bytes(image.read_bytes()[1 << 20 :])
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def wanted(repository: Path) -> dict[str, bytes]:
    return {
        name: (repository / name).read_bytes()
        for name in needed_files(repository, read_state(repository))
    }


def test_an_image_is_a_stick_with_what_nodes_need(
    repository: Path, tmp_path: Path, host_tools: HostTools
) -> None:
    image = tmp_path / "stick.img"
    made = make_stick(repository, image, tools=host_tools)
    expected = wanted(repository)
    assert made.files == len(expected) == 14
    partition = partition_of(image, tmp_path)
    assert read_volume(str(partition)) == Volume("vfat", ("KSOLOUPD",))
    assert partition.read_bytes()[82:87] == b"FAT32"
    # One partition of the type FAT32 (LBA), from 1 MiB on to the end.
    entry = image.read_bytes()[446:462]
    assert (entry[4], int.from_bytes(entry[8:12], "little")) == (0x0C, 2048)
    assert image.read_bytes()[462:510] == bytes(48)
    (tmp_path / "out").mkdir()
    host_tools.run("mcopy", "-s", "-i", partition, "::*", tmp_path / "out")
    assert contents(tmp_path / "out") == expected
    host_tools.run("fsck.fat", "-n", partition)


def test_equal_repositories_give_equal_images(
    repository: Path, tmp_path: Path, host_tools: HostTools
) -> None:
    shutil.copytree(repository, tmp_path / "copy")
    for name in ("repository", "copy"):
        make_stick(tmp_path / name, tmp_path / f"{name}.img", tools=host_tools)
    assert (tmp_path / "repository.img").read_bytes() == (tmp_path / "copy.img").read_bytes()


def test_a_mounted_stick_is_kept_up_to_date(repository: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (stick / "photos").mkdir(parents=True)
    (stick / "photos/a.json").write_bytes(b"mine")
    made = make_stick(repository, stick)
    assert (made.files, made.removed) == (14, 0)
    expected = wanted(repository)
    assert contents(stick) == {**expected, "photos/a.json": b"mine"}
    artifact = next(name for name in expected if name.startswith("artifacts/"))
    (stick / artifact).write_bytes(b"rotten")
    (stick / "artifacts/left.new").write_bytes(b"cut off")
    keys = KeyDirectory(tmp_path / "keys")
    Repository.open(repository, keys).publish(
        make_slot(tmp_path / "0.4.0", "0.4.0"), channel="stable"
    )
    made = make_stick(repository, stick)
    # Four artifacts, a manifest, targets and snapshot; and what was cut off.
    assert made.removed == 8
    assert contents(stick) == {**wanted(repository), "photos/a.json": b"mine"}


def test_the_timestamp_comes_last(repository: Path) -> None:
    assert needed_files(repository, read_state(repository))[-1] == "metadata/timestamp.json"


def test_a_file_is_not_overwritten(repository: Path, tmp_path: Path) -> None:
    image = tmp_path / "stick.img"
    image.write_bytes(b"mine")
    with pytest.raises(ReleaseError, match="exists already"):
        make_stick(repository, image)
    assert image.read_bytes() == b"mine"


def test_a_stick_that_is_too_small(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (tmp_path / "stick").mkdir()
    with pytest.raises(ReleaseError, match="0 MiB left, 1 MiB are needed"):
        make_stick(repository, tmp_path / "stick")
    assert contents(tmp_path / "stick") == {}


def test_what_nodes_would_refuse_is_brought_to_no_stick(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="expired on"):
        make_stick(repository, tmp_path / "a", now=datetime.now(UTC) + timedelta(days=90))
    next((repository / "artifacts").iterdir()).write_bytes(b"rotten")
    for file in (repository / "artifacts").iterdir():
        file.write_bytes(b"rotten")
    with pytest.raises(RepositoryError, match="nodes would refuse"):
        make_stick(repository, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_command(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stick", str(repository), str(tmp_path / "stick.img")]) == 0
    assert "14 files, 1 MB, labelled KSOLOUPD" in capsys.readouterr().out
    (tmp_path / "mounted").mkdir()
    assert main(["stick", str(repository), str(tmp_path / "mounted")]) == 0
    assert "its label must be KSOLOUPD" in capsys.readouterr().out
    assert main(["stick", str(repository), str(tmp_path / "stick.img")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["stick", str(tmp_path), str(tmp_path / "other.img")]) == 1
    assert "is not a release repository" in capsys.readouterr().err
    assert main(["stick", str(repository), "/nowhere/stick.img"]) == 1
