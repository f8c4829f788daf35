"""What first-boot configuration writes, the node's network reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.cloudinit.errors import InvalidFileError
from product.cloudinit.load import load_network
from product.netconf.document import parse

ROOT = Path(__file__).resolve().parents[3]
FILES = [
    *(ROOT / "fixtures/cloud-config/network-config").iterdir(),
    *(ROOT / "docs/examples").glob("network-config*"),
]


@pytest.mark.parametrize("file", sorted(FILES), ids=lambda file: file.name)
def test_every_network_config_that_is_taken_is_understood(file: Path) -> None:
    try:
        network = load_network(file.read_bytes())
    except InvalidFileError:
        pytest.skip("it is refused")
    text = network.to_json()
    found = parse(text.encode())
    assert [one.id for one in found] == [one.id for one in network.interfaces]
    for read, written in zip(found, network.interfaces, strict=True):
        assert (read.name, read.mac) == (written.name, written.macaddress)
        assert len(read.addresses) == len(written.addresses)
        assert len(read.routes) == len(written.routes)
        assert (read.vlan is None, read.bond is None) == (
            written.vlan is None,
            written.bond is None,
        )
