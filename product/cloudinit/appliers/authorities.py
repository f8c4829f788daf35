"""/etc/kubesolo/ca-certificates.crt: authorities beside those of the image."""

from __future__ import annotations

from product.cloudinit.planned import Part, text_file

PATH = "/etc/kubesolo/ca-certificates.crt"


def plan(pem: str) -> Part:
    return Part((text_file(PATH, pem),)) if pem else Part()
