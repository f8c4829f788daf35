"""Keys of netplan that a node passes over or refuses, each with what is said of it."""

from __future__ import annotations

from collections.abc import Mapping

_OTHER = "is for another renderer; the node's own has no use for it"
_OFFLOAD = "is passed over: the driver's default counts"

# Of the whole file.
TOP_NOTED: Mapping[str, str] = {"renderer": _OTHER}
TOP_REFUSED: Mapping[str, str] = {
    "wifis": "the node has no Wi-Fi",
    "bridges": "the node makes no bridges; give the address to the interface itself",
    "tunnels": "the node makes no tunnels",
    "modems": "the node drives no modems",
    "vrfs": "the node makes no VRFs",
    "dummy-devices": "the node makes no dummy devices",
    "virtual-ethernets": "the node makes no veth devices",
    "nm-devices": "the node has no NetworkManager",
    "openvswitch": "the node has no Open vSwitch",
    "routes": "belongs to an interface: move it below ethernets.ID, beside addresses",
    "addresses": "belongs to an interface: move it below ethernets.ID",
    "nameservers": "belongs to an interface: move it below ethernets.ID",
    "gateway4": "belongs to an interface: move it below ethernets.ID",
    "dhcp4": "belongs to an interface: move it below ethernets.ID",
}
# Of an interface.
NOTED: Mapping[str, str] = {
    "renderer": _OTHER,
    "networkmanager": _OTHER,
    "dhcp-identifier": "is passed over: the node always asks with its hardware address",
    "dhcp4-overrides": "is passed over: the node takes what the DHCP server says",
    "dhcp6-overrides": "is passed over: the node takes what the DHCP server says",
    "ra-overrides": "is passed over: the node takes what the router says",
    "critical": "is passed over: addresses stay while the node runs",
    "ignore-carrier": "is passed over: addresses stay while the node runs",
    "optional-addresses": "is passed over: the boot waits for no address",
    "ipv6-privacy": "is passed over: a node keeps one address",
    "ipv6-address-generation": "is passed over: the kernel's default counts",
    "link-local": "is passed over: the kernel's default counts",
    "emit-lldp": "is passed over: the node has no LLDP",
    "wakeonlan": _OFFLOAD,
    "receive-checksum-offload": _OFFLOAD,
    "transmit-checksum-offload": _OFFLOAD,
    "tcp-segmentation-offload": _OFFLOAD,
    "tcp6-segmentation-offload": _OFFLOAD,
    "generic-segmentation-offload": _OFFLOAD,
    "generic-receive-offload": _OFFLOAD,
    "large-receive-offload": _OFFLOAD,
}
REFUSED: Mapping[str, str] = {
    "set-name": "names are the kernel's: there is no udev; leave it out, and use match",
    "macaddress": "would change the hardware address; to find a card, put it below match",
    "routing-policy": "the node has one routing table",
    "auth": "the node has no 802.1X",
    "activation-mode": "every interface is brought up",
    "ipv6-mtu": "one mtu counts for both; use mtu",
    "openvswitch": "the node has no Open vSwitch",
    "link": "belongs to a VLAN, below vlans",
    "id": "belongs to a VLAN, below vlans",
    "interfaces": "belongs to a bond, below bonds",
    "parameters": "belongs to a bond, below bonds",
    "access-points": "the node has no Wi-Fi",
    "virtual-function-count": "the node makes no virtual functions",
    "embedded-switch-mode": "the node makes no virtual functions",
    "delay-virtual-functions-rebind": "the node makes no virtual functions",
    "dns": "is written nameservers: {addresses: [...]}",
    "gateway": "is written routes: [{to: default, via: ADDRESS}]",
    "address": "is written addresses: [ADDRESS/PREFIX]",
    "netmask": "belongs to the address: addresses: [ADDRESS/PREFIX]",
}
ROUTE_REFUSED: Mapping[str, str] = {
    "from": "a source address cannot be given",
    "type": "routes are unicast",
    "scope": "a route goes through a gateway, which via names",
    "table": "the node has one routing table",
    "mtu": "an mtu belongs to the interface",
    "gateway": "is written via",
    "advertised-receive-window": "is not supported",
    "congestion-window": "is not supported",
    "advertised-mss": "is not supported",
}
# Of the short form in user-data, and how it is written there.
SHORT_REFUSED: Mapping[str, str] = {
    "ip": "is written address, with its prefix: 10.20.0.5/24",
    "addresses": "is written address, one alone; several are for version 2",
    "netmask": "belongs to the address: 10.20.0.5/24",
    "nameservers": "is written dns",
    "nameserver": "is written dns",
    "gateway4": "is written gateway",
    "dhcp4": "is written mode: dhcp",
    "dhcp": "is written mode: dhcp",
    "type": "is written mode: dhcp, or static",
    "routes": "is for version 2",
    "match": "is for version 2; interface names a card",
}
BOND_NOTED = (
    "lacp-rate", "transmit-hash-policy", "ad-select", "all-members-active", "all-slaves-active",
    "arp-interval", "arp-ip-targets", "arp-validate", "arp-all-targets", "up-delay", "down-delay",
    "fail-over-mac-policy", "gratuitous-arp", "packets-per-member", "packets-per-slave",
    "primary-reselect-policy", "resend-igmp", "learn-packet-interval", "min-links",
)  # fmt: skip
BOND_MODES = (
    "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
    "balance-alb",
)  # fmt: skip
