"""/etc/kubesolo/final_message: text for the console once the node is ready."""

from __future__ import annotations

from product.cloudinit.planned import Part, text_file

PATH = "/etc/kubesolo/final_message"


def plan(message: str | None) -> Part:
    return Part((text_file(PATH, message),)) if message else Part()
