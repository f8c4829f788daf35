"""Which disk is meant, and what may be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.image.seed import seed_image
from product.image.tools import HostTools
from product.installer.contents import what_holds
from product.installer.disks import Disk, Rule, choose, list_disks, require_empty
from product.installer.errors import InstallError, NoDiskError, NotEmptyError
from product.installer.menu import choose_disk

GIB = 1 << 30
MIB = 1 << 20
SMALL = Disk("/dev/vda", 2 * GIB, "QEMU HARDDISK", "one", "naa.5000")
LARGE = Disk("/dev/vdb", 8 * GIB, "Fast 900", "two", holds="ext4 photos")
DISKS = [SMALL, LARGE]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (Rule(serial="two"), LARGE),
        (Rule(model="fast*"), LARGE),
        (Rule(path="/dev/vda"), SMALL),
        (Rule(pick="smallest"), SMALL),
        (Rule(pick="largest"), LARGE),
        (Rule(model="*", pick="largest"), LARGE),
        (Rule(wwn="0x5000"), SMALL),
        (Rule(min_size=3 * GIB), LARGE),
    ],
)
def test_a_rule_means_one_disk(rule: Rule, wanted: Disk) -> None:
    assert choose(DISKS, rule, GIB) == wanted


@pytest.mark.parametrize(
    ("rule", "least", "words"),
    [
        (Rule(), GIB, r"2 disks fit the rule \(no condition.*none is taken: /dev/vda .*/dev/vdb"),
        (Rule(serial="three"), GIB, r"no disk fits the rule \(serial three\); there is: /dev/vda"),
        (Rule(serial="one", path="/dev/vdb"), GIB, "no disk fits"),
        (Rule(path="/dev/vda"), 4 * GIB, "/dev/vda: it is smaller than the 4.3 GB"),
    ],
)
def test_else_none_is_taken(rule: Rule, least: int, words: str) -> None:
    with pytest.raises(NoDiskError, match=words) as found:
        choose(DISKS, rule, least)
    assert found.value.exit_code == 3


def test_one_that_is_too_small_does_not_count() -> None:
    assert choose(DISKS, Rule(), 4 * GIB) == LARGE
    assert choose(DISKS, Rule(pick="smallest"), 4 * GIB) == LARGE


def test_what_lies_on_a_disk_goes_only_if_told() -> None:
    require_empty(SMALL, wipe=False)
    require_empty(LARGE, wipe=True)
    with pytest.raises(NotEmptyError, match="/dev/vdb is not empty: ext4 photos") as found:
        require_empty(LARGE, wipe=False)
    assert found.value.exit_code == 4


def test_what_a_disk_holds(tmp_path: Path, host_tools: HostTools) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 << 20))
    assert what_holds(str(disk)) == ""
    for place in (0, (4 << 20) - 1):
        data = bytearray(4 << 20)
        data[place] = 1
        disk.write_bytes(data)
        assert what_holds(str(disk)) == "something unknown"
    seed_image(disk, {"user-data": b"x"}, tools=host_tools)
    assert what_holds(str(disk)) == "a file system: vfat cidata"


def fake(root: Path, name: str, size: int, **files: str) -> None:
    folder = root / "sys/class/block" / name
    (folder / "device").mkdir(parents=True)
    (folder / "size").write_text(f"{size // 512}\n")
    (folder / "queue").mkdir()
    for key, text in files.items():
        (folder / key.replace("__", "/")).write_text(text)
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / name).write_bytes(bytes(1 << 20))


def test_what_cannot_be_taken_is_shown_with_the_reason(tmp_path: Path) -> None:
    fake(tmp_path, "sda", GIB, device__model="Stick\n", device__vendor="ACME    \n")
    fake(tmp_path, "vda", GIB, serial="s1\n", device__vendor="0x1af4\n")
    fake(tmp_path, "vda1", GIB, partition="1\n")
    fake(tmp_path, "sdb", GIB, ro="1\n")
    fake(tmp_path, "sdc", 0)
    fake(tmp_path, "sdd", GIB, dev="8:48\n")
    fake(tmp_path, "sde", GIB, queue__logical_block_size="4096\n")
    for name in ("loop0", "ram0", "sr0", "dm-0", "mmcblk0boot0"):
        fake(tmp_path, name, GIB)
    (tmp_path / "proc/self").mkdir(parents=True)
    mounted = "1 0 8:48 / /data rw - ext4 /dev/sdd rw\n"
    (tmp_path / "proc/self/mountinfo").write_text(mounted)
    found = list_disks({"sda": "it holds the medium"}, str(tmp_path))
    assert {disk.path: disk.reason for disk in found} == {
        "/dev/sda": "it holds the medium",
        "/dev/sdb": "it is read-only",
        "/dev/sdd": "it is in use: sdd is mounted at /data",
        "/dev/sde": "its sectors have 4096 bytes, the system's image needs 512",
        "/dev/vda": "",
    }
    assert [(disk.model, disk.serial) for disk in found if not disk.reason] == [("", "s1")]
    assert choose(found, Rule(pick="smallest"), MIB).path == "/dev/vda"
    with pytest.raises(NoDiskError, match="/dev/sda: it holds the medium"):
        choose(found, Rule(path="/dev/sda"), MIB)


def test_two_of_one_size_are_not_told_apart() -> None:
    twins = [SMALL, SMALL._replace(path="/dev/vdc")]
    with pytest.raises(NoDiskError, match="2 disks are the smallest, and none is taken"):
        choose(twins, Rule(pick="smallest"), GIB)


@pytest.mark.parametrize(
    ("at", "magic", "said"),
    [
        (0, b"LUKS\xba\xbe", "LUKS encryption"),
        (65600, b"_BHRfS_M", "btrfs"),
        (450, b"\x83" + bytes(59) + b"\x55\xaa", "1 partition of an MBR"),
    ],
)
def test_what_others_keep_there(tmp_path: Path, at: int, magic: bytes, said: str) -> None:
    data = bytearray(4 << 20)
    data[at : at + len(magic)] = magic
    (tmp_path / "disk").write_bytes(data)
    assert what_holds(str(tmp_path / "disk")) == said


def menu(*answers: str) -> tuple[Disk, list[str]]:
    told: list[str] = []
    left = list(answers)
    return choose_disk(DISKS, GIB, lambda _: left.pop(0), told.append), told


def test_a_person_chooses_and_types_the_path() -> None:
    disk, told = menu("x", "0", "3", "2", "/dev/vdb")
    assert disk == LARGE
    assert "  1  /dev/vda  2.1 GB  QEMU HARDDISK, serial one  [empty]" in told
    assert "Everything on /dev/vdb will be lost: ext4 photos" in told


@pytest.mark.parametrize("answers", [("q",), ("2", "/dev/vda"), ("2", "yes"), ("2", "")])
def test_anything_else_chooses_nothing(answers: tuple[str, ...]) -> None:
    with pytest.raises(InstallError, match="nothing was written"):
        menu(*answers)
