"""The hardware's watchdog is fed; it waits for what is slow, not for what hangs."""

from __future__ import annotations

from collections.abc import Callable

from harness.faults.disk import HeldDisk, SlowDisk
from harness.faults.processor import WatchdogStarvation
from harness.pytest_plugin.scenario import scenario
from harness.qemu.devices import Watchdog
from harness.target.node import Node
from scenarios.hardening.node import restart_with
from scenarios.releases import Releases
from scenarios.steps import Update

Begin = Callable[..., Update]

# What stops the service that feeds it, and does not end it.
PAUSE = ("sv", "pause", "/run/service/watchdog")
# What the watchdogs wait for at most, and the boot after.
RESET_SECONDS = 150.0
# Early boot reads some 30 MB at this rate for longer than any watchdog waits.
SLOW_BYTES_PER_SECOND = 500_000
SLOW_SECONDS = 200.0

_STATES = """
for folder in /sys/class/watchdog/*; do
    read -r identity < $folder/identity
    read -r state < $folder/state
    echo "$identity: $state"
done
"""


def _watchdogs(node: Node) -> dict[str, str]:
    """Each watchdog's state by what it calls itself."""
    lines = node.succeed(_STATES).text.splitlines()
    return dict(line.split(": ", 1) for line in lines)


def _fed(node: Node) -> list[str]:
    return [name for name, state in _watchdogs(node).items() if state == "active"]


def _resets_a_hang(node: Node) -> None:
    """Nothing feeds it from now on: the machine is reset, and boots."""
    with node.expect_boots(1, seconds_each=RESET_SECONDS):
        since = node.journal.cursor
        with WatchdogStarvation(node.machine, PAUSE):
            node.target.wait_reset("the watchdog", node.deadline(RESET_SECONDS), since)
    node.wait_ready()


@scenario()
def test_the_watchdog_of_the_machine_is_fed_and_resets_it(node: Node) -> None:
    node.boot()
    assert _fed(node) == ["i6300ESB timer"]
    _resets_a_hang(node)


@scenario(arch="x86_64", watchdog_device=Watchdog.ITCO)
def test_the_watchdog_of_the_chip_set_is_found_through_its_bridge(node: Node) -> None:
    node.boot()
    # Early boot found it: the kernel's own was never needed.
    assert _watchdogs(node) == {"iTCO_wdt": "active"}
    _resets_a_hang(node)


@scenario(arch="x86_64", watchdog_device=Watchdog.ITCO)
def test_a_watchdog_that_comes_later_takes_over(node: Node) -> None:
    """As where its driver loads after early boot has given up on one."""
    node.boot()
    # After the boot modules would be locked.
    restart_with(node, "modules=open")
    node.succeed(
        "sv -w 5 force-stop /run/service/watchdog; modprobe -r iTCO_wdt && modprobe softdog"
    )
    node.succeed(": > /dev/watchdog0")
    assert _fed(node) == ["Software Watchdog"]
    node.succeed("modprobe iTCO_wdt && sv start /run/service/watchdog")
    node.succeed("until pidof watchdog > /dev/null; do usleep 100000; done")
    assert _watchdogs(node) == {"Software Watchdog": "inactive", "iTCO_wdt": "active"}


@scenario()
def test_a_disk_that_is_slow_boots(node: Node) -> None:
    """Early boot reads the root for longer than the watchdog waits, and feeds it meanwhile."""
    node.boot()
    with node.expect_boots(1) as boots:
        since = node.journal.cursor
        node.reboot()
        node.wait_console("kubesolo: stage initramfs", since=since)
        with SlowDisk(node.machine, SLOW_BYTES_PER_SECOND):
            node.wait_console("stage switch_root", seconds=SLOW_SECONDS, since=since)
        node.wait_ready()
    assert boots.slots == ["A"]


@scenario()
def test_stages_that_are_slow_are_no_hang(releases: Releases, begin_after: Begin) -> None:
    """Two of them take longer than the watchdog waits, each of them does not."""
    update = begin_after(Update.stage, releases.broken("slow-stages"))
    with update.node.expect_boots(1, seconds_each=RESET_SECONDS) as boots:
        update.node.reboot()
        ready = update.node.wait_ready()
    assert boots.slots == ["B"]
    assert (ready.slot, ready.confirmed) == ("B", True)


@scenario()
def test_a_disk_that_answers_no_more_ends_the_boot(node: Node) -> None:
    """What is not read is not waited for."""
    node.boot()
    with node.expect_boots(2, seconds_each=RESET_SECONDS):
        since = node.journal.cursor
        node.reboot()
        node.wait_console("kubesolo: stage initramfs", since=since)
        with HeldDisk(node.machine):
            since = node.journal.cursor
            node.target.wait_reset("the watchdog", node.deadline(RESET_SECONDS), since)
    node.wait_ready()
