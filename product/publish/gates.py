"""What must hold before a release is made. Nothing is written here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from product.current import VERSION
from product.errors import KubesoloError
from product.image import drift
from product.image.recipe import Recipe
from product.publish.changelog import release_notes
from product.publish.checkout import Checkout
from product.publish.errors import PublishError
from product.publish.matrix import MatrixReport, Wanted, problems, read_reports
from product.publish.request import ABOUT, CHANGELOG, Request
from product.publish.steps import RECORDS
from product.release.downloads import (
    load_downloads_key,
    signing_key,
    verify_downloads,
)
from product.release.keys import DOWNLOADS, KeyDirectory
from product.release.state import read_state
from product.release.targets import former_of, target_path
from product.version import DEVELOPMENT, parse_version, rank

# What a publish of a repository signs.
_SIGNING = ("targets", "snapshot", "timestamp")
_OWN_PROGRAM = "KUBESOLO_HOST_TOOL_"


class Finding(NamedTuple):
    """One gate: what it looked at, what it found, and what to do where that is not enough."""

    gate: str
    found: str
    good: bool = True
    hint: str | None = None


@dataclass
class Examined:
    """What the gates read, for the steps; None where it could not be."""

    findings: list[Finding] = field(default_factory=list)
    checkout: Checkout | None = None
    notes: str | None = None
    reports: list[MatrixReport] = field(default_factory=list)
    previous: str | None = None

    @property
    def good(self) -> bool:
        """Whether a release can be made."""
        return all(finding.good for finding in self.findings)


def examine(request: Request) -> Examined:
    """Look at everything, so that all that is missing is said at once."""
    seen = Examined()
    for name, gate in _GATES:
        try:
            seen.findings += [Finding(name, *rest) for rest in gate(request, seen)]
        except KubesoloError as error:
            seen.findings.append(Finding(name, error.message, False, error.hint))
        except OSError as error:
            said = f"{error.filename or 'a file'}: {error.strerror or error}"
            seen.findings.append(Finding(name, said, False))
    return seen


_Findings = Iterator[tuple[str] | tuple[str, bool] | tuple[str, bool, str | None]]


def _version(request: Request, seen: Examined) -> _Findings:
    if request.version == DEVELOPMENT:
        raise PublishError(f"{DEVELOPMENT} is no version of a release")
    own, wanted = parse_version(VERSION), parse_version(request.version)
    before_it = wanted.core == own.core and not wanted.before[0] and not request.strict
    if request.version.startswith("v"):
        raise PublishError(f"{request.version}: write the version without v")
    if request.version != VERSION and not before_it:
        others = "" if request.strict else f", or a version before it, as {VERSION}-rc.1"
        yield (
            f"{request.version} is to be released, and this checkout is {VERSION}",
            False,
            f"set VERSION in product/current.py, commit it, or name {VERSION}{others}",
        )
        return
    yield (f"{request.version} for the channel {request.channel}",)


def _checkout(request: Request, seen: Examined) -> _Findings:
    checkout = seen.checkout = Checkout.read(request.root)
    if checkout.changed:
        first = checkout.changed[0].strip()
        yield (
            f"{len(checkout.changed)} files differ from commit {checkout.commit}, as {first}",
            False,
            "commit them, or publish from a fresh clone",
        )
        return
    yield (f"commit {checkout.commit}, nothing changed",)


def _tag(request: Request, seen: Examined) -> _Findings:
    if seen.checkout is None:
        return
    tag, tags = f"v{request.version}", seen.checkout.tags
    if tag in tags:
        yield (tag,)
    elif request.strict or tags:
        found = f"it has {', '.join(tags)}" if tags else "it has none"
        yield (f"the commit must have the tag {tag}, and {found}", False, f"git tag -s {tag}")
    else:
        yield (f"none, which the channel {request.channel} does without",)


def _changelog(request: Request, seen: Examined) -> _Findings:
    seen.notes = release_notes(request.root / CHANGELOG, request.version)
    yield (f"{len(seen.notes.splitlines())} lines about {request.version}",)


def _recipe(request: Request, seen: Examined) -> _Findings:
    for target in request.targets:
        recipe = Recipe.load(request.recipe, hardware=target.hardware)
        if not recipe.lock_path(target.arch).is_file():
            yield (
                f"{recipe.name} has no lock for {target.arch}",
                False,
                f"./noxw -s lock -- {request.recipe}",
            )
        else:
            yield (f"{recipe.name} for {target.arch}",)
    own = sorted(name for name in os.environ if name.startswith(_OWN_PROGRAM))
    if own and request.strict:
        yield (f"{own[0]} puts a program in the place of a locked one", False, f"unset {own[0]}")
    if request.strict and (request.allow_drift or drift.allowed()):
        yield (
            "packages other than the locked ones are allowed",
            False,
            "leave --allow-drift out and unset KUBESOLO_ALLOW_DRIFT",
        )


def _media(request: Request, seen: Examined) -> _Findings:
    yield (f"{len(request.media)} files: {', '.join(request.kinds)}",)


def _keys(request: Request, seen: Examined) -> _Findings:
    keys = KeyDirectory(request.keys)
    signing_key(keys)
    missing = [role for role in _SIGNING if not keys.files(role)]
    for role in _SIGNING:
        keys.signers(role)
    if missing:
        yield (
            f"{request.keys} has no key of {', '.join(missing)}",
            False,
            f"bring them there, or make them: kubesolo-release keys {request.keys}",
        )
    else:
        yield (f"{request.keys} has those of {', '.join((DOWNLOADS, *_SIGNING))}",)


def _channel(request: Request, seen: Examined) -> _Findings:
    signed = read_state(request.repository).targets
    targets = signed.targets
    begun = (request.output / RECORDS).is_dir()
    versions = []
    for target in request.targets:
        path = target_path(request.channel_of(target), target.arch.value)
        if path not in targets:
            yield (f"{path} serves nothing yet",)
            continue
        served = str(targets[path].custom["version"])
        if rank(served) < parse_version(request.version):
            versions.append(served)
            yield (f"{path} serves {served}, which is older",)
        elif served == request.version and begun:
            before = (str(one.custom["version"]) for one in former_of(signed, path))
            versions += [one for one in before if rank(one) < parse_version(request.version)][:1]
            yield (f"{path} serves it already, from a run that was cut off",)
        else:
            yield (
                f"{path} serves {served}, and {request.version} is not newer",
                False,
                "give the release a higher version; a bad one is taken back by "
                "kubesolo-release withdraw",
            )
    seen.previous = max(versions, key=rank, default=None)


def _previous(request: Request, seen: Examined) -> _Findings:
    named = request.previous
    if named is not None:
        folder = Path(named)
        if folder.is_dir():
            key = load_downloads_key(request.keys / f"{DOWNLOADS}.pub.pem")
            verify_downloads(folder, key)
            seen.previous = version_of(folder)
        else:
            parse_version(named)
            seen.previous = named
        if rank(seen.previous) >= parse_version(request.version):
            raise PublishError(f"the release before is {seen.previous}, which is not older")
    yield (seen.previous or "there is none",)


def _matrix(request: Request, seen: Examined) -> _Findings:
    reason = request.without_matrix
    if reason is not None:
        if request.strict:
            yield (
                f"a release for {request.channel} is never made without the matrix",
                False,
                "publish it for another channel, and promote it when it was tested",
            )
        elif not reason.strip():
            yield ("--without-matrix has no reason", False, "say why; provenance keeps it")
        else:
            yield (f"left out: {reason}",)
        return
    if seen.checkout is None:
        return
    seen.reports = read_reports(request.matrix)
    architectures = sorted({target.arch.value for target in request.targets})
    wanted = Wanted(
        seen.checkout.commit, seen.checkout.scenario_files, architectures, request.matrix_days,
        seen.previous,
    )  # fmt: skip
    found = list(problems(seen.reports, wanted))
    for problem in found:
        yield (problem, False, "run ./noxw -s matrix on this very commit, both architectures")
    if not found:
        passed = sum(len(report.passed) for report in seen.reports)
        yield (f"{passed} scenarios passed on {', '.join(architectures)}",)


def _output(request: Request, seen: Examined) -> _Findings:
    if not request.output.is_dir():
        yield (f"{request.output} is to be made",)
        return
    names = {entry.name for entry in request.output.iterdir() if not entry.name.startswith(".")}
    if others := sorted(names - set(request.files)):
        yield (
            f"{request.output} holds {others[0]}, which is no part of this release",
            False,
            "name another folder: --output",
        )
    else:
        yield (f"{request.output}",)


def version_of(folder: Path) -> str:
    """The version of the release in ``folder``. Raises PublishError."""
    try:
        version = str(json.loads((folder / ABOUT).read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        raise PublishError(
            f"{folder} holds no release: {ABOUT} cannot be read",
            hint="name the folder that a release was made in, or its version",
        ) from None
    parse_version(version)
    return version


_GATES: tuple[tuple[str, Callable[[Request, Examined], _Findings]], ...] = (
    ("version", _version),
    ("checkout", _checkout),
    ("tag", _tag),
    ("changelog", _changelog),
    ("recipe", _recipe),
    ("media", _media),
    ("keys", _keys),
    ("channel", _channel),
    ("previous", _previous),
    ("matrix", _matrix),
    ("output", _output),
)
