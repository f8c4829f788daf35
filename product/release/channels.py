"""What happens to a release after it was published: promoted, rolled out, paused, withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tuf.api._payload import TargetFile, Targets

from product.manifest import Manifest
from product.release.deltas import DeltaOptions, keep_existing, offer_deltas
from product.release.errors import RepositoryError
from product.release.repository import Repository, utc_now
from product.release.state import read_manifest
from product.release.storage import write_file
from product.release.targets import (
    former_of,
    put,
    require_successor,
    stamp,
    take_back,
    target_path,
    withdrawn_digests,
)
from product.terms import EVERYBODY, Terms


class Change(NamedTuple):
    """One path of a repository: the version served there before and now, None where none is."""

    path: str
    before: str | None
    now: str | None


def promote(
    repository: Repository,
    source: str,
    destination: str,
    *,
    architecture: str | None = None,
    terms: Terms | None = None,
    now: datetime | None = None,
    deltas: DeltaOptions | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Change]:
    """Make the releases of the channel ``source`` those of ``destination``, to the byte.

    Deltas go with it. With ``deltas``, those from what ``destination`` served are made where they
    lack; ``say`` is told of each. Raises RepositoryError where there are no releases, or nodes of
    ``destination`` would not take them.
    """
    if source == destination:
        raise RepositoryError(f"{source!r} cannot be promoted to itself")

    def change(targets: Targets) -> list[Change]:
        changes = []
        for path in _served(targets, source, architecture):
            served = targets.targets[path]
            new = target_path(destination, path.split("/")[1])
            promoted = TargetFile(served.length, dict(served.hashes), new)
            custom = {**_without_terms(served), "channel": destination}
            custom |= {"release_date": stamp(now or utc_now()), **(terms or Terms()).to_custom()}
            promoted.unrecognized_fields["custom"] = custom
            if served.hashes["sha256"] in withdrawn_digests(targets):
                raise RepositoryError(
                    f"{_version(served)} of {path} was withdrawn, and is not promoted",
                    hint="publish it again if that was a mistake",
                )
            before = targets.targets.get(new)
            require_successor(before, promoted)
            manifest = _copy_manifest(repository.directory, served, promoted)
            if deltas is not None:
                offer_deltas(repository.directory, targets, promoted, manifest, deltas, say)
            put(targets, promoted)
            changes.append(Change(new, _version(before), _version(promoted)))
        return changes

    return repository.edit(change)


def roll_out(
    repository: Repository,
    channel: str,
    *,
    percent: int = EVERYBODY,
    start: datetime | None = None,
    architecture: str | None = None,
) -> list[Change]:
    """Let so many of a hundred nodes install what the channel serves, from ``start`` on."""
    if not 0 <= percent <= EVERYBODY:
        raise RepositoryError(f"{percent} percent cannot be: a rollout has 0 to {EVERYBODY}")
    return _set_terms(
        repository,
        channel,
        architecture,
        lambda terms: terms._replace(percent=percent, start=start),
    )


def pause(
    repository: Repository, channel: str, reason: str, *, architecture: str | None = None
) -> list[Change]:
    """Let nobody install what the channel serves; its share and start stay."""
    return _set_terms(
        repository, channel, architecture, lambda terms: terms._replace(paused=reason)
    )


def resume(
    repository: Repository, channel: str, *, architecture: str | None = None
) -> list[Change]:
    """End a pause."""
    return _set_terms(repository, channel, architecture, lambda terms: terms._replace(paused=None))


def withdraw(
    repository: Repository,
    channel: str,
    *,
    architecture: str | None = None,
    allow_downgrade: bool = False,
) -> list[Change]:
    """Serve what the channel served before instead, or nothing where there was no other.

    With ``allow_downgrade``, nodes that have installed the withdrawn release go back.
    """

    def change(targets: Targets) -> list[Change]:
        changes = []
        for path in _served(targets, channel, architecture):
            withdrawn = take_back(targets, path)
            former = _former(repository.directory, targets, path)
            if former is not None:
                terms = Terms.parse(former.custom)._replace(
                    paused=None, allow_downgrade=allow_downgrade, allow_respin=allow_downgrade
                )
                former.unrecognized_fields["custom"] = {
                    **_without_terms(former),
                    **terms.to_custom(),
                }
                keep_existing(repository.directory, former)
                put(targets, former)
            changes.append(Change(path, _version(withdrawn), _version(former)))
        return changes

    return repository.edit(change)


def _set_terms(
    repository: Repository,
    channel: str,
    architecture: str | None,
    changed: Callable[[Terms], Terms],
) -> list[Change]:
    def change(targets: Targets) -> list[Change]:
        changes = []
        for path in _served(targets, channel, architecture):
            target = targets.targets[path]
            terms = changed(Terms.parse(target.custom))
            target.unrecognized_fields["custom"] = {
                **_without_terms(target),
                **terms.to_custom(),
            }
            changes.append(Change(path, _version(target), _version(target)))
        return changes

    return repository.edit(change)


def _served(targets: Targets, channel: str, architecture: str | None) -> list[str]:
    """The paths of a channel, of one architecture or all; raises RepositoryError for none."""
    if architecture is not None:
        wanted = [target_path(channel, architecture)]
    else:
        target_path(channel, "any")
        wanted = [path for path in targets.targets if path.split("/")[0] == channel]
    found = sorted(path for path in wanted if path in targets.targets)
    if not found:
        what = f" for {architecture}" if architecture else ""
        there = ", ".join(sorted(targets.targets)) or "nothing"
        raise RepositoryError(
            f"there is no release of the channel {channel!r}{what}",
            hint=f"the repository serves {there}",
        )
    return found


def _without_terms(target: TargetFile) -> dict[str, object]:
    terms = {"allow_downgrade", "allow_respin", "rollout", "paused"}
    return {key: value for key, value in target.custom.items() if key not in terms}


def _version(target: TargetFile | None) -> str | None:
    return None if target is None else str(target.custom["version"])


def _former(directory: Path, targets: Targets, path: str) -> TargetFile | None:
    """The newest other release of ``path`` that is still there as a whole."""
    whole = (target for target in former_of(targets, path) if _is_whole(directory, target))
    return next(whole, None)


def _is_whole(directory: Path, target: TargetFile) -> bool:
    try:
        manifest = read_manifest(directory, target)
    except RepositoryError:
        return False
    return all((directory / "artifacts" / a.sha256).is_file() for a in manifest.artifacts)


def _copy_manifest(directory: Path, source: TargetFile, target: TargetFile) -> Manifest:
    manifest = read_manifest(directory, source)
    (old,), (new,) = source.get_prefixed_paths(), target.get_prefixed_paths()
    write_file(directory / "targets" / new, (directory / "targets" / old).read_bytes())
    return manifest
