"""A disk's first boot, cut wherever it writes."""

from __future__ import annotations

import json
import os
import struct
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from product.disk.errors import DiskError, TableError
from product.disk.gpt import Disk, Partition, Table, is_whole, read_table
from product.disk.prepare import open_disk, prepare
from product.image.disk import Partition as ImagePartition
from product.image.disk import _hybrid_mbr
from product.image.tools import HostTools

MIB, GIB = 1 << 20, 1 << 30
Flashed = Callable[[int], Path]


def _keep(part: Partition) -> None:
    """The kernel is told nothing: there is none that has these partitions."""


def _first_boot(path: Path, make: Callable[[int], None] = lambda size: None) -> int:
    with open_disk(str(path)) as disk:
        outcome = prepare(disk, make, _keep)
    assert outcome.first
    return outcome.data_bytes


def _table(path: Path) -> Table:
    with open_disk(str(path)) as disk:
        return read_table(disk)


@pytest.mark.parametrize("size", [8 * GIB, 64 * GIB, 250 * GIB, 2048 * GIB, 8 * GIB + 12345 * 512])
def test_the_data_partition_takes_the_whole_disk(
    flashed: Flashed, tools: HostTools, size: int
) -> None:
    path = flashed(size)
    made: list[int] = []
    reported = _first_boot(path, made.append)
    table = json.loads(tools.run("sfdisk", "--json", path))["partitiontable"]
    data = table["partitions"][3]
    assert (data["start"], data["name"]) == (16 * 2048, "KSOLODATA")
    assert data["size"] * 512 == reported == made[0]
    end = data["start"] * 512 + reported
    # Its end is aligned; the backup takes 33 sectors behind it.
    assert end % (1 << 20) == 0
    assert size - (2 << 20) < end <= size - 33 * 512
    assert b"No errors detected" in tools.run("sfdisk", "--verify", path)
    assert "attrs" not in data


def test_a_disk_no_larger_than_its_image_is_made_as_well(flashed: Flashed) -> None:
    assert _first_boot(flashed(81 << 20)) == 64 << 20


def test_two_disks_with_one_image_tell_themselves_apart(flashed: Flashed, tmp_path: Path) -> None:
    first, second = flashed(8 * GIB), flashed(9 * GIB)
    assert _table(first).guid == _table(second).guid
    _first_boot(first)
    _first_boot(second)
    guids = [
        guid
        for table in (_table(first), _table(second))
        for guid in (table.guid, *(part.guid for part in table.partitions.values()))
    ]
    assert len(set(guids)) == 10
    assert not any(str(guid).endswith("0000-0000-0000-000000000000") for guid in guids)


def test_the_rest_of_the_table_and_the_boot_code_stay(flashed: Flashed) -> None:
    path = flashed(8 * GIB)
    with path.open("r+b") as stream:
        stream.write(b"\xeb\x63" + b"boot code" * 40)
    before = _table(path)
    code = path.read_bytes()[:440]
    _first_boot(path)
    after = _table(path)
    assert after.first_usable == before.first_usable == 2048
    for number in (1, 2, 3):
        old, new = before.partitions[number], after.partitions[number]
        assert new._replace(guid=old.guid) == old
    with path.open("rb") as stream:
        assert stream.read(440) == code


def test_a_later_boot_writes_nothing(flashed: Flashed) -> None:
    path = flashed(8 * GIB)
    _first_boot(path)
    with _Recorded(path) as (disk, writes):
        outcome = prepare(disk, _never, _keep)
    assert (outcome.first, outcome.grew, writes) == (False, False, [])


def test_a_disk_that_has_grown_keeps_its_data_and_identity(flashed: Flashed) -> None:
    path = flashed(8 * GIB)
    _first_boot(path)
    before = _table(path)
    os.truncate(path, 16 * GIB)
    with open_disk(str(path)) as disk:
        outcome = prepare(disk, _never, _keep)
    assert (outcome.first, outcome.grew) == (False, True)
    assert outcome.data_bytes > 15 * GIB
    after = _table(path)
    assert after.guid == before.guid
    assert [p.guid for p in after.partitions.values()] == [
        p.guid for p in before.partitions.values()
    ]


def test_the_kernel_knows_the_size_before_the_file_system_is_made(flashed: Flashed) -> None:
    told: list[str] = []
    with open_disk(str(flashed(8 * GIB))) as disk:
        prepare(disk, lambda size: told.append("make"), lambda part: told.append("resize"))
    assert told == ["resize", "make"]


def test_a_file_system_that_cannot_be_made_leaves_a_first_boot(flashed: Flashed) -> None:
    path = flashed(8 * GIB)
    before = path.open("rb").read(1 << 20)

    def fail(size: int) -> None:
        raise DiskError("mke2fs failed")

    with pytest.raises(DiskError, match="mke2fs failed"):
        _first_boot(path, fail)
    assert path.open("rb").read(1 << 20) == before


@pytest.mark.parametrize("lost", ["primary header", "backup header", "primary entries"])
def test_a_copy_that_broke_is_written_again(flashed: Flashed, lost: str) -> None:
    path = flashed(8 * GIB)
    _first_boot(path)
    before = _table(path)
    sector = {"primary header": 1, "backup header": 8 * GIB // 512 - 1, "primary entries": 2}[lost]
    with path.open("r+b") as stream:
        stream.seek(sector * 512)
        stream.write(bytes(512))
    with open_disk(str(path)) as disk:
        prepare(disk, _never, _keep)
        assert is_whole(disk)
    assert _table(path) == before


@pytest.mark.parametrize("grown", [False, True], ids=["first boot", "grown"])
def test_a_cut_at_any_sector_leaves_a_table_that_all_read_alike(
    flashed: Flashed, grown: bool
) -> None:
    path = flashed(8 * GIB)
    if grown:
        _first_boot(path)
        os.truncate(path, 16 * GIB)
    before = _table(path)
    with _Recorded(path) as (disk, writes):
        prepare(disk, lambda size: None, _keep)
    after = _table(path)
    assert before != after
    with path.open("r+b") as stream:
        # Back to before, from the last write to the first; every state between is one of a cut.
        for number, (offset, old, _) in reversed(list(enumerate(writes))):
            stream.seek(offset)
            stream.write(old)
            stream.flush()
            found = _table(path)
            assert found in (before, after), f"after {number} sectors"
            # GRUB believes the first entry as it is, and passes it to early boot.
            seen = _entry(stream.fileno(), 0)
            assert seen == found.partitions[1].guid, f"after {number} sectors"
    assert _table(path) == before
    assert len(writes) > 60


def test_a_broken_table_is_one_clear_error(flashed: Flashed) -> None:
    path = flashed(8 * GIB)
    with path.open("r+b") as stream:
        stream.seek(512)
        stream.write(bytes(512))
    with pytest.raises(TableError, match="the primary copy has no signature; the backup copy has"):
        _first_boot(path)


def test_a_disk_of_somebody_else_is_refused(flashed: Flashed, tools: HostTools) -> None:
    path = flashed(8 * GIB)
    tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", "--part-label", path, "4", "HOME")
    with pytest.raises(DiskError, match=r"partition 4 of .* is not KSOLODATA"):
        _first_boot(path)


def _never(size: int) -> None:
    raise AssertionError("a file system was made over data")


def _entry(descriptor: int, number: int) -> uuid.UUID:
    raw = os.pread(descriptor, 128, 2 * 512 + number * 128)
    return uuid.UUID(bytes_le=struct.unpack_from("<16s16s", raw)[1])


class _Recorded:
    """A disk whose writes are kept, a sector each: offset, what was there, what was written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[Disk, list[tuple[int, bytes, bytes]]]:
        self._descriptor = os.open(self._path, os.O_RDWR)
        writes: list[tuple[int, bytes, bytes]] = []

        class Recorded(Disk):
            def write(self, sector: int, data: bytes) -> None:
                for at in range(len(data) // self.sector):
                    new = data[at * self.sector : (at + 1) * self.sector]
                    writes.append(((sector + at) * self.sector, self.read(sector + at), new))
                    os.pwrite(self._descriptor, new, (sector + at) * self.sector)

        return Recorded(self._descriptor, str(self._path)), writes

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def test_a_hybrid_mbr_outlives_the_first_boot(flashed: Flashed, tools: HostTools) -> None:
    """The firmware that reads it finds KSOLOEFI where it was, all others the GPT."""
    path = flashed(300 * MIB)
    _hybrid_mbr(ImagePartition("KSOLOEFI", 1, 5, ""), path)
    before = path.read_bytes()[:512]
    assert _first_boot(path) == (300 - 1 - 16) * MIB, "grown"
    with path.open("rb") as stream:
        assert stream.read(512) == before
    first, second = before[446:462], before[462:478]
    assert (first[4], struct.unpack("<II", first[8:])) == (0x0C, (2048, 5 * 2048))
    # It covers what the UEFI specification wants covered, and overlaps nothing.
    assert (second[4], struct.unpack("<II", second[8:])) == (0xEE, (1, 2047))
    assert before[478:510] == bytes(32)
    listed = tools.run("sfdisk", "-l", path).decode()
    assert "Disklabel type: gpt" in listed
    assert [part.name for part in _table(path).partitions.values()][-1] == "KSOLODATA"
