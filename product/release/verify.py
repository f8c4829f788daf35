"""Checking a repository as a stranger would: no keys, every signature, every byte."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tuf.api._payload import TargetFile

from product.release.deltas import check_deltas
from product.release.due import warning
from product.release.errors import RepositoryError
from product.release.state import read_manifest, read_state
from product.release.storage import sha256_file
from product.terms import Terms, TermsError
from product.version import VersionError, parse_version


class Release(NamedTuple):
    """One release that the repository serves; ``digest`` is its manifest's SHA-256.

    ``drift`` names the packages that are not the locked ones; ``terms`` say who installs it.
    """

    path: str
    version: str
    architecture: str
    release_date: str
    digest: str
    drift: tuple[str, ...] = ()
    terms: Terms = Terms()


class Report(NamedTuple):
    """What ``verify`` found: no ``problems`` means that clients can install every release.

    ``expires`` says when each role's metadata ends being valid, ``warnings`` which ends soon.
    """

    releases: tuple[Release, ...]
    problems: tuple[str, ...]
    expires: dict[str, datetime]
    warnings: tuple[str, ...] = ()


def verify(directory: Path, *, now: datetime | None = None) -> Report:
    """Check expiry, every target and every artifact of ``directory``.

    Raises RepositoryError where the metadata cannot be read or its signatures do not hold.
    """
    moment = now or datetime.now(UTC)
    state = read_state(directory)
    expires = {
        signed.type: signed.expires
        for signed in (state.root, state.targets, state.snapshot, state.timestamp)
    }
    problems = [
        f"{role} metadata expired on {end.isoformat()}"
        for role, end in expires.items()
        if end <= moment
    ]
    found_soon = (warning(role, end, moment) for role, end in expires.items())
    warnings = tuple(text for text in found_soon if text)
    releases = []
    for target in state.targets.targets.values():
        release, found = _check_target(directory, target)
        problems += found
        if release is not None:
            releases.append(release)
    return Report(tuple(releases), tuple(problems), expires, warnings)


def require_valid(directory: Path, *, now: datetime | None = None) -> None:
    """Raise RepositoryError unless nodes can install everything that ``directory`` serves."""
    problems = verify(directory, now=now).problems
    if problems:
        more = f", and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        raise RepositoryError(
            f"nodes would refuse {directory}: {problems[0]}{more}",
            hint=f"see all of them: kubesolo-release verify {directory}",
        )


def _check_target(directory: Path, target: TargetFile) -> tuple[Release | None, list[str]]:
    custom = target.custom
    try:
        manifest = read_manifest(directory, target)
        terms = Terms.parse(custom)
        parse_version(manifest.version)
    except (RepositoryError, TermsError, VersionError) as error:
        return None, [f"{target.path}: {error.message}"]
    problems = []
    for artifact in manifest.artifacts:
        file = directory / "artifacts" / artifact.sha256
        try:
            digest = sha256_file(file)
        except OSError as error:
            problems.append(f"{target.path}: {artifact.name}: cannot read {file}: {error.strerror}")
            continue
        if digest != artifact.sha256:
            problems.append(f"{target.path}: {artifact.name}: {file} has SHA-256 {digest}")
    problems += check_deltas(directory, target, manifest)
    path_architecture = target.path.split("/")[1]
    if path_architecture != manifest.architecture:
        problems.append(
            f"{target.path}: serves a release for {manifest.architecture} to {path_architecture}"
        )
    release = Release(
        target.path,
        manifest.version,
        manifest.architecture,
        custom["release_date"],
        target.hashes["sha256"],
        manifest.drift,
        terms,
    )
    return release, problems
