"""/etc/kubesolo/update.conf, and the key file that it names; an empty block leaves both alone."""

from __future__ import annotations

from product.agent.errors import has_login
from product.cloudinit.planned import Part, text_file
from product.cloudinit.updates import KEY_FILE, Updates

PATH = "/etc/kubesolo/update.conf"


def plan(block: Updates | None) -> Part:
    lines = block.lines() if block else []
    if block is None or not lines:
        return Part()
    text = "\n".join(["# Written from user-data; yours to edit.", *lines])
    files = [text_file(PATH, text, 0o600 if has_login(text) or "webhook_url=" in text else 0o644)]
    if block.inline_key:
        files.append(text_file(KEY_FILE, block.inline_key))
    return Part(tuple(files))
