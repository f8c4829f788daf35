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
# Another: by path, the entries of what was served before, newest first. They are signed, so that
# what is served again is never taken from a file that anybody may have put there.
FORMER_FIELD = "x-kubesolo-former"
KEEP_FORMER = 5
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


def put(targets: Targets, target: TargetFile) -> TargetFile | None:
    """Serve ``target``; what it replaces is remembered, signed like everything else of targets.

    Returns what was served there.
    """
    replaced = targets.targets.get(target.path)
    digest = target.hashes["sha256"]
    left = [other for other in withdrawn_digests(targets) if other != digest]
    if WITHDRAWN_FIELD in targets.unrecognized_fields:
        targets.unrecognized_fields[WITHDRAWN_FIELD] = left
    before = [*([replaced] if replaced else []), *former_of(targets, target.path)]
    _remember(targets, target.path, [each for each in before if each.hashes != target.hashes])
    targets.targets[target.path] = target
    return replaced


def take_back(targets: Targets, path: str) -> TargetFile:
    """Serve nothing at ``path``, and note that what was served is withdrawn."""
    withdrawn = targets.targets.pop(path)
    gone = [*withdrawn_digests(targets), withdrawn.hashes["sha256"]]
    targets.unrecognized_fields[WITHDRAWN_FIELD] = list(dict.fromkeys(gone))
    return withdrawn


def former_of(targets: Targets, path: str) -> list[TargetFile]:
    """What was served at ``path`` before, newest first, but what is served or was withdrawn."""
    every = targets.unrecognized_fields.get(FORMER_FIELD, {})
    found = [TargetFile.from_dict(dict(entry), path) for entry in every.get(path, [])]
    gone = withdrawn_digests(targets)
    return [target for target in found if target.hashes["sha256"] not in gone]


def _remember(targets: Targets, path: str, former: list[TargetFile]) -> None:
    kept: dict[str, TargetFile] = {}
    for target in former:
        kept.setdefault(target.hashes["sha256"], target)
    every = dict(targets.unrecognized_fields.get(FORMER_FIELD, {}))
    every[path] = [target.to_dict() for target in list(kept.values())[:KEEP_FORMER]]
    if not every[path]:
        del every[path]
    if every or FORMER_FIELD in targets.unrecognized_fields:
        targets.unrecognized_fields[FORMER_FIELD] = every


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
