"""A machine without a network says so, and a release that takes the network away is returned."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.faults.link import LinkDown
from harness.pytest_plugin.scenario import scenario
from harness.qemu.devices import NetworkCard
from harness.target.node import Node
from scenarios.releases import Releases
from scenarios.steps import Update, failed_for

Begin = Callable[..., Update]
Serve = Callable[..., Update]

# The console says it 15 s after the start.
SAID_SECONDS = 60.0
# A second network card, on another network of QEMU's: the host has the same name there.
SECOND_CARD = (
    "-netdev", "user,id=net1,dhcpstart=10.0.2.30",
    "-device", "virtio-net-pci,id=nic1,netdev=net1,romfile=",
)  # fmt: skip


def _says(node: Node, sentence: str) -> None:
    """Confirmed all the same; console, status and its text name what is wrong."""
    ready = node.wait_ready()
    assert ready.confirmed
    node.wait_console(f"kubesolo: network: {sentence}$", seconds=SAID_SECONDS, since=0)
    problems = node.status().problems
    assert len(problems) == 1, problems
    lines = node.succeed(["kubesolo-update", "status"]).text.splitlines()
    for kind in ("network", "problem: network"):
        assert any(re.fullmatch(f"{kind}: {sentence}", line) for line in lines), lines


@scenario(network=False)
def test_no_card(node: Node) -> None:
    node.power_on()
    _says(node, "this machine has no network card")


@scenario(network_card=NetworkCard.PCNET)
def test_a_card_without_a_driver(node: Node) -> None:
    node.power_on()
    _says(node, "no driver for pci 0000:..:.... 1022:2000")
    (device,) = node.status().network.unbound
    assert device.id == "1022:2000"


@scenario()
def test_a_card_without_a_link_gets_an_address_when_the_cable_is_in(node: Node) -> None:
    node.power_on()
    with LinkDown(node.machine):
        _says(node, r"eth0 \(virtio_net, [0-9a-f:]+\): no link")
        node.wait_ready()
        since = node.journal.cursor
    node.wait_console("kubesolo: network eth0 10.0.2.15", since=since)
    status = node.status()
    assert status.problems == []
    (card,) = status.network.interfaces
    assert (card.driver, card.link, card.waited) == ("virtio_net", True, None)
    assert "10.0.2.15/24" in card.addresses


@scenario()
def test_a_release_without_the_cards_driver_is_returned(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    release = releases.broken("no-network-driver")
    begin_after(Update.stage, release, auto_rollback_after="1")
    with node.expect_boots(2, seconds_each=150.0) as boots:
        node.reboot()
    ready = node.wait_ready()
    cause = r"network: eth0 \(virtio_net, [0-9a-f:]+\) is gone: no driver for pci 0000:"
    failed_for(boots, rf"1 failed health check of 0\.2\.1: {cause}[^;]*$", times=1)
    assert boots.slots == ["B", "A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    status = node.status()
    assert status.update.phase == "rolled_back"
    assert "network: eth0" in status.update.last_error


@scenario()
def test_a_cable_that_is_pulled_in_the_update_does_not_cost_the_release(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    begin_after(Update.stage, releases.good)
    since = node.journal.cursor
    node.reboot()
    with LinkDown(node.machine):
        ready = node.wait_ready()
        assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
        node.wait_console("kubesolo-update: ready .* known=network", since=since)
        checks = {check.name: check for check in node.status().last_boot_check.health}
        assert checks["network"].result == "known"
        assert checks["network"].reason.endswith("no link: is the cable in?")
    assert "10.0.2.15" in checks["network"].before


@scenario(extra=SECOND_CARD)
def test_the_second_card_serves_where_the_first_is_dead(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.power_on()
    with LinkDown(node.machine):
        node.wait_ready()
        node.wait_console("kubesolo: network eth1 10.0.2.30", since=0)
        status = node.status()
        assert status.problems == []
        assert [card.link for card in status.network.interfaces] == [False, True]
        ready = serve(releases.good).install()
        assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
        since = node.journal.cursor
    # The first, once it has a link, goes first.
    node.wait_console("kubesolo: network eth0 10.0.2.15", since=since)
    routes = node.succeed("ip -4 route show default").text
    assert re.findall(r"dev (\S+)", routes) == ["eth0", "eth1"], routes
