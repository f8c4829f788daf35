"""The signed entry of one release: its path, its fields, and which may follow which.

What is refused here would be refused by every node.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from tuf.api._payload import TargetFile, Targets

from product.manifest import MANIFEST_NAME, Manifest
from product.release.errors import RepositoryError
from product.terms import TIME_FORMAT, Terms
from product.version import Version, VersionError, parse_version, rank

# A field of our own in targets.json: the digests of releases that were taken back.
WITHDRAWN_FIELD = "x-kubesolo-withdrawn"
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class PublishedRelease(NamedTuple):
    """What a publish put where; ``replaces`` is the version served there before."""

    target_path: str
    manifest: Manifest
    digest: str
    replaces: str | None


class About(NamedTuple):
    """What the publisher says of a release; see ``product.terms`` for ``terms``."""

    notes: str = ""
    min_compatible_version: str | None = None
    terms: Terms = Terms()


def target_path(channel: str, architecture: str) -> str:
    """Where nodes look; raises RepositoryError for what cannot be a channel or architecture."""
    for what, value in (("channel", channel), ("architecture path", architecture)):
        if not _CHANNEL.fullmatch(value):
            raise RepositoryError(
                f"{what} {value!r} is malformed: it must match {_CHANNEL.pattern}"
            )
    return f"{channel}/{architecture}/{MANIFEST_NAME}"


def make_target(
    manifest: Manifest, channel: str, architecture: str, about: About, released: datetime
) -> TargetFile:
    """The entry of a release; raises RepositoryError for fields that no node would accept."""
    path = target_path(channel, architecture)
    version = _version("version", manifest.version)
    if about.min_compatible_version is not None:
        least = _version("min_compatible_version", about.min_compatible_version)
        if least.core > version.core:
            raise RepositoryError(
                f"min_compatible_version {about.min_compatible_version} is newer than the release "
                f"{manifest.version} itself",
                hint="name the oldest version that can be updated to this one",
            )
    target = TargetFile.from_data(path, manifest.to_bytes(), ["sha256"])
    target.unrecognized_fields["custom"] = {
        "version": manifest.version,
        "channel": channel,
        "architecture": manifest.architecture,
        "min_compatible_version": about.min_compatible_version,
        "release_date": stamp(released),
        "notes": about.notes,
        **about.terms.to_custom(),
    }
    return target


def require_successor(served: TargetFile | None, offered: TargetFile) -> None:
    """Raise RepositoryError where nodes that run what is ``served`` would not take ``offered``."""
    if served is None or served.hashes == offered.hashes:
        return
    old, new = served.custom["version"], offered.custom["version"]
    terms = Terms.parse(offered.custom)
    if parse_version(new) < rank(old) and not terms.allow_downgrade:
        raise RepositoryError(
            f"{offered.path} serves {old}, and {new} is older: nodes would refuse it",
            hint="--allow-downgrade signs that they may go back",
        )
    if parse_version(new) == rank(old) and not terms.allow_respin:
        raise RepositoryError(
            f"{offered.path} serves another build of {new}: nodes that run it would not change",
            hint="give the new build a new version, or sign with --allow-respin that nodes "
            "install it, too",
        )


def withdrawn_digests(targets: Targets) -> list[str]:
    """The SHA-256 of every manifest that was withdrawn and not published again."""
    found = targets.unrecognized_fields.get(WITHDRAWN_FIELD, [])
    return [str(digest) for digest in found] if isinstance(found, list) else []


def stamp(moment: datetime) -> str:
    """``moment`` as signed fields spell it."""
    return moment.astimezone(UTC).strftime(TIME_FORMAT)


def _version(what: str, text: str) -> Version:
    try:
        return parse_version(text)
    except VersionError as error:
        raise RepositoryError(
            f"the {what} is malformed, and nodes would refuse it: {error.message}", hint=error.hint
        ) from None
