"""/etc/kubesolo/security.conf: KEY=VALUE, # for a comment; an empty section leaves it alone."""

from __future__ import annotations

from product.cloudinit.planned import Part, text_file
from product.cloudinit.security import Security

PATH = "/etc/kubesolo/security.conf"


def plan(section: Security | None) -> Part:
    lines = section.lines() if section else []
    if not lines:
        return Part()
    head = "# Written from user-data; yours to edit. It counts from the next boot."
    # It may hold the hash of a password.
    return Part((text_file(PATH, "\n".join([head, *lines]), 0o600),))
