"""What kubesolo.data= names."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.disk.errors import DiskError
from product.disk.find import find
from product.image.tools import HostTools

LABEL, UUID = "edge-data", "6b1f2f0e-5a0c-4a3e-9d39-3a3a8a5f2c11"
PARTUUID = "0a0b0c0d-0000-4000-8000-000000000001"


class Host:
    """A /sys and a /dev of plain files."""

    def __init__(self, root: Path, tools: HostTools) -> None:
        self.root = root
        self._tools = tools
        (root / "dev").mkdir()

    def add(self, name: str, *, label: str = "", uuid: str = "", partuuid: str = "") -> None:
        folder = self.root / "sys/class/block" / name
        folder.mkdir(parents=True)
        (folder / "uevent").write_text(f"DEVNAME={name}\nPARTUUID={partuuid}\n")
        device = self.root / "dev" / name
        with device.open("wb") as stream:
            stream.truncate(4 << 20)
        if label:
            self._tools.run("mke2fs", "-q", "-t", "ext4", "-L", label, "-U", uuid, device)

    def find(self, name: str) -> str | None:
        return find(name, str(self.root))


@pytest.fixture
def host(tmp_path: Path, tools: HostTools) -> Host:
    made = Host(tmp_path, tools)
    made.add("vda4", partuuid="ffffffff-0000-4000-8000-000000000001")
    made.add("vdb1", label=LABEL, uuid=UUID, partuuid=PARTUUID)
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
    host.add("sda1", label=LABEL, uuid=UUID)
    with pytest.raises(DiskError, match="fits /dev/sda1 and /dev/vdb1"):
        host.find(f"LABEL={LABEL}")
    host.add("sda2", partuuid=PARTUUID.upper())
    with pytest.raises(DiskError, match="fits /dev/sda2 and /dev/vdb1"):
        host.find(f"PARTUUID={PARTUUID}")
