"""Slots that a Raspberry Pi's firmware starts: a model plays it, the machine is QEMU's own.

The kernel says on the console which argument it restarts with, which is how the model learns of the
flag: no mailbox is emulated, and none of this has run on a board.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.qemu.devices import Raspberry
from harness.target.node import Node
from product.image.cache import Cache
from product.image.tools import HostTools
from scenarios.releases import Releases
from scenarios.steps import REFUSED, Update

if TYPE_CHECKING:
    from conftest import Images

Serve = Callable[..., Update]


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image of this hardware."""
    from conftest import Images

    return Images(cache, host_tools, hardware="rpi-tryboot")


def _reading(node: Node) -> tuple[int, int]:
    """What the firmware told the kernel: the partition, and whether it was a tryboot."""
    script = "cd /proc/device-tree/chosen/bootloader && cat partition tryboot | od -An -tx1"
    octets = bytes.fromhex(node.succeed(script).text)
    return int.from_bytes(octets[:4], "big"), int.from_bytes(octets[4:], "big")


def _flags(node: Node) -> list[int]:
    """Whether each boot so far was a tryboot, as the firmware's model says it."""
    lines = [e.text for e in node.journal.events() if "kubesolo: boot slot=" in e.text]
    return [int(line.rpartition("tryboot=")[2]) for line in lines if "tryboot=" in line]


@scenario(arch="aarch64", raspberry=Raspberry.CURRENT)
def test_a_good_update_is_tried_once_and_kept(node: Node, releases: Releases, serve: Serve) -> None:
    ready = node.boot()
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert _reading(node) == (5, 0)
    update = serve(releases.good)
    update.stage()
    with node.expect_boots(1, seconds_each=240.0) as boots:
        node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert boots.counters == [2]
    assert _reading(node) == (6, 1)
    with node.expect_boots(1, seconds_each=240.0) as boots:
        node.reboot()
    assert node.wait_ready().slot == "B"
    assert boots.successes == [True]
    assert _reading(node) == (6, 0)
    assert _flags(node) == [0, 1, 0]


@scenario(arch="aarch64", raspberry=Raspberry.CURRENT)
def test_three_failed_boots_roll_back(node: Node, releases: Releases, serve: Serve) -> None:
    node.boot()
    update = serve(releases.panicking_init)
    update.stage()
    with (
        node.expecting(Pattern.INIT_EXITED, times=3),
        node.expect_boots(6, seconds_each=240.0) as boots,
    ):
        node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert boots.slots == ["B", "A", "B", "A", "B", "A"]
    assert _flags(node) == [0, 1, 0, 1, 0, 1, 0]
    assert boots.rollbacks == ["A"]
    status = node.status()
    assert status.update.phase == "rolled_back"
    assert status.update.last_error == f"rolled back: 3 failed boots of {update.release.version}"
    node.fail(["kubesolo-update", "apply"], exit=REFUSED)


@scenario(arch="aarch64", raspberry=Raspberry.CURRENT)
def test_a_power_cut_while_unconfirmed_spends_a_try(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.boot()
    update = serve(releases.good)
    update.stage()
    since = node.journal.cursor
    node.reboot()
    node.wait_console("kubesolo: stage 20-data", since=since, seconds=240.0)
    node.wait_console("kubesolo: boot slot=B counter=2", since=since)
    node.power_cut()
    with node.expect_boots(2, seconds_each=240.0) as boots:
        node.power_on()
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("B", True)
    assert boots.slots == ["A", "B"]
    assert boots.counters[-1] == 1


@scenario(arch="aarch64", raspberry=Raspberry.IGNORES_FLAG)
def test_firmware_that_ignores_the_flag_never_tried_the_release(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.boot()
    update = serve(releases.good)
    update.stage()
    with node.expect_boots(3, seconds_each=240.0) as boots:
        node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot) == ("0.1.0", "A")
    assert boots.slots == ["A", "A", "A"]
    status = node.status()
    assert status.update.phase == "failed"
    assert status.update.last_error.startswith(f"never tried: {update.release.version} ")
