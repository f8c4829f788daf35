"""The data of a system that runs from a medium: labelled, unique, and of no installed system."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.disk.errors import DiskError
from product.disk.find import find_for_live
from product.image.tools import HostTools

MIB = 1 << 20


def device(root: Path, name: str, source: Path, part_of: str | None = None) -> None:
    """Show a file as a disk, or as a partition of one."""
    folder = root / "sys/devices" / (part_of or "") / name
    folder.mkdir(parents=True, exist_ok=True)
    if part_of:
        (folder / "partition").write_text("1\n")
    (root / "sys/class/block").mkdir(parents=True, exist_ok=True)
    (root / "sys/class/block" / name).symlink_to(folder)
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / name).symlink_to(source)


@pytest.fixture
def labelled(tmp_path: Path, tools: HostTools) -> Path:
    """An ext4 labelled KSOLODATA."""
    path = tmp_path / "data"
    with path.open("wb") as stream:
        stream.truncate(8 * MIB)
    tools.run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "KSOLODATA", path)
    return path


def table(path: Path, name: str, tools: HostTools) -> Path:
    with path.open("wb") as stream:
        stream.truncate(8 * MIB)
    script = f"label: gpt\nstart=2048, size=2048, name={name}\nstart=4096, size=2048\n"
    tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=script.encode())
    return path


def test_none_one_and_two(tmp_path: Path, labelled: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(MIB))
    device(tmp_path, "vda", empty)
    assert find_for_live(str(tmp_path)) is None
    device(tmp_path, "vdb", labelled)
    assert find_for_live(str(tmp_path)) == "/dev/vdb"
    device(tmp_path, "vdc", labelled)
    with pytest.raises(DiskError, match="/dev/vdb and /dev/vdc are both labelled KSOLODATA"):
        find_for_live(str(tmp_path))


@pytest.mark.parametrize(("first", "found"), [("KSOLOEFI", None), ("others", "/dev/vda2")])
def test_an_installed_systems_data_are_left_alone(
    first: str, found: str | None, tmp_path: Path, labelled: Path, tools: HostTools
) -> None:
    device(tmp_path, "vda", table(tmp_path / "disk", first, tools))
    device(tmp_path, "vda2", labelled, part_of="vda")
    assert find_for_live(str(tmp_path)) == found
