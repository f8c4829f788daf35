"""OCI images out of a registry, by ``oras``, which knows every registry's logins."""

from __future__ import annotations

import tempfile
from pathlib import Path

from product.release.oras import Access, Reference, oras

SCHEME = "docker://"
# What an image is called in the layout on this host.
_TAG = "image"


def fetch(address: str, layout: Path, *, plain_http: bool, ca_file: Path | None) -> None:
    """Copy what ``docker://REGISTRY/NAME:TAG`` names, all architectures, into a layout's folder.

    Logins are those of docker and oras. Raises RegistryError, ToolError.
    """
    reference = Reference.parse(address.removeprefix(SCHEME))
    access = Access(plain_http=plain_http, ca_file=ca_file)
    with (
        tempfile.TemporaryDirectory(dir=layout.parent) as home,
        oras(access, reference.registry, Path(home)) as program,
    ):
        program.fetch(str(reference), layout, _TAG)
