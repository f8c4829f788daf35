"""Checking a repository as a stranger would: no keys, every signature, every byte."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tuf.api._payload import TargetFile
from tuf.api.exceptions import RepositoryError as TufError

from product.manifest import Manifest, ManifestError
from product.release.state import read_state
from product.release.storage import sha256_file


class Release(NamedTuple):
    """One release that the repository serves; ``digest`` is its manifest's SHA-256.

    ``drift`` names the packages that are not the locked ones.
    """

    path: str
    version: str
    architecture: str
    release_date: str
    digest: str
    drift: tuple[str, ...] = ()


class Report(NamedTuple):
    """What ``verify`` found: no ``problems`` means that clients can install every release.

    ``expires`` says when each role's metadata ends being valid.
    """

    releases: tuple[Release, ...]
    problems: tuple[str, ...]
    expires: dict[str, datetime]


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
    releases = []
    for target in state.targets.targets.values():
        release, found = _check_target(directory, target)
        problems += found
        if release is not None:
            releases.append(release)
    return Report(tuple(releases), tuple(problems), expires)


def _check_target(directory: Path, target: TargetFile) -> tuple[Release | None, list[str]]:
    (prefixed,) = target.get_prefixed_paths()
    path = directory / "targets" / prefixed
    try:
        data = path.read_bytes()
        target.verify_length_and_hashes(data)
        manifest = Manifest.parse(data, origin=str(path))
    except OSError as error:
        return None, [f"{target.path}: cannot read {path}: {error.strerror}"]
    except TufError as error:
        return None, [f"{target.path}: {path} is not what was signed: {error}"]
    except ManifestError as error:
        return None, [f"{target.path}: {error.message}"]
    custom = target.custom
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
    )
    return release, problems
