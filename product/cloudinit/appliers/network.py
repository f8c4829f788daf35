"""/etc/kubesolo/network.json: absent where nothing is configured, which is DHCP on every card."""

from __future__ import annotations

from product.cloudinit.network import Network
from product.cloudinit.planned import Part, text_file

PATH = "/etc/kubesolo/network.json"


def plan(network: Network) -> Part:
    if not network.interfaces:
        return Part()
    return Part((text_file(PATH, network.to_json()),))
