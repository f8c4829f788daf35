"""Three failed boots return the node to the slot that worked, whatever made them fail."""

from __future__ import annotations

from collections.abc import Callable

from harness.faults.disk import HeldDisk
from harness.journal.boots import Boots
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.releases import Releases
from scenarios.steps import (
    REFUSED,
    Update,
    configure,
    failed_for,
    on_slot,
    read_data,
    write_data,
)

Begin = Callable[..., Update]

# A hang lasts until the watchdog's 60 s are over.
HANG_SECONDS = 150.0

# Ends when the agent sleeps in the kernel, where nothing but an answer wakes it.
AGENT_HANGS = """
while :; do
    for process in /proc/[0-9]*; do
        if grep -qs 'product.agent.services.boot_judge' $process/cmdline &&
            grep -qs '^State:.D' $process/status; then exit; fi
    done
    sleep 0.2
done
"""


def _rolls_back(node: Node, update: Update, *causes: str, seconds_each: float = 60.0) -> Boots:
    """Reboot into the armed slot and watch three tries, each for these causes, and the return."""
    write_data(node, "kept")
    with node.expect_boots(4, seconds_each=seconds_each) as boots:
        node.reboot()
    ready = node.wait_ready()
    failed_for(boots, *causes)
    assert boots.slots == ["B", "B", "B", "A"]
    assert boots.counters[:3] == [2, 1, 0]
    assert boots.rollbacks == ["A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    _explained(node, update)
    return boots


def _unhealthy(check: str) -> str:
    """The agent's line where this check, ``name: reason``, fails and no other."""
    return rf"unhealthy version=\S+ slot=B cause=health failures=\d reason={check}[^;]*$"


def _explained(node: Node, update: Update) -> None:
    status = node.status()
    assert status.update.phase == "rolled_back"
    assert status.update.last_error == f"rolled back: 3 failed boots of {update.release.version}"
    assert read_data(node) == "kept"
    # The release is not taken again until an operator says so.
    node.fail(["kubesolo-update", "apply"], exit=REFUSED)
    assert node.status().update.last_error.startswith("quarantine: ")


@scenario(tier="core", core_arch="x86_64")
def test_kernel_panic(node: Node, releases: Releases, begin_after: Begin) -> None:
    update = begin_after(Update.stage, releases.panicking_init)
    with node.expecting(Pattern.INIT_EXITED, times=3):
        _rolls_back(node, update, "Kernel panic - not syncing: Attempted to kill init")


@scenario()
def test_a_trial_whose_record_is_lost(node: Node, releases: Releases, begin_after: Begin) -> None:
    update = begin_after(Update.stage, releases.panicking_init)
    node.succeed("rm /var/lib/kubesolo/update/state.json && sync")
    with (
        node.expecting(Pattern.INIT_EXITED, times=3),
        node.expect_boots(4, seconds_each=60.0) as boots,
    ):
        node.reboot()
    node.wait_ready()
    assert boots.slots == ["B", "B", "B", "A"]
    status = node.status()
    assert status.update.phase == "rolled_back"
    assert status.update.last_error == (
        f"rolled back: the trial of {update.release.version} failed, its state was lost"
    )
    node.fail(["kubesolo-update", "apply"], exit=REFUSED)


@scenario()
def test_a_start_whose_stages_are_lost(node: Node, releases: Releases, begin_after: Begin) -> None:
    """runit has nothing left to run then, and ends the machine: with a restart, never without."""
    update = begin_after(Update.stage, releases.broken("lost-stages"))
    boots = _rolls_back(node, update)
    lost = r"unable to start child: /etc/runit/1: file does not exist"
    assert boots.saying(lost) == [True, True, True, False]


@scenario(tier="core")
def test_hang_is_ended_by_the_watchdog(node: Node, releases: Releases, begin_after: Begin) -> None:
    update = begin_after(Update.stage, releases.hanging_init)
    boots = _rolls_back(node, update, "^WATCHDOG$", seconds_each=HANG_SECONDS)
    assert boots.saying("init of a broken release hangs now") == [True, True, True, False]


@scenario()
def test_missing_kernel(node: Node, releases: Releases, begin_after: Begin) -> None:
    update = begin_after(Update.stage, releases.good)
    node.succeed(on_slot(node, "B", "rm /run/look/vmlinuz"))
    with node.expecting(Pattern.GRUB, times=3):
        _rolls_back(node, update, "file `/vmlinuz' not found", "kubesolo: boot failed slot=B")


@scenario(tier="core", core_arch="x86_64")
def test_corrupted_squashfs(node: Node, releases: Releases, begin_after: Begin) -> None:
    update = begin_after(Update.stage, releases.good)
    # One block in the middle: the file system mounts, and its bytes are not the release's.
    node.succeed(
        on_slot(
            node,
            "B",
            "dd if=/dev/urandom of=/run/look/root.squashfs bs=4096 seek=1000 count=1 conv=notrunc",
        )
    )
    # What the kernel says of the block is no verdict: three boots may also fail for want of what
    # lay there.
    with node.tolerating(Pattern.SQUASHFS):
        _rolls_back(node, update, "boot failed: root.squashfs of slot B is corrupt")


@scenario()
def test_lost_data_partition(node: Node, releases: Releases, begin_after: Begin) -> None:
    """All else is well on such a boot: what the node knows lies in memory, empty."""
    update = begin_after(Update.stage, releases.broken("lost-data"))
    boots = _rolls_back(node, update, _unhealthy("data_partition: .* lies in memory"))
    said = boots.saying("problem: data partition: there is no device")
    assert said == [True, True, True, False]


@scenario()
def test_dying_agent(node: Node, releases: Releases, begin_after: Begin) -> None:
    """Nobody judges the boot, and nobody waits for ever."""
    update = begin_after(Update.stage, releases.broken("dying-agent"))
    _rolls_back(node, update, r"the agent ended without a verdict \(1\): this try is given up")


@scenario()
def test_disk_that_does_not_answer(node: Node, releases: Releases, begin_after: Begin) -> None:
    """The agent would wait for ever: the boot on trial is ended by force, and the next is well."""
    begin_after(Update.stage, releases.broken("short-trial"))
    write_data(node, "kept")
    with node.expect_boots(2, seconds_each=HANG_SECONDS) as boots:
        node.reboot()
        since = node.journal.cursor
        node.wait_console("enter stage: /etc/runit/2", since=since)
        with HeldDisk(node.machine):
            node.target.channel.wait_up(node.deadline(60))
            node.succeed(AGENT_HANGS)
            given_up = "no verdict after 40 s: this try is given up"
            node.wait_console(given_up, seconds=60, since=since)
            node.target.wait_reset("the guest itself", node.deadline(60), since)
    ready = node.wait_ready()
    failed_for(boots, "no verdict after 40 s: this try is given up", times=1)
    assert boots.slots == ["B", "B"]
    assert boots.counters == [2, 1]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.1", "B", True)
    assert read_data(node) == "kept"


@scenario(tier="core", core_arch="aarch64")
def test_failing_health_check(node: Node, releases: Releases, begin_after: Begin) -> None:
    update = begin_after(
        Update.stage, releases.read_only_data, healthcheck_deadline="3", auto_rollback_after="0"
    )
    _rolls_back(node, update, _unhealthy("disk_writable: Read-only file system"))


@scenario()
def test_health_checks_that_fail_often_enough_roll_back_at_once(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    begin_after(Update.stage, releases.good)
    # From now on: a fault that was there before the update would not be blamed on it.
    configure(
        node,
        healthcheck_deadline="3", auto_rollback_after="2", healthcheck_url=f"http://{node.host_address}:9/",
    )  # fmt: skip
    write_data(node, "kept")
    with node.expect_boots(3) as boots:
        node.reboot()
    node.wait_ready()
    # The agent says in the second what it does: it returns.
    failed_for(boots, r"(reason=|2 failed health checks of 0\.2\.0: )probe_url: [^;]*$", times=2)
    assert boots.slots == ["B", "B", "A"]
    assert boots.rollbacks == []
    status = node.status()
    assert status.update.phase == "rolled_back"
    assert status.update.last_error.startswith("rolled back: 2 failed health checks of 0.2.0: ")
