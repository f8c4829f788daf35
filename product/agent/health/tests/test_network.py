"""What a release is blamed for, and what not, when the network is another than before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.health.network import check_network
from product.agent.net.interfaces import Interface
from product.agent.tests.world import FakeRelease, World
from product.agent.update.baseline import BaselineError, read_baseline, take_baseline

GOOD = FakeRelease("0.2.0")


def check(world: World, before: tuple[Interface, ...] | None, *, unconfirmed: bool = True) -> str:
    return check_network(world.node(), before, unconfirmed, 60)[0]


def look(world: World) -> tuple[Interface, ...]:
    return world.node().read_network().interfaces


def trial(world: World) -> None:
    """Up to the first boot of a release that is well but for the network."""
    world.update(GOOD)
    assert world.power_on() == "B"


def test_the_same_network_passes_at_once(world: World) -> None:
    before = look(world)
    begun = world.clock.seconds
    assert check(world, before) == "pass"
    assert world.clock.seconds == begun


def test_an_address_that_comes_late_passes(world: World) -> None:
    before = look(world)
    world.addresses.clear()
    end = world.clock.seconds + 50
    pause = world.clock.pause

    def until_the_server_answers(seconds: float) -> None:
        pause(seconds)
        if world.clock.seconds >= end:
            world.addresses[2] = ["10.0.2.99/24"]

    world.clock.pause = until_the_server_answers  # type: ignore[method-assign]
    assert check(world, before) == "pass"


def test_a_lost_driver_fails_the_trial_and_is_named(world: World) -> None:
    trial(world)
    world.plug_in(driver=None)
    for _ in range(2):
        assert world.boot_service() is None
        assert world.power_on() == "B"
    assert world.boot_service() is None
    assert world.env()["active_slot"] == "A"
    assert world.quarantined() == [GOOD.digest]
    assert world.state()["last_error"] == (
        "rolled back: 3 failed health checks of 0.2.0: network: "
        "eth0 (e1000e, 52:54:00:00:00:01) is gone: no driver for pci 0000:00:03.0 8086:15f3"
    )


def test_an_interface_that_disappeared_fails_the_trial(world: World) -> None:
    before = look(world)
    world.pull_out()
    assert check(world, before) == "fail"


def test_a_lost_interface_is_blamed_though_another_one_has_an_address(world: World) -> None:
    world.plug_in("eth1", index=3, mac="52:54:00:00:00:02", pci="0000:00:04.0")
    before = look(world)
    world.pull_out()
    assert check(world, before) == "fail"


def test_a_pulled_cable_does_not_cost_a_good_release(world: World) -> None:
    trial(world)
    world.plug_in(link=False, address=None)
    begun = world.clock.seconds
    assert world.boot_service() == 0
    assert world.clock.seconds - begun >= 60, "the link had no time to come"
    assert world.env()["boot_success"] == "1"
    report = json.loads(Path(world.paths.report).read_text())
    (found,) = [entry for entry in report["health"] if entry["name"] == "network"]
    assert found["result"] == "known"
    assert found["reason"].endswith("no link: is the cable in?")
    assert "10.0.2.15/24" in found["before"]


@pytest.mark.parametrize("link", [True, None])
def test_a_link_without_an_address_fails(world: World, link: bool | None) -> None:
    before = look(world)
    world.plug_in(link=link, address=None)
    assert check(world, before) == "fail"


def test_one_address_of_two_is_enough(world: World) -> None:
    world.plug_in("eth1", index=3, mac="52:54:00:00:00:02", pci="0000:00:04.0")
    before = look(world)
    world.plug_in("eth1", index=3, mac="52:54:00:00:00:02", pci="0000:00:04.0", address=None)
    assert check(world, before) == "pass"


def test_ipv6_does_not_replace_ipv4(world: World) -> None:
    before = look(world)
    world.plug_in(address="fd00::2/64")
    assert check(world, before) == "fail"


def test_another_name_and_driver_are_no_fault(world: World) -> None:
    before = look(world)
    world.pull_out()
    world.plug_in("enp0s3", driver="e1000")
    assert check(world, before) == "pass"


@pytest.mark.parametrize("there", ["no card", "no driver", "no link", "no address"])
def test_who_had_no_network_is_not_blamed_for_having_none(world: World, there: str) -> None:
    match there:
        case "no card":
            world.take_card_out()
        case "no driver":
            world.plug_in(driver=None)
        case "no link":
            world.plug_in(link=False, address=None)
        case "no address":
            world.plug_in(address=None)
    trial(world)
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"


def test_a_confirmed_boot_is_not_judged(world: World) -> None:
    trial(world)
    assert world.boot_service() == 0
    world.plug_in(driver=None)
    before = world.env()
    world.power_on()
    assert world.boot_service() == 0
    assert (world.env(), world.reboots) == (before, 1)
    assert check(world, (), unconfirmed=False) == "not_applicable"


def test_a_baseline_of_an_older_agent_judges_no_network(world: World) -> None:
    trial(world)
    path = Path(world.paths.baseline)
    document = json.loads(path.read_text())
    assert document.pop("network")
    path.write_text(json.dumps(document))
    world.plug_in(driver=None)
    assert world.boot_service() == 0


@pytest.mark.parametrize("network", [7, [7], [{}], [{"name": "eth0"}]])
def test_a_network_that_is_garbage_makes_the_baseline_unusable(
    world: World, network: object
) -> None:
    take_baseline(world.node(), Config(), "token", lambda _: None)
    path = Path(world.paths.baseline)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "network": network}))
    with pytest.raises(BaselineError, match="garbage"):
        read_baseline(world.node())


def test_what_a_newer_agent_keeps_besides_is_left(world: World) -> None:
    taken = take_baseline(world.node(), Config(), "token", lambda _: None)
    path = Path(world.paths.baseline)
    document = json.loads(path.read_text())
    document["network"][0]["duplex"] = "full"
    path.write_text(json.dumps(document))
    assert read_baseline(world.node()) == taken
