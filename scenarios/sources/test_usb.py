"""A stick with releases updates a node that has no network, by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.faults.stick import CONTROLLER, PulledStick, Stick
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.image.tools import HostTools
from product.release.stick import make_stick
from scenarios.releases import Release, Releases
from scenarios.set_up import set_up
from scenarios.steps import APPLY_SECONDS, CONF_PATH, KEY_PATH

# Bytes a second: a stick that is pulled out while the largest file (40 MiB and more) is read.
SLOW = 4 << 20

MakeStick = Callable[..., Stick]


@pytest.fixture
def stick_of(host_tools: HostTools, tmp_path: Path) -> MakeStick:
    """A stick with what a release's repository serves."""

    def make(node: Node, release: Release, *, rate: int | None = None) -> Stick:
        image = tmp_path / f"{release.repository.name}.img"
        if not image.exists():
            make_stick(release.repository, image, tools=host_tools)
        return Stick(node.machine, image, rate=rate)

    return make


@set_up
def trust(node: Node, release: Release) -> None:
    """What a node without a server has in its configuration."""
    node.put(release.pubkey, KEY_PATH)
    node.put(f"channel=stable\npubkey={KEY_PATH}\n", CONF_PATH)
    node.succeed("sync")


def usb_said(node: Node, words: str, *, since: int, seconds: float = APPLY_SECONDS) -> None:
    """Wait until the console says ``words`` of a stick."""
    node.wait_console(rf"kubesolo-update: usb: .*{words}", since=since, seconds=seconds)


def history(node: Node) -> list[tuple[str, str, str | None]]:
    """Event, outcome and source of each entry."""
    found = json.loads(node.succeed(["kubesolo-update", "history", "--json"]).stdout)
    return [(entry["event"], entry["outcome"], entry.get("source")) for entry in found]


@scenario(network=False, extra=CONTROLLER)
def test_a_stick_updates_a_node_without_a_network_once(
    node: Node, releases: Releases, stick_of: MakeStick
) -> None:
    node.at(State.READY, slot="A")
    trust(node, releases.good)
    stick = stick_of(node, releases.good)
    since = node.journal.cursor
    with node.expect_boots(1) as boots:
        stick.plug()
        usb_said(node, r"has releases; looking", since=since)
        usb_said(node, r"0\.2\.0 is staged in slot B: rebooting; remove the stick", since=since)
    ready = node.wait_ready()
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert ("apply", "staged", "disk:KSOLOUPD") in history(node)
    # It is still in: the new system sees it, and leaves it alone.
    log = "/var/log/usb/current"
    node.succeed(f"until grep -q 'was tried before' {log}; do sleep 0.2; done", seconds=90)
    assert [event for event, *_ in history(node)].count("apply") == 1


@scenario(network=False, extra=CONTROLLER)
def test_a_stick_that_is_pulled_out_is_gone_on_with(
    node: Node, releases: Releases, stick_of: MakeStick
) -> None:
    node.at(State.READY, slot="A")
    trust(node, releases.good)
    slow = stick_of(node, releases.good, rate=SLOW)
    since = node.journal.cursor
    slow.plug()
    usb_said(node, r"root\.squashfs: 50 %; leave the stick in", since=since)
    # The kernel says so, too: what it had asked the stick for never comes.
    with node.tolerating(Pattern.DISK_IO), PulledStick(slow):
        usb_said(node, r"the stick is of no use: .*plug the stick in again", since=since)
    status = node.status()
    assert (status.boot.slot, status.update.phase) == ("A", "failed")
    with node.expect_boots(1) as boots:
        stick_of(node, releases.good).plug()
    assert boots.slots == ["B"]
    assert node.wait_ready().version == "0.2.0"


@scenario(network=False, extra=CONTROLLER, arch="x86_64")
def test_a_strangers_stick_is_refused(node: Node, releases: Releases, stick_of: MakeStick) -> None:
    node.at(State.READY, slot="A")
    slot = releases.slot("0.2.0")
    stranger = releases.sign("strangers-stick", slot, keys=releases.strangers_keys())
    trust(node, stranger)
    since = node.journal.cursor
    stick_of(node, stranger).plug()
    usb_said(node, r"the stick is of no use: ", since=since)
    status = node.status()
    assert (status.boot.slot, status.update.phase) == ("A", "failed")
    assert status.update.to_version is None, status.update
