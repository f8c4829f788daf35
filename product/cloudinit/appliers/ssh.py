"""/etc/kubesolo/authorized_keys: who may log in as root, if the image has an SSH server."""

from __future__ import annotations

from product.cloudinit.planned import Part, text_file

PATH = "/etc/kubesolo/authorized_keys"


def plan(keys: tuple[str, ...] | None) -> Part:
    """An empty list is an empty file: nobody may log in any more."""
    if keys is None:
        return Part()
    return Part((text_file(PATH, "\n".join(dict.fromkeys(keys)), 0o600),))
