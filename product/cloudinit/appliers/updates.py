"""/etc/kubesolo/update.conf and the PEM files that it names; an empty block leaves all alone."""

from __future__ import annotations

from product.agent.errors import has_login
from product.cloudinit.planned import Part, text_file
from product.cloudinit.updates import PEM_FILES, Updates

PATH = "/etc/kubesolo/update.conf"


def plan(block: Updates | None) -> Part:
    lines = block.lines() if block else []
    if block is None or not lines:
        return Part()
    text = "\n".join(["# Written from user-data; yours to edit.", *lines])
    mode = 0o600 if block.has_secret or has_login(text) else 0o644
    files = [text_file(PATH, text, mode)]
    for key, (path, mode) in PEM_FILES.items():
        if pem := block.inline(key):
            files.append(text_file(path, pem, mode))
    return Part(tuple(files))
