"""network-config: what becomes of it, beyond the published files under fixtures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from product.cloudinit.load import load_network, load_user_data
from product.cloudinit.tests.support import problems_of, user_data


def interfaces(text: str) -> list[dict[str, Any]]:
    document = json.loads(load_network(text.encode()).to_json())
    assert document["schema"] == 1
    found: list[dict[str, Any]] = document["interfaces"]
    return found


def eth0(body: str) -> dict[str, Any]:
    (found,) = interfaces(f"version: 2\nethernets: {{eth0: {{{body}}}}}\n")
    return found


def errors(text: str) -> list[tuple[str, str]]:
    return [(p.key, p.message) for p in problems_of(load_network, text.encode())]


def short(block: str) -> list[dict[str, Any]]:
    network = load_user_data(user_data(f"network: {block}\n")).config.network
    assert network is not None
    found: list[dict[str, Any]] = json.loads(network.to_json())["interfaces"]
    return found


PLAIN = {
    "id": "eth0", "kind": "ethernet", "match": {"name": "eth0"}, "dhcp4": False, "dhcp6": False,
    "accept_ra": None, "addresses": [], "routes": [],
    "nameservers": {"addresses": [], "search": []}, "mtu": None, "optional": False,
}  # fmt: skip


def test_every_key_of_an_interface() -> None:
    assert eth0("") == PLAIN
    found = eth0(
        'match: {name: "e*", macaddress: 52-54-00-AB-CD-EF}, dhcp4: yes, dhcp6: on, '
        "accept-ra: no, optional: true, mtu: 1400, addresses: [10.20.0.5/24, 'FD00::5/64'], "
        "nameservers: {addresses: [10.20.0.1, '::1'], search: [Site.Example.Org.]}, "
        "routes: [{to: 10.30.0.0/16, via: 10.20.0.9, metric: 100}, "
        "{to: 10.9.9.9, via: 10.1.1.1, on-link: true}]"
    )
    assert found == {
        **PLAIN, "match": {"name": "e*", "macaddress": "52:54:00:ab:cd:ef"},
        "dhcp4": True, "dhcp6": True, "accept_ra": False, "optional": True, "mtu": 1400,
        "addresses": ["10.20.0.5/24", "fd00::5/64"],
        "nameservers": {"addresses": ["10.20.0.1", "::1"], "search": ["site.example.org"]},
        "routes": [
            {"to": "10.30.0.0/16", "via": "10.20.0.9", "on_link": False, "metric": 100},
            {"to": "10.9.9.9/32", "via": "10.1.1.1", "on_link": True, "metric": None},
        ],
    }  # fmt: skip


def test_a_vlan_and_a_bond() -> None:
    found = interfaces(
        "version: 2\nethernets: {a: {}, b: }\n"
        "bonds: {bond0: {interfaces: [a, b], parameters: {mode: active-backup, primary: b, "
        "mii-monitor-interval: 200ms}}, bond1: {interfaces: [a]}}\n".replace(
            ", bond1: {interfaces: [a]}", ""
        )
        + "vlans: {office: {id: 10, link: bond0, dhcp4: true}}\n"
    )
    assert [each["id"] for each in found] == ["a", "b", "bond0", "office"]
    assert found[2]["match"] is None
    assert found[2]["bond"] == {
        "interfaces": ["a", "b"], "mode": "active-backup", "miimon": 200, "primary": "b",
    }  # fmt: skip
    assert found[3]["vlan"] == {"id": 10, "link": "bond0"}
    assert (found[3]["kind"], found[3]["dhcp4"]) == ("vlan", True)
    assert "bond" not in found[3]


def test_a_bond_without_parameters_watches_its_links() -> None:
    found = interfaces("version: 2\nethernets: {a: {}}\nbonds: {b0: {interfaces: [a]}}\n")
    assert found[1]["bond"] == {
        "interfaces": ["a"], "mode": "balance-rr", "miimon": 100, "primary": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{}", {"name": "*"}),
        ("{name: eth1}", {"name": "eth1"}),
        ("{macaddress: 11:20:13:41:25:45}", {"macaddress": "11:20:13:41:25:45"}),
        ("{macaddress: '52:54:00:AB:CD:EF'}", {"macaddress": "52:54:00:ab:cd:ef"}),
    ],
)
def test_what_a_card_is_found_by(match: str, expected: dict[str, str]) -> None:
    assert eth0(f"match: {match}")["match"] == expected


@pytest.mark.parametrize("text", ["", "version: 2\n", "version: 2\nethernets:\n", "network:\n"])
def test_nothing_is_no_interface(text: str) -> None:
    assert interfaces(text) == []


def test_a_default_route_is_default_however_it_is_written() -> None:
    for to, via in (("default", "10.0.0.1"), ("0.0.0.0/0", "10.0.0.1"), ('"::/0"', '"fe80::1"')):
        found = eth0(f"addresses: [10.0.0.5/24, 'fd00::5/64'], routes: [{{to: {to}, via: {via}}}]")
        assert found["routes"][0]["to"] == "default"


def test_gateways_of_both_families_are_default_routes_and_said_to_be_old() -> None:
    text = (
        "version: 2\nethernets:\n  eth0:\n    addresses: [10.0.0.5/24, 'fd00::5/64']\n"
        "    gateway4: 10.0.0.1\n    gateway6: 'fd00::1'\n"
    )
    (found,) = interfaces(text)
    assert [route["via"] for route in found["routes"]] == ["10.0.0.1", "fd00::1"]
    notes = load_network(text.encode()).notes
    assert [(note.line, note.key) for note in notes] == [
        (5, "ethernets.eth0.gateway4"), (6, "ethernets.eth0.gateway6"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "on_link"),
    [
        ("addresses: [172.31.9.7/32], routes: [{to: default, via: 172.31.9.1}]", True),
        ("addresses: [172.31.9.7/32], gateway4: 172.31.9.1", True),
        ("addresses: ['fd00::7/128'], routes: [{to: default, via: 'fd00::1'}]", True),
        ("addresses: ['fd00::7/128'], routes: [{to: default, via: 'fe80::1'}]", False),
        ("addresses: [10.0.0.5/24], routes: [{to: default, via: 10.9.0.1, on-link: yes}]", True),
        ("dhcp4: true, routes: [{to: 10.9.0.0/16, via: 10.1.0.1}]", False),
        ("addresses: [10.20.1.9/23], routes: [{to: default, via: 10.20.0.1}]", False),
    ],
)
def test_a_gateway_beyond_a_network_of_one_is_on_the_link(body: str, on_link: bool) -> None:
    assert [route["on_link"] for route in eth0(body)["routes"]] == [on_link]


@pytest.mark.parametrize(
    ("body", "key", "said"),
    [
        ("addresses: [10.0.0.5/24], gateway4: 10.9.0.1", "gateway4", "is in no network of eth0"),
        ("gateway4: 10.9.0.1", "gateway4", "has no IPv4 address"),
        ("addresses: [10.0.0.5/24], gateway4: 10.0.0.5", "gateway4", "eth0's own address"),
        ("addresses: [10.0.0.5/24, 10.0.0.5/25]", "addresses[1]", "is there twice"),
        ("addresses: [0.0.0.0/24]", "addresses[0]", "cannot be an interface's address"),
        ("addresses: [127.0.0.1/8]", "addresses[0]", "cannot be an interface's address"),
        ("addresses: ['fe80::1%eth0/64']", "addresses[0]", "cannot be an interface's"),
        ("addresses: [10.0.0.5/0]", "addresses[0]", "cannot be an interface's address"),
        ("addresses: [10.0.0.05/24]", "addresses[0]", "is not an IP address"),
        ("addresses: ['fd00::5']", "addresses[0]", "write fd00::5/64"),
        ("addresses: 10.0.0.5/24", "addresses", "needs a list, found text"),
        ("addresses: [{10.0.0.5: {}}]", "addresses[0]", "has no prefix"),
        ("addresses: [{a: 1, b: 2}]", "addresses[0]", "needs text, found a mapping"),
        ("nameservers: [10.0.0.1]", "nameservers", "needs a mapping, found a list"),
        ("nameservers: {addresses: 10.0.0.1}", "nameservers.addresses", "needs a list"),
        ("nameservers: {addresses: [dns]}", "nameservers.addresses[0]", "is not an IP"),
        ("nameservers: {adresses: []}", "nameservers.adresses", "did you mean addresses?"),
        ("dhcp: true", "dhcp", "unknown key; did you mean dhcp4?"),
        ("dhcp4: 1", "dhcp4", "needs true or false"),
        ("mtu: 20", "mtu", "is not between 68 and 65535"),
        ("match: eth0", "match", "needs a mapping, found text"),
        ("match: {name: 'a b'}", "match.name", "is not a name of an interface"),
        ("match: {macaddress: 00:11:ZZ}", "match.macaddress", "is not a hardware address"),
        ("match: {driver: x}", "match.driver", "not by its driver"),
        ("set-name: lan", "set-name", "there is no udev"),
        ("macaddress: 52:54:00:12:34:56", "macaddress", "put it below match"),
        ("routing-policy: []", "routing-policy", "one routing table"),
        ("gateway: 10.0.0.1", "gateway", "is written routes"),
        ("routes: [{via: 10.0.0.1}]", "routes[0].to", "is missing"),
        ("dhcp4: true, routes: [{to: default}]", "routes[0].via", "is missing"),
        ("dhcp4: true, routes: [{to: default, via: 10.0.0.1, table: 5}]", "routes[0].table", "one"),
        ("routes: [{to: 10.0.0.0/8, via: 'fd00::1'}]", "routes[0].via", "not of the same IP"),
        ("routes: [x]", "routes[0]", "needs a mapping, found text"),
        ("dhcp4: true, routes: [{to: default, via: 10.0.0.1}, {to: 0.0.0.0/0, via: 10.0.0.2}]",
         "routes[1].to", "is there already"),
    ],
)  # fmt: skip
def test_a_wrong_interface_is_one_error(body: str, key: str, said: str) -> None:
    ((found, message),) = errors(f"version: 2\nethernets: {{eth0: {{{body}}}}}\n")
    assert found == f"ethernets.eth0.{key}"
    assert said in message


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("version: 3\n", "version", "'3' is not 2"),
        ("version: {}\n", "version", "a mapping is not 2"),
        ("- a\n", "", "needs a mapping such as"),
        ("text\n", "", "needs a mapping such as"),
        ("network: text\n", "network", "needs a mapping such as"),
        ("network: {version: 2}\nethernets: {}\n", "ethernets", "stands beside network"),
        ("version: 2\nbridges: {br0: {}}\n", "bridges", "makes no bridges"),
        ("version: 2\ntunnels: {t: {}}\n", "tunnels", "makes no tunnels"),
        ("version: 2\nethernets: text\n", "ethernets", "needs a mapping of interfaces"),
        ("version: 2\nethernets: {eth0: text}\n", "ethernets.eth0", "needs a mapping"),
        ("version: 2\nvlans: {v: {id: 1, link: a}}\n", "vlans.v.link", "there is no other"),
        ("version: 2\nvlans: {averylongvlanname: {id: 1, link: a}}\n",
         "vlans.averylongvlanname", "at most 14 letters"),
        ("version: 2\nethernets: {a: }\nvlans: {v: {id: 1, link: a}, w: {id: 1, link: a}}\n",
         "vlans.w.id", "v has VLAN 1 of a, too"),
        ("version: 2\nethernets: {a: }\nvlans: {v: {id: 1, link: a}, w: {id: 2, link: v}}\n",
         "vlans.w.link", "is a VLAN itself"),
        ("version: 2\nethernets: {a: }\nvlans: {a: {id: 1, link: a}}\n", "vlans.a", ""),
        ("version: 2\nethernets: {a: }\nvlans: {eth0: {id: 1, link: a}}\n", "vlans.eth0",
         "eth0 is a card's name, and cannot be a new interface's"),
        ("version: 2\nethernets: {a: }\nbonds: {eth12: {interfaces: [a]}}\n", "bonds.eth12",
         "eth12 is a card's name"),
        ("version: 2\nethernets: {a: {match: {name: usb0}}}\nvlans: {usb0: {id: 1, link: a}}\n",
         "vlans.usb0", "usb0 is a card's name"),
        ("version: 2\nethernets: {a: }\nvlans: {all: {id: 1, link: a}}\n", "vlans.all",
         "cannot be a new interface's name"),
        ("version: 2\nbonds: {b: {interfaces: []}}\n", "bonds.b.interfaces", "is empty"),
        ("version: 2\nethernets: {a: {addresses: [10.0.0.1/8]}}\nbonds: {b: {interfaces: [a]}}\n",
         "ethernets.a.addresses", "a is a member of b"),
        ("version: 2\nethernets: {a: }\nbonds: {b: {interfaces: [a]}, c: {interfaces: [a]}}\n",
         "bonds.c.interfaces[0]", "a is a member of b already"),
        ("version: 2\nethernets: {a: }\nbonds: {b: {interfaces: [a], parameters: "
         "{mode: 802.3ad, primary: a}}}\n", "bonds.b.parameters.primary", "has no primary"),
    ],
)  # fmt: skip
def test_a_wrong_network_is_an_error(text: str, key: str, said: str) -> None:
    found = errors(text)
    assert (key, True) in [(where, said in message) for where, message in found]
    assert said == "" or len(found) == 1


def test_what_refers_to_an_interface_with_a_fault_is_no_second_fault() -> None:
    text = (
        "version: 2\nethernets: {a: {mtu: x}, b: }\nbonds: {o: {interfaces: [a, b]}, "
        "p: {interfaces: [b], mode: x}}\nvlans: {v: {id: 1, link: p}, w: {id: 1, link: a}}\n"
    ).replace("p: {interfaces: [b], mode: x}", "p: {interfaces: x}")
    assert [key for key, _ in errors(text)] == ["ethernets.a.mtu", "bonds.p.interfaces"]


def test_the_short_form() -> None:
    static = "{mode: static, address: 10.20.0.5/24, gateway: 10.20.0.1, dns: '10.0.0.1, 10.0.0.2'}"
    (found,) = short(static)
    assert found == {
        **PLAIN, "addresses": ["10.20.0.5/24"],
        "routes": [{"to": "default", "via": "10.20.0.1", "on_link": False, "metric": None}],
        "nameservers": {"addresses": ["10.0.0.1", "10.0.0.2"], "search": []},
    }  # fmt: skip
    (found,) = short("{address: 10.0.0.5/24, interface: eth1, dns: [10.0.0.1], search: a.b}")
    assert found["match"] == {"name": "eth1"}
    assert found["nameservers"] == {"addresses": ["10.0.0.1"], "search": ["a.b"]}
    assert short("{mode: dhcp}") == []
    (found,) = short("{mode: dhcp, dns: 10.0.0.1}")
    assert (found["match"], found["dhcp4"]) == ({"name": "e*"}, True)
    (found,) = short("{address: 172.31.9.7/32, gateway: 172.31.9.1}")
    assert found["routes"][0]["on_link"]
    assert short("{version: 2, ethernets: {eth5: {dhcp4: true}}}")[0]["id"] == "eth5"
    assert short("{network: {version: 2, ethernets: {eth5: {}}}}")[0]["id"] == "eth5"


@pytest.mark.parametrize(
    ("block", "key", "said"),
    [
        ("{mode: manual}", "mode", "is neither dhcp nor static"),
        ("{mode: static}", "address", "is missing"),
        ("{mode: dhcp, address: 10.0.0.5/24}", "address", "needs mode: static"),
        ("{address: 10.0.0.5}", "address", "has no prefix"),
        ("{address: 10.0.0.5/24, gateway: 10.9.0.1}", "gateway", "is in no network of eth0"),
        ("{address: 10.0.0.5/24, gateway: 10.0.0.1/24}", "gateway", "has a prefix"),
        ("{mode: dhcp, gatewy: x}", "gatewy", "did you mean gateway?"),
        ("{ip: 10.0.0.5/24}", "ip", "is written address"),
        ("{address: 10.0.0.5/24, netmask: x}", "netmask", "belongs to the address"),
        ("{dhcp4: true}", "dhcp4", "is written mode: dhcp"),
        ("{eth0: {dhcp4: true}}", "eth0", "belongs to version 2"),
        ("{mode: dhcp, dns: x}", "dns[0]", "is not an IP address"),
    ],
)
def test_a_wrong_short_form_is_one_error(block: str, key: str, said: str) -> None:
    (problem,) = problems_of(load_user_data, user_data(f"network: {block}\n"))
    assert problem.key == f"network.{key}"
    assert said in problem.message
