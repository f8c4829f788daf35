"""What the DHCP client, dhcpcd, is told. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from product.netconf.plan import Asked

_ALLOW = "allowinterfaces "


def render(image: str, asked: Sequence[Asked]) -> str:
    """dhcpcd.conf: the ``image``'s own, for the interfaces that ask, each with its families."""
    head = [line for line in image.splitlines() if not line.startswith(_ALLOW)]
    names = " ".join(one.interface for one in asked)
    lines = [*head, f"{_ALLOW}{names}"]
    for one in asked:
        if options := _options(one):
            lines += [f"interface {one.interface}", *(f"    {option}" for option in options)]
    return "\n".join(lines) + "\n"


def _options(one: Asked) -> list[str]:
    """Nothing where all is as dhcpcd has it: DHCPv4, and DHCPv6 where a router says so."""
    options = []
    if not one.dhcp4:
        options.append("noipv4")
    if one.accept_ra is False:
        options.append("noipv6rs" if one.dhcp6 else "noipv6")
    if one.dhcp6:
        # An address is asked for, whatever a router says.
        options.append("ia_na")
    elif one.dhcp6 is False and one.accept_ra is not False:
        options.append("nodhcp6")
    return options


def allowed(text: str) -> tuple[str, ...]:
    """The interfaces of a file that ``render`` made."""
    for line in text.splitlines():
        if line.startswith(_ALLOW):
            return tuple(line.removeprefix(_ALLOW).split())
    return ()
