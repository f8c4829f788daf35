"""The disk fails, is slow, or has acknowledged what it did not keep."""

from __future__ import annotations

from collections.abc import Callable

from harness.faults.cache import LyingCache
from harness.faults.disk import TELLS_NO_SPACE, Failure, Sectors, SlowDisk, WriteErrors
from harness.journal.boots import Ready
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.qemu.devices import DiskBus
from harness.target.node import Node, State
from scenarios.held import HELD_AFTER, apply_until_held
from scenarios.releases import Releases
from scenarios.steps import APPLY_SECONDS, FAILED, Update, failed_for, slot_digests

Serve = Callable[..., Update]

# Some writes of the release pass before one fails.
NTH = 4
# A tenth of what cards do that are sold today; the whole release takes half a minute at it.
SLOW_BYTES_PER_SECOND = 4 << 20
SLOW_SECONDS = 300.0

# Some MB more of the largest file than those that it is held after have come, and lie on the disk.
_GROWN = f"""
until [ $(stat -c %s /run/kubesolo/slot/root.squashfs.*.part) -gt {HELD_AFTER + (8 << 20)} ]; do
    usleep 200000
done
sync
"""


def _sectors(node: Node, number: int) -> Sectors:
    """Where a partition of the boot disk lies."""
    folder = f"/sys/class/block/{node.partition(number).removeprefix('/dev/')}"
    start, size = node.succeed(f"cat {folder}/start {folder}/size").text.split()
    return Sectors(int(start), int(size))


def not_offered(node: Node) -> None:
    """The slot that was not written to the end is no boot's."""
    status = node.status()
    assert status.environment.active_slot == "A"
    assert status.environment.boot_success
    done = node.fail(["kubesolo-update", "activate"], exit=FAILED)
    assert "nothing is staged" in done.stderr.decode(), done


def _fails_once(node: Node, update: Update, failure: Failure, code: str, said: str) -> None:
    """An apply meets the failing writes, and the one after them is as good as any."""
    before = slot_digests(node)
    slot = _sectors(node, 3)
    # Its file system is made and mounted by then.
    running, held = apply_until_held(update)
    with (
        node.tolerating(Pattern.DISK_IO, Pattern.EXT4),
        WriteErrors(node.machine, failure, nth=NTH, within=slot),
    ):
        held.release()
        done = running.wait(node.deadline(APPLY_SECONDS))
    assert done.exit == FAILED, done
    assert node.status().update.last_error.startswith(f"{code}: "), node.status().update
    errors = [line for line in done.stderr.decode().splitlines() if said in line]
    assert any("root.squashfs" in line for line in errors), done
    not_offered(node)
    # Slot B is read as the failed writes have left it, without its journal.
    with node.tolerating(Pattern.EXT4):
        assert slot_digests(node)["A"] == before["A"]
    update.apply()
    update.activate()
    node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)


@scenario()
def test_a_write_that_fails_ends_the_update(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    _fails_once(node, serve(releases.good), Failure.EIO, "write-failed", "Input/output error")


@scenario(disk_bus=DiskBus.VIRTIO_SCSI, extra=TELLS_NO_SPACE)
def test_a_disk_without_space_below_it_ends_the_update(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """As where the storage of a hypervisor is full, and it says so."""
    node.boot()
    _fails_once(node, serve(releases.good), Failure.ENOSPC, "no-space", "No space left on device")


@scenario()
def test_a_slow_disk_is_waited_for(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with SlowDisk(node.machine, SLOW_BYTES_PER_SECOND):
        node.succeed(["kubesolo-update", "apply"], seconds=SLOW_SECONDS)
    assert node.status().update.phase == "staged"
    update.activate()
    node.reboot()
    assert node.wait_ready().slot == "B"


@scenario()
def test_a_cache_that_lied_costs_the_release_and_not_the_node(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """All of the release was flushed and read back; after the power cut the disk has lost it."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with LyingCache(node.machine) as cache:
        update.apply()
        cache.tell_truth()
        update.activate()
        node.power_cut()
    with node.expecting(Pattern.GRUB, times=3), node.expect_boots(4) as boots:
        node.power_on()
        ready = node.wait_ready()
    assert boots.slots == ["B", "B", "B", "A"]
    failed_for(boots, "error: file", "boot failed slot=B: no kernel.env")
    _returned(node, ready)
    # State and slot are lost with it: the boot environment alone tells of the trial.
    assert node.status().update.last_error.startswith(
        "rolled back: the trial of the release in slot B failed, its state and what the slot held"
    )
    update.apply()


@scenario()
def test_a_cache_that_lied_about_a_part_is_found_by_the_digest(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """What was written in the middle of the root is lost; files and manifest are in their place."""
    node.at(State.READY, slot="A")
    update = serve(releases.good, rate_limit="2M")
    running, held = apply_until_held(update)
    # The kernel, which came before, is kept.
    node.succeed("sync")
    with LyingCache(node.machine) as cache:
        held.release()
        node.succeed(_GROWN)
        cache.tell_truth()
        assert running.wait(node.deadline(APPLY_SECONDS)).exit == 0
        update.activate()
        node.power_cut()
    with node.tolerating(Pattern.EXT4, Pattern.SQUASHFS), node.expect_boots(4) as boots:
        node.power_on()
        ready = node.wait_ready()
    assert boots.slots == ["B", "B", "B", "A"]
    failed_for(boots, "boot failed: root.squashfs of slot B is corrupt")
    _returned(node, ready)
    assert node.status().update.last_error == "rolled back: 3 failed boots of 0.2.0"


def _returned(node: Node, ready: Ready) -> None:
    """It runs what it ran before, and says why."""
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    status = node.status()
    assert status.update.phase == "rolled_back", status.update
