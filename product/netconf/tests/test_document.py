"""Reading network.json."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product.netconf.document import Configured, parse, read_configured
from product.netconf.errors import NetworkFileError

FULL = {
    "id": "lan",
    "kind": "ethernet",
    "match": {"name": "eth*", "macaddress": "52:54:00:AB:CD:EF"},
    "dhcp4": True,
    "dhcp6": False,
    "accept_ra": None,
    "addresses": ["10.0.0.5/24", "fd00::5/64"],
    "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1", "on_link": True, "metric": 50}],
    "nameservers": {"addresses": ["10.0.0.1"], "search": ["site.example"]},
    "mtu": 1400,
    "optional": True,
}
BOND = {
    "id": "bond0",
    "kind": "bond",
    "match": None,
    "bond": {"interfaces": ["lan"], "mode": "802.3ad", "miimon": None, "primary": None},
}
VLAN = {"id": "v20", "kind": "vlan", "match": None, "vlan": {"id": 20, "link": "lan"}}


def read(*interfaces: object) -> tuple[Configured, ...]:
    return parse(json.dumps({"schema": 1, "interfaces": interfaces}).encode())


def test_everything_that_the_format_has() -> None:
    lan, bond, vlan = read(FULL, BOND, VLAN)
    assert (lan.name, lan.mac, lan.dhcp4, lan.mtu) == ("eth*", "52:54:00:ab:cd:ef", True, 1400)
    assert lan.addresses == ("10.0.0.5/24", "fd00::5/64")
    assert lan.routes == (("default", "10.0.0.1", True, 50),)
    assert (lan.servers, lan.search, lan.optional) == (("10.0.0.1",), ("site.example",), True)
    assert bond.bond == (("lan",), "802.3ad", 100, None)
    assert vlan.vlan == (20, "lan")


def test_an_editor_on_windows_changes_nothing() -> None:
    text = json.dumps({"schema": 1, "interfaces": [{"id": "eth0"}]}, indent=1)
    (one,) = parse(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert one.name == "eth0"


def test_a_card_without_match_is_known_by_its_id() -> None:
    (one,) = read({"id": "eth0"})
    assert (one.name, one.mac, one.asks) == ("eth0", None, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": 7}, "id is 7"),
        ({"id": "a/b"}, "cannot be used"),
        ({"kind": "bridge"}, "kind is 'bridge' and not one of"),
        ({"addresses": ["10.0.0.5"]}, "has no prefix"),
        ({"addresses": ["10.0.0.555/24"]}, "10.0.0.555/24"),
        ({"routes": [{"to": "default"}]}, "a default route without via"),
        ({"routes": [{"via": "10.0.0.1"}]}, "to is missing"),
        ({"routes": [{"to": "default", "via": "gw"}]}, "'gw'"),
        ({"nameservers": {"search": ["a b; reboot"]}}, "nameservers.search"),
        ({"mtu": 1}, "mtu is 1 and not a number from 68"),
        ({"mtu": True}, "mtu is True"),
        ({"dhcp4": "yes"}, "dhcp4 is 'yes' and neither true nor false"),
        ({"match": {}}, "neither name nor macaddress"),
        ({"kind": "vlan"}, "vlan is missing"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(NetworkFileError, match=r"interface ") as caught:
        read({**FULL, **changes})
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([FULL], "'lan': there are two of this id"),
        ([{**VLAN, "vlan": {"id": 1, "link": "wan"}}], "'v20': no interface has the id 'wan'"),
        ([VLAN, {**VLAN, "id": "v", "vlan": {"id": 1, "link": "v20"}}], "is a VLAN itself"),
        ([{**BOND, "bond": {"interfaces": ["wan"]}}], "'bond0': no card has the id 'wan'"),
        ([BOND, {**BOND, "id": "bond1"}], "'bond1': 'lan' is in 'bond0' already"),
        ([{**BOND, "bond": {**BOND["bond"], "primary": "x"}}], "'x' is none of its members"),  # type: ignore[dict-item]
        ([{**BOND, "id": "sixteen-letters1"}], "cannot be used"),
        ([{**BOND, "bond": {"interfaces": ["lan"], "mode": "rr"}}], "the bond's mode is 'rr'"),
    ],
)
def test_what_does_not_fit_together_is_named(others: list[object], said: str) -> None:
    with pytest.raises(NetworkFileError) as caught:
        read(FULL, *others)
    assert said in caught.value.message


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"schema": 2}', b'{"schema": 1}'])
def test_what_is_no_network(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "network.json"
    file.write_bytes(data)
    with pytest.raises(NetworkFileError, match=f"^{file}: it "):
        read_configured(str(file))


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_configured(str(tmp_path / "network.json")) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted({*FULL, "bond", "vlan"})), JSON)
def test_no_value_ends_in_a_traceback(key: str, value: object) -> None:
    for base in (FULL, BOND, VLAN):
        with suppress(NetworkFileError):
            read(FULL if base is not FULL else {**FULL, "id": "other"}, {**base, key: value})
