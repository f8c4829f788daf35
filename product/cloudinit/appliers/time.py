"""/etc/kubesolo/timezone, and /etc/kubesolo/ntp: one server a line; empty, it asks none."""

from __future__ import annotations

from product.cloudinit.planned import Part, text_file
from product.cloudinit.schema import Ntp

ZONE = "/etc/kubesolo/timezone"
SERVERS = "/etc/kubesolo/ntp"


def plan(zone: str | None, ntp: Ntp | None) -> Part:
    files = [text_file(ZONE, zone)] if zone else []
    servers = [*(ntp.servers or ()), *(ntp.pools or ())] if ntp else []
    if servers or (ntp is not None and ntp.enabled is False):
        files.append(text_file(SERVERS, "\n".join(dict.fromkeys(servers))))
    return Part(tuple(files))
