"""/etc/kubesolo/hostname: one line."""

from __future__ import annotations

from product.cloudinit.planned import Part, text_file

PATH = "/etc/kubesolo/hostname"


def plan(name: str | None) -> Part:
    return Part((text_file(PATH, name),)) if name else Part()
