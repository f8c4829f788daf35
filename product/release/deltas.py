"""Deltas from the releases that nodes may run to the one that is published.

Each is made by ``delta_maker`` in a process of its own, under the locked Python and libzstd of the
host programs, and was applied there by the node's own code before it is offered. What cannot be
made is said and left out: nodes then fetch the whole file.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tuf.api._payload import TargetFile, Targets

from product.deltas import FIELD, MAX_DELTAS, Delta, DeltasError, parse_deltas
from product.errors import KubesoloError
from product.image.cache import Cache
from product.image.tools import HostTools
from product.manifest import Artifact, Manifest
from product.release.errors import RepositoryError
from product.release.state import read_manifest
from product.release.storage import place_file, sha256_file
from product.release.targets import former_of

RELEASES = 3
# A larger one saves less than it costs a node.
LIMIT_PERCENT = 70
# A smaller file is a matter of one round trip.
LEAST_SIZE = 64 * 1024

Say = Callable[[str], None]
# Makes a delta from the first file to the second, writes it to the third, and says what is in it.
Make = Callable[[Path, Path, Path], dict[str, float]]


class DeltaOptions(NamedTuple):
    """From how many releases before, and what share of the whole file is too much."""

    releases: int = RELEASES
    limit: float = LIMIT_PERCENT


def make_with_tools(old: Path, new: Path, out: Path) -> dict[str, float]:
    """Make one delta with the locked programs. Raises KubesoloError where that fails."""
    tools = HostTools.prepare(Cache())
    printed = tools.run(
        "python3.13", "-s", "-S", "-P", "-B", "-m", f"{__package__}.delta_maker",
        old.resolve(), new.resolve(), out.resolve(),
        environment={
            "PYTHONHOME": str(tools.root / "usr"),
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(Path(__file__).resolve().parents[__name__.count(".")]),
        },
    )  # fmt: skip
    figures: dict[str, float] = json.loads(printed)
    return figures


def offer_deltas(
    directory: Path,
    targets: Targets,
    target: TargetFile,
    manifest: Manifest,
    options: DeltaOptions,
    say: Say,
    make: Make = make_with_tools,
) -> None:
    """Make ``target`` name the deltas to ``manifest`` of what its path served so far.

    Deltas that ``target`` names already, and others of the repository, are used again where their
    files are there.
    """
    kept = [delta for delta in _named(target) if _is_there(directory, delta)]
    found = {(delta.name, delta.source, delta.target): delta for delta in kept}
    known = {(d.name, d.source, d.target): d for d in _of_repository(directory, targets)}
    for version, old, new in _pairs(directory, targets, target, manifest, options.releases):
        key = (new.name, old.sha256, new.sha256)
        if key in found or len(found) >= MAX_DELTAS:
            continue
        if key in known:
            delta: Delta | None = known[key]
        else:
            delta = _make(directory, version, old, new, options, say, make)
        if delta is not None:
            found[key] = delta
    attach(target, list(found.values()))


def attach(target: TargetFile, deltas: Sequence[Delta]) -> None:
    """Let ``target`` name ``deltas`` and no others."""
    custom = {key: value for key, value in target.custom.items() if key != FIELD}
    if deltas:
        custom[FIELD] = [delta.to_custom() for delta in deltas]
    target.unrecognized_fields["custom"] = custom


def keep_existing(directory: Path, target: TargetFile) -> None:
    """Let ``target`` name no delta whose file is gone."""
    attach(target, [delta for delta in _named(target) if _is_there(directory, delta)])


def check_deltas(directory: Path, target: TargetFile, manifest: Manifest) -> list[str]:
    """What is wrong with the deltas of ``target``, one line each."""
    try:
        deltas = parse_deltas(target.custom)
    except DeltasError as error:
        return [f"{target.path}: {error.message}"]
    own = {(artifact.name, artifact.sha256) for artifact in manifest.artifacts}
    problems = []
    for delta in deltas:
        what = f"{target.path}: delta of {delta.name} from {delta.source[:12]}"
        file = _file(directory, delta)
        if (delta.name, delta.target) not in own:
            problems.append(f"{what} leads to no artifact of the release")
        try:
            found = sha256_file(file)
        except OSError as error:
            problems.append(f"{what}: cannot read {file}: {error.strerror}")
            continue
        if found != delta.sha256 or file.stat().st_size != delta.size:
            problems.append(f"{what}: {file} has SHA-256 {found}, {file.stat().st_size} bytes")
    return problems


def _pairs(
    directory: Path, targets: Targets, target: TargetFile, manifest: Manifest, releases: int
) -> Iterator[tuple[str, Artifact, Artifact]]:
    """Version, old and new artifact of each delta that could be made."""
    new = {artifact.name: artifact for artifact in manifest.artifacts}
    seen = 0
    served = targets.targets.get(target.path)
    for former in [*([served] if served else []), *former_of(targets, target.path)]:
        if seen >= releases or former.hashes == target.hashes:
            continue
        try:
            before = read_manifest(directory, former)
        except RepositoryError:
            # It was pruned.
            continue
        seen += 1
        for old in before.artifacts:
            artifact = new.get(old.name)
            if (
                artifact is not None
                and artifact.sha256 != old.sha256
                and min(old.size, artifact.size) >= LEAST_SIZE
                and (directory / "artifacts" / old.sha256).is_file()
            ):
                yield before.version, old, artifact


def _make(
    directory: Path,
    version: str,
    old: Artifact,
    new: Artifact,
    options: DeltaOptions,
    say: Say,
    make: Make,
) -> Delta | None:
    artifacts = directory / "artifacts"
    what = f"delta of {new.name} from {version}"
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kubesolo-delta-") as folder:
        out = Path(folder, "delta")
        try:
            make(artifacts / old.sha256, artifacts / new.sha256, out)
        except KubesoloError as error:
            say(f"{what}: none, nodes fetch the whole file: {error.message}")
            return None
        size = out.stat().st_size
        share = size * 100 / new.size
        figures = f"{size} bytes, {share:.1f} % of {new.size}, {time.monotonic() - begin:.0f} s"
        if share > options.limit:
            say(f"{what}: not offered: {figures}, more than {options.limit:g} %")
            return None
        sha256 = sha256_file(out)
        place_file(out, artifacts / sha256, sha256)
    say(f"{what}: {figures}")
    return Delta(new.name, old.sha256, new.sha256, size, sha256)


def _of_repository(directory: Path, targets: Targets) -> Iterator[Delta]:
    for path, served in targets.targets.items():
        for target in [served, *former_of(targets, path)]:
            yield from (delta for delta in _named(target) if _is_there(directory, delta))


def _named(target: TargetFile) -> tuple[Delta, ...]:
    try:
        return parse_deltas(target.custom)
    except DeltasError:
        return ()


def _file(directory: Path, delta: Delta) -> Path:
    return directory / "artifacts" / delta.sha256


def _is_there(directory: Path, delta: Delta) -> bool:
    file = _file(directory, delta)
    return file.is_file() and file.stat().st_size == delta.size
