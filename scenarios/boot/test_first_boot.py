"""The first boot of a disk: its data file system and its identity, also where the power fails."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.crash.log import Write, read_log
from harness.crash.replay import Cut, Replay
from harness.faults.http import WebServer
from harness.pytest_plugin.image import ImageUnderTest
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.qemu.tools import HostTools
from harness.target.node import Node, State
from product.disk.gpt import UNMADE, Table, is_whole, read_table
from product.disk.prepare import open_disk
from scenarios.releases import Releases
from scenarios.steps import Update, offer, read_data, write_data

MIB, GIB = 1 << 20, 1 << 30
# Sectors of the partition table's two copies, with the MBR: at the disk's front and at its end.
TABLE_SECTORS = 34
# Of another disk the table and the EFI partition, with the boot environment in it.
FRONT = "head -c 257M /dev/nvme0n1 | sha256sum"


def _table(path: Path) -> Table:
    with open_disk(str(path)) as disk:
        return read_table(disk)


def _journal_blocks(node: Node, device: str) -> int:
    """The length of the data file system's journal, in blocks of 4 KiB."""
    text = node.succeed(["dumpe2fs", "-h", device]).text
    found = re.search(r"Total journal blocks:\s+(\d+)", text)
    assert found, text
    return int(found[1])


@scenario(tier="core")
def test_the_first_boot_makes_the_data_file_system(node: Node) -> None:
    """The image's data partition is 64 MiB and empty; the machine's disk leaves over a GiB."""
    node.at(State.READY, slot="A")
    size = int(node.succeed("df -k /var/lib/kubesolo | tail -n 1 | awk '{print $2}'").text)
    assert size > 1_000_000
    # One that had been grown would have the journal of its first size for ever.
    assert _journal_blocks(node, node.partition(4)) >= 4096
    assert node.status().problems == []
    write_data(node, "kept")
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    said = [event.text for event in node.journal.events(since=since)]
    assert not any("making the data file system" in text for text in said)
    assert read_data(node) == "kept"


@scenario()
@pytest.mark.parametrize("gib", [64, 2048])
def test_a_disk_of_any_size(machine_factory: Callable[..., Node], gib: int) -> None:
    node = machine_factory(disk_size_mib=gib * 1024)
    ready = node.boot()
    assert ready.confirmed
    assert node.status().problems == []
    size = int(node.succeed("df -k /var/lib/kubesolo | tail -n 1 | awk '{print $2}'").text)
    # Inodes take their share of a sixty-fourth.
    assert size * 1024 > 0.95 * gib * GIB - 2 * GIB
    blocks = _journal_blocks(node, node.partition(4))
    assert blocks * 4096 == min(gib * 16, 256) * MIB
    node.reboot()
    assert node.wait_ready().confirmed
    assert node.status().problems == []


@scenario(arch="x86_64", log_writes=True)
def test_a_power_cut_at_any_write_of_the_first_boot(
    node: Node,
    machine_factory: Callable[..., Node],
    images: Mapping[str, ImageUnderTest],
    host_tools: HostTools,
    arch: Arch,
    tmp_path: Path,
) -> None:
    """Either the table is the image's, and the next boot is a first one, or all is there."""
    node.boot()
    log = node.machine.storage.write_log
    assert log is not None
    node.target.quit()
    size = node.machine.spec.disk_size_mib * MIB
    replay = Replay(images[arch].disk, size, tmp_path / "disk")
    before = _table(replay.path)
    data = before.partitions[4]
    seen: dict[str, int] = {"first boot": 0, "made": 0}

    def of_the_table(write: Write) -> bool:
        begin, end = write.offset // 512, (write.offset + len(write.data)) // 512
        return begin < TABLE_SECTORS or end > size // 512 - TABLE_SECTORS

    def look(cut: Cut) -> None:
        found = _table(replay.path)
        assert found.partitions[2]._replace(guid=data.guid) == before.partitions[2]._replace(
            guid=data.guid
        )
        if found.partitions[4].attributes & UNMADE:
            assert found == before, f"{cut}: a table between the two"
            seen["first boot"] += 1
            return
        assert found.guid != before.guid, f"{cut}: made, without an identity of its own"
        seen["made"] += 1
        if cut.kept != "all" or seen["made"] == 1:
            done = _check(host_tools, replay.path, found.partitions[4].first * 512)
            assert done.returncode in (0, 1), f"{cut}: e2fsck found {done.stdout}"

    replay.each(read_log(log), look, wanted=of_the_table)
    assert min(seen.values()) > 10, seen
    with open_disk(str(replay.path)) as disk:
        assert is_whole(disk)


def _check(tools: HostTools, disk: Path, offset: int) -> subprocess.CompletedProcess[str]:
    """What e2fsck says of the file system at ``offset``; it repairs nothing."""
    argv = tools.argv("e2fsck", "-f", "-n", f"{disk}?offset={offset}")
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@scenario()
def test_power_cuts_in_the_first_boot(node: Node) -> None:
    """At three moments of it; the next boot makes of the disk what an undisturbed one does."""
    with node.expect_boots(4) as boots:
        for moment in (
            r"kubesolo: first boot: making",
            r"kubesolo: made the data file system",
            r"kubesolo: stage 30-modules",
        ):
            since = node.journal.cursor if node.started else 0
            node.power_on()
            node.wait_console(moment, since=since)
            node.power_cut()
        ready = node.boot()
    assert boots.slots == ["A"] * 4
    assert ready.confirmed
    status = node.status()
    assert (status.problems, status.boot.data) == ([], "persistent")
    size = int(node.succeed("df -k /var/lib/kubesolo | tail -n 1 | awk '{print $2}'").text)
    assert size > 1_000_000


def _beside(image: Path) -> tuple[str, ...]:
    """QEMU's arguments for another disk, which Linux lists before the boot disk."""
    return (
        "-drive", f"if=none,id=copy,file={image},format=raw,snapshot=on",
        "-device", "nvme,serial=copy,drive=copy",
    )  # fmt: skip


@scenario()
def test_two_disks_with_one_image(
    machine_factory: Callable[..., Node],
    images: Mapping[str, ImageUnderTest],
    arch: Arch,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    """As where the stick from which the disk was written is left plugged in."""
    node = machine_factory(extra=_beside(images[arch].disk))
    node.boot()
    early = node.succeed("cat /run/kubesolo/early").text.splitlines()
    assert {f"disk={node.disk}", "data=persistent"} <= set(early), early
    copy = node.succeed(FRONT, seconds=120).text
    server = webserver(releases.good.repository)
    offer(node, releases.good, server)
    ready = Update(node, releases.good, server).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    early = node.succeed("cat /run/kubesolo/early").text.splitlines()
    assert f"disk={node.disk}" in early, early
    assert node.succeed(FRONT, seconds=120).text == copy, "the copy was written"
    assert node.status().problems == []


@scenario()
def test_a_copy_of_a_disk_that_has_booted_is_refused(
    machine_factory: Callable[..., Node],
    host_tools: HostTools,
    tmp_path: Path,
) -> None:
    """Nothing tells the two apart, and a kernel of one with the data of the other is worse."""
    node = machine_factory(extra=())
    node.boot()
    node.target.quit()
    copy = tmp_path / "copy"
    disk = node.machine.storage.disk
    subprocess.run(
        host_tools.argv("qemu-img", "convert", "-O", "raw", str(disk), str(copy)), check=True
    )
    node.machine.spec = node.machine.spec.model_copy(update={"extra": _beside(copy)})
    since = node.journal.cursor
    node.power_on()
    node.wait_console(r"boot failed: the disks nvme0n1 vda are copies of one another", since=since)
    node.power_cut()
