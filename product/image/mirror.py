"""Which Debian mirror to use: an option, the environment, or the host's own apt sources.

Locks hold pool paths only. The mirror is whatever the host is already configured to trust with
its own packages, so that a site with a local mirror uses it without being told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from product.image.errors import DownloadError

DEBIAN_VARIABLE = "KUBESOLO_DEBIAN_MIRROR"
SECURITY_VARIABLE = "KUBESOLO_DEBIAN_SECURITY_MIRROR"


class Mirrors(NamedTuple):
    """Base addresses of the two archives, without a trailing slash."""

    debian: str
    security: str

    def url(self, archive: str, path: str) -> str:
        """Address of a pool path in ``archive`` (``debian`` or ``debian-security``)."""
        return f"{self.security if archive == 'debian-security' else self.debian}/{path}"


def find_mirrors(etc_apt: Path = Path("/etc/apt")) -> Mirrors:
    """The mirrors that the environment or the host's apt configuration names.

    Raises DownloadError where neither names one, as on a host without apt.
    """
    debian = os.environ.get(DEBIAN_VARIABLE)
    security = os.environ.get(SECURITY_VARIABLE)
    for address in _sources(etc_apt):
        folder = urlsplit(address).path.rstrip("/").rsplit("/", 1)[-1]
        if folder == "debian":
            debian = debian or address
        elif folder == "debian-security":
            security = security or address
    if not debian:
        raise DownloadError(
            f"no Debian mirror is known: {etc_apt} names none and {DEBIAN_VARIABLE} is not set",
            hint=f"set {DEBIAN_VARIABLE} to the address of a mirror's 'debian' directory",
        )
    if not security:
        # Every full mirror network serves both archives side by side.
        security = debian.rstrip("/") + "-security"
    return Mirrors(debian.rstrip("/"), security.rstrip("/"))


def _sources(etc_apt: Path) -> Iterator[str]:
    files = [etc_apt / "sources.list"]
    folder = etc_apt / "sources.list.d"
    if folder.is_dir():
        files += sorted(folder.iterdir())
    for path in files:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if path.suffix == ".sources":
            for field in re.findall(r"^URIs:(.*(?:\n[ \t].*)*)", text, re.M | re.I):
                yield from (word for word in field.split() if _fetchable(word))
        elif path.suffix == ".list":
            for line in text.splitlines():
                match = re.match(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)", line)
                if match and _fetchable(match[1]):
                    yield match[1]


def _fetchable(address: str) -> bool:
    return address.startswith(("http://", "https://"))
