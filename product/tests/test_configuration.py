"""What first-boot configuration writes is what the node's services read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from product.cloudinit.load import load_network
from product.cloudinit.plan import plan_user_data
from product.cloudinit.settings import SETTINGS
from product.cloudinit.tests.support import FIXTURES, user_data
from product.cloudinit.tests.test_settings import PAIRS, VALUES
from product.cloudinit.timezones import TZDATA
from product.netconf.document import parse
from product.node.settings import KINDS, read_settings

LOCKS = sorted((Path(__file__).parents[2] / "images/locks").glob("appliance-*.json"))
ACCEPTED = [
    file["name"]
    for file in tomllib.loads((FIXTURES / "expected.toml").read_text())["file"]
    if "errors" not in file and file["name"].startswith("network-config")
]


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_network_is_read_by_the_service(name: str) -> None:
    network = load_network((FIXTURES / name).read_bytes())
    found = parse(network.to_json().encode())
    assert len(found) == len(network.interfaces)
    for wanted, read in zip(network.interfaces, found, strict=True):
        assert (read.id, read.name, read.mac) == (wanted.id, wanted.name, wanted.macaddress)
        assert (read.addresses, read.search) == (wanted.addresses, wanted.search)
        assert (read.dhcp4, read.dhcp6, read.mtu) == (wanted.dhcp4, wanted.dhcp6, wanted.mtu)
        assert [route.to for route in read.routes] == [route.to for route in wanted.routes]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_the_time_zones_are_those_of_the_image(path: Path) -> None:
    versions = {
        package["version"].partition("-")[0]
        for package in json.loads(path.read_text())["packages"]
        if package["name"] == "tzdata"
    }
    # A newer one may have zones more: make the list anew from its /usr/share/zoneinfo.
    assert versions == {TZDATA}


def test_both_know_the_same_settings_in_the_same_places() -> None:
    assert {name: kind.place for name, kind in SETTINGS.items()} == {
        name: kind.place for name, kind in KINDS.items()
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_read_by_the_payload(name: str, tmp_path: Path) -> None:
    from product.cloudinit.load import load_user_data

    names = [name, PAIRS[name]] if name in PAIRS else [name]
    if name == "cpu-manager-policy":
        names.append("reserved-cpus")
    body = "kubesolo:\n" + "".join(f"  {each}: {VALUES[each][0]}\n" for each in names)
    (file,) = plan_user_data(load_user_data(user_data(body))).files
    path = tmp_path / "kubernetes.json"
    path.write_bytes(file.content)
    found = read_settings(str(path))
    assert found.problems == ()
    assert found.values == {each: VALUES[each][1] for each in names}
    assert json.loads(file.content)["schema"] == 1
