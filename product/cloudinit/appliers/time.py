"""/etc/kubesolo/timezone, and /etc/kubesolo/ntp: one server a line, # for a comment."""

from __future__ import annotations

from product.cloudinit.planned import Part, text_file
from product.cloudinit.schema import Ntp

ZONE = "/etc/kubesolo/timezone"
SERVERS = "/etc/kubesolo/ntp"
# An empty file would be as none: the servers of DHCP, or the image's.
_NOBODY = "# nobody is asked: ntp.enabled is false"


def plan(zone: str | None, ntp: Ntp | None) -> Part:
    files = [text_file(ZONE, zone)] if zone else []
    servers = [*(ntp.servers or ()), *(ntp.pools or ())] if ntp else []
    if ntp is not None and ntp.enabled is False:
        servers = [_NOBODY]
    if servers:
        files.append(text_file(SERVERS, "\n".join(dict.fromkeys(servers))))
    return Part(tuple(files))
