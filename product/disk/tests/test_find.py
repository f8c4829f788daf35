"""What kubesolo.data= names."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.disk.errors import DiskError
from product.disk.find import copies_of, find
from product.image.tools import HostTools

LABEL, UUID = "edge-data", "6b1f2f0e-5a0c-4a3e-9d39-3a3a8a5f2c11"
PARTUUID = "0a0b0c0d-0000-4000-8000-000000000001"


class Host:
    """A /sys and a /dev of plain files."""

    def __init__(self, root: Path, tools: HostTools) -> None:
        self.root = root
        self._tools = tools
        (root / "dev").mkdir()
        (root / "sys/class/block").mkdir(parents=True)

    def add(self, disk: str, *, label: str = "", uuid: str = "", partuuid: str = "") -> None:
        """A disk with one partition, which has an ext4 where it has a label."""
        folder = self.root / "sys/devices" / disk / f"{disk}1"
        folder.mkdir(parents=True)
        (folder / "partition").write_text("1\n")
        for path in (folder, folder.parent):
            (self.root / "sys/class/block" / path.name).symlink_to(path)
        for name in (disk, f"{disk}1"):
            with (self.root / "dev" / name).open("wb") as stream:
                stream.truncate(4 << 20)
        script = f"label: gpt\nstart=2048, uuid={partuuid}\n" if partuuid else "label: gpt\n"
        device = self.root / "dev" / disk
        self._tools.run(
            "sfdisk", "-q", "--no-reread", "--no-tell-kernel", device, stdin=script.encode()
        )
        if label:
            device = self.root / "dev" / f"{disk}1"
            self._tools.run("mke2fs", "-q", "-t", "ext4", "-L", label, "-U", uuid, device)

    def find(self, name: str) -> str | None:
        return find(name, str(self.root))


@pytest.fixture
def host(tmp_path: Path, tools: HostTools) -> Host:
    made = Host(tmp_path, tools)
    made.add("vda", partuuid="ffffffff-0000-4000-8000-000000000001")
    made.add("vdb", label=LABEL, uuid=UUID, partuuid=PARTUUID)
    return made


@pytest.mark.parametrize(
    "name",
    ["/dev/vdb1", f"LABEL={LABEL}", f"UUID={UUID}", f"UUID={UUID.upper()}", f"PARTUUID={PARTUUID}"],
)
def test_each_form_finds_the_device(host: Host, name: str) -> None:
    assert host.find(name) == "/dev/vdb1"


@pytest.mark.parametrize("name", ["/dev/vdz1", "LABEL=edge", f"UUID={UUID[:-1]}0", "PARTUUID=1-1"])
def test_what_is_not_there_is_none(host: Host, name: str) -> None:
    assert host.find(name) is None


@pytest.mark.parametrize("name", ["vdb1", "LABEL=", "ID=x", "TYPE=ext4"])
def test_another_form_is_an_error_that_names_the_forms(host: Host, name: str) -> None:
    with pytest.raises(DiskError, match="names no device"):
        host.find(name)


def test_two_that_fit_are_an_error_that_names_both(host: Host) -> None:
    host.add("sda", label=LABEL, uuid=UUID)
    with pytest.raises(DiskError, match="fits /dev/sda1 and /dev/vdb1"):
        host.find(f"LABEL={LABEL}")
    host.add("sdb", partuuid=PARTUUID)
    with pytest.raises(DiskError, match="fits /dev/sdb1 and /dev/vdb1"):
        host.find(f"PARTUUID={PARTUUID}")


def test_copies_of_a_disk_are_found_by_what_their_tables_say(host: Host) -> None:
    assert copies_of("vdb1", str(host.root)) == []
    host.add("nvme0n", partuuid=PARTUUID)
    assert copies_of("vdb1", str(host.root)) == ["/dev/nvme0n1"]
    assert copies_of("nvme0n1", str(host.root)) == ["/dev/vdb1"]
    # What is no partition has none.
    assert copies_of("vdb", str(host.root)) == []
