"""Where locked packages may lie: the host's Debian mirror, and a snapshot archive if one is named.

Locks hold pool paths only. The mirror is whatever the host is already configured to trust with
its own packages, so that a site with a local mirror uses it without being told. A snapshot archive
keeps every version that the archive ever had, by time stamp; only the environment names one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from product.image.errors import DownloadError

DEBIAN_VARIABLE = "KUBESOLO_DEBIAN_MIRROR"
SECURITY_VARIABLE = "KUBESOLO_DEBIAN_SECURITY_MIRROR"
SNAPSHOT_VARIABLE = "KUBESOLO_DEBIAN_SNAPSHOT"
ARCHIVES = ("debian", "debian-security")
STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
# A snapshot archive answers with its last run before a time stamp. What the mirror had got since
# that run, the next ones have; several are made a day.
_NEXT_RUN = timedelta(days=1)


class Place(NamedTuple):
    """An address where a file of the archive may lie; ``name`` is how messages call it.

    What a mirror lacks is gone from the archive; a snapshot archive may just be out of reach.
    """

    name: str
    url: str
    is_mirror: bool = True

    @property
    def host(self) -> str:
        """Host and port of the address."""
        return urlsplit(self.url).netloc


class Mirrors(NamedTuple):
    """Base addresses of the two archives and of a snapshot archive, without a trailing slash."""

    debian: str
    security: str
    snapshot: str | None = None

    def url(self, archive: str, path: str) -> str:
        """Address of a pool path in ``archive`` (``debian`` or ``debian-security``)."""
        return f"{self.security if archive == 'debian-security' else self.debian}/{path}"

    def places(self, archive: str, path: str, stamp: str | None) -> list[Place]:
        """Where a pool path of ``archive`` may lie, likeliest first.

        ``stamp`` is when the archive had it (UTC, STAMP_FORMAT). Both archives often hold one
        file: a point release takes security updates over into ``debian``.
        """
        (other,) = set(ARCHIVES) - {archive}
        found = [
            Place(f"the mirror's {archive}", self.url(archive, path)),
            Place(f"the mirror's {other}", self.url(other, _in_other_archive(archive, path))),
        ]
        if self.snapshot and stamp:
            locked = datetime.strptime(stamp, STAMP_FORMAT)
            for moment in (locked, locked + _NEXT_RUN):
                when = moment.strftime(STAMP_FORMAT)
                url = f"{self.snapshot}/archive/{archive}/{when}/{path}"
                found.append(Place(f"the snapshot of {when}", url, is_mirror=False))
        return found


def _in_other_archive(archive: str, path: str) -> str:
    """The security archive's pool lies one folder deeper: ``pool/updates/main``."""
    if archive == "debian-security":
        return path.replace("pool/updates/", "pool/", 1)
    return path.replace("pool/", "pool/updates/", 1)


def now_stamp() -> str:
    """The present moment as a snapshot archive writes it."""
    return datetime.now(UTC).strftime(STAMP_FORMAT)


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
    snapshot = os.environ.get(SNAPSHOT_VARIABLE, "").rstrip("/") or None
    return Mirrors(debian.rstrip("/"), security.rstrip("/"), snapshot)


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
