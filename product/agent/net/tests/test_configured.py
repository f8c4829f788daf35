"""What the status says of a configured network and of the ways out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.health.network import judge
from product.agent.net.configured import DefaultRoute, default_routes, name_servers, read_setup
from product.agent.net.interfaces import NO_ROUTE, Network
from product.agent.status import as_text, collect
from product.agent.tests.world import World

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
ETH0 = "eth0\t00000000\t0202000A\t0003\t0\t0\t1002\t00000000\t0\t0\t0\n"
ETH1 = "eth1\t00000000\t0109A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n"
DOWN = "eth2\t00000000\t0202000A\t0002\t0\t0\t1\t00000000\t0\t0\t0\n"
LOCAL = "eth0\t0002000A\t00000000\t0001\t0\t0\t1002\t00FFFFFF\t0\t0\t0\n"
ZERO = "0" * 32
SIX = f"{ZERO} 00 {ZERO} 00 fe800000000000000000000000000002 000003ea 1 0 00000003 eth0\n"
REJECT = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 1 0 00200200 lo\n"
FIX = f"fd{'0' * 30} 40 {ZERO} 00 {ZERO} 00000100 1 0 00000001 eth0\n"


def route(world: World, four: str = "", six: str = "") -> None:
    world.write_file(f"{world.paths.proc}/net/route", HEADER + four)
    world.write_file(f"{world.paths.proc}/net/ipv6_route", six)


def set_up(world: World, modes: dict[str, str], *problems: str, kinds: str = "ethernet") -> None:
    interfaces = {name: {"kind": kinds, "mode": mode} for name, mode in modes.items()}
    document = {"schema": 1, "interfaces": interfaces, "problems": problems}
    world.write_file(f"{world.paths.network}/state.json", json.dumps(document))


def read(world: World) -> Network:
    return world.node().read_network()


def problems(world: World) -> list[str]:
    found = collect(world.node(), Config()).problems
    return [problem for problem in found if problem.startswith("network: ")]


def test_default_routes_of_both_families_by_metric(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(HEADER + LOCAL + ETH0 + DOWN + ETH1 + "garbage\n")
    (tmp_path / "ipv6_route").write_text(REJECT + FIX + SIX + "garbage\n")
    assert default_routes(str(tmp_path)) == (
        DefaultRoute("eth1", "192.168.9.1", 50),
        DefaultRoute("eth0", "10.0.2.2", 1002),
        DefaultRoute("eth0", "fe80::2", 1002),
    )
    assert default_routes(str(tmp_path / "nowhere")) is None


def test_name_servers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nnameserver 10.0.2.3\nnameserver\nsearch a.example b.example\n")
    assert name_servers(str(file)) == (("10.0.2.3",), ("a.example", "b.example"))
    assert name_servers(str(tmp_path / "none")) == ((), ())


@pytest.mark.parametrize("text", ["", "[]", '{"interfaces": {"eth0": 1}}', "{"])
def test_a_record_that_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    (tmp_path / "problems").mkdir()
    (tmp_path / "problems/eth0.4").write_text("a route\n")
    (tmp_path / "problems/eth0.4.new").write_text("half of it")
    setup = read_setup(str(tmp_path))
    assert (setup.mode("eth0"), setup.problems) == ("dhcp", ("a route",))


def test_an_address_without_a_way_out_is_a_problem(world: World) -> None:
    route(world, LOCAL, SIX)
    assert problems(world) == [f"network: {NO_ROUTE}"]
    assert read(world).faults() == [NO_ROUTE]
    route(world, ETH0)
    assert problems(world) == []


def test_who_configured_no_way_out_wants_none(world: World) -> None:
    route(world)
    set_up(world, {"eth0": "static"})
    assert problems(world) == []
    assert read(world).describe() == ["eth0 (e1000e, 52:54:00:00:00:01): 10.0.2.15/24, static"]


def test_a_static_address_without_a_cable_reaches_nobody(world: World) -> None:
    world.plug_in(link=False)
    set_up(world, {"eth0": "static"})
    fault = "eth0 (e1000e, 52:54:00:00:00:01): 10.0.2.15/24, static, no link"
    assert problems(world) == [f"network: {fault}"]


def test_a_route_over_a_pulled_cable_is_none(world: World) -> None:
    route(world, ETH0 + ETH1)
    world.plug_in("eth1", index=3, mac="52:54:00:00:00:02", pci="0000:00:04.0", link=False)
    assert read(world).routes == (DefaultRoute("eth0", "10.0.2.2", 1002),)


def test_what_could_not_be_set_is_a_problem_beside_others(world: World) -> None:
    set_up(world, {"eth0": "dhcp"}, "eth0: the route to x cannot be set")
    assert problems(world) == ["network: eth0: the route to x cannot be set"]


def test_the_status_shows_ways_and_servers(world: World) -> None:
    route(world, ETH0 + ETH1)
    world.write_file(world.paths.resolver, "nameserver 10.0.2.3\nsearch site.example\n")
    report = collect(world.node(), Config())
    lines = as_text(report).splitlines()
    ways = "eth1 via 192.168.9.1 (metric 50), then eth0 via 10.0.2.2 (metric 1002)"
    assert f"network: default route: {ways}" in lines
    assert "network: name servers: 10.0.2.3; search site.example" in lines
    assert report.network["name_servers"] == ["10.0.2.3"]
    assert "time: unknown" in lines


def test_what_stands_on_a_card_is_an_interface_of_its_own(world: World) -> None:
    folder = Path(world.paths.sys, "class/net/plant.20")
    for name, text in (("ifindex", "7"), ("address", "52:54:00:00:00:01"), ("carrier", "1")):
        world.write_file(str(folder / name), f"{text}\n")
    world.addresses.clear()
    world.addresses[7] = ["10.20.0.5/24"]
    document = {
        "interfaces": {
            "eth0": {"kind": "ethernet", "mode": "link"},
            "plant.20": {"kind": "vlan", "mode": "static"},
        },
        "problems": [],
    }
    world.write_file(f"{world.paths.network}/state.json", json.dumps(document))
    before = read(world)
    card, vlan = before.interfaces
    assert (card.state, vlan.kind, vlan.device) == ("a link of others", "vlan", "vlan plant.20")
    assert problems(world) == []
    # It shares the card's own address, and is judged by its name.
    assert judge(before.interfaces, before, world.paths.sys)[0] == "pass"
    (folder / "address").unlink()
    (folder / "ifindex").unlink()
    (folder / "carrier").unlink()
    folder.rmdir()
    verdict = judge(before.interfaces, read(world), world.paths.sys)
    assert (verdict[0], verdict[2]) == ("fail", ("plant.20",))


def test_a_card_that_is_not_configured_is_no_fault(world: World) -> None:
    set_up(world, {"eth1": "dhcp"})
    world.addresses.clear()
    assert read(world).interfaces[0].state == "not configured"
    assert read(world).faults() == []
