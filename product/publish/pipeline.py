"""The steps of a release, in their order.

Everything is built, described and signed before the repository serves anything of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from product.image import progress
from product.image.build import Builder
from product.image.cache import Cache, digest_of
from product.image.media.kinds import Kind
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools
from product.manifest import MANIFEST_NAME
from product.publish import provenance
from product.publish.artefacts import Target, build_medium
from product.publish.checkout import Checkout
from product.publish.errors import PublishError
from product.publish.gates import Examined
from product.publish.request import ABOUT, MATRIX, NOTES, Request
from product.publish.steps import Facts, Output, Record, Step
from product.release import sshsig
from product.release.downloads import (
    PROVENANCE,
    SIGNATURE,
    SIGNERS,
    SUMS,
    envelope_text,
    signers_text,
    signing_key,
    sums_text,
)
from product.release.errors import RepositoryError
from product.release.keys import KeyDirectory
from product.release.shared_cli import opened
from product.release.state import read_state
from product.release.storage import sha256_file
from product.release.targets import target_path


class Pipeline:
    """The steps of one release, from what the gates read. Raises PublishError where they failed."""

    def __init__(self, request: Request, seen: Examined) -> None:
        if seen.checkout is None or seen.notes is None:
            raise PublishError("a release cannot be made of what the gates found")
        self._request = request
        self._seen = seen
        self._checkout: Checkout = seen.checkout
        self._notes: str = seen.notes
        self._keys = KeyDirectory(request.keys)
        self._builders: dict[Target, Builder] = {}
        self.output = Output(request.output)
        self._slots = [self._slot(target) for target in request.targets]
        self._media = [self._medium(*one) for one in request.media]
        self._text = Step("describe", self._inputs("describe", self._made), self._describe)
        self._origin = Step("provenance", self._inputs("provenance", self._made), self._provenance)
        self._sums = Step("sums", self._inputs("sums", self._listed), self._sign)
        self._served = [self._repository(target) for target in request.targets]

    @property
    def steps(self) -> list[Step]:
        """All of them, in their order."""
        return [
            *self._slots, *self._media, self._text, self._origin, self._sums, *self._served,
        ]  # fmt: skip

    # What steps depend on.

    def _inputs(self, name: str, more: Callable[[], object] = lambda: None) -> Callable[[], str]:
        """Asked for when a step's turn comes: what the steps before it left is part of it."""
        request = self._request
        base = (
            self._checkout.commit, request.version, request.channel, request.recipe.name,
            [str(target) for target in request.targets], request.kinds, request.allow_drift,
        )  # fmt: skip
        return lambda: digest_of(name, base, more())

    def _made(self) -> object:
        request = self._request
        return [
            self._files(*self._slots, *self._media), self._notes, self._seen.previous,
            [report.dump() for report in self._seen.reports], request.without_matrix,
            request.builder, self._public(),
        ]  # fmt: skip

    def _listed(self) -> object:
        return [self._digests(), self._public()]

    def _files(self, *steps: Step) -> object:
        found = (self.output.record(step) for step in steps)
        return [record and [record.files, record.facts] for record in found]

    def _public(self) -> str:
        return sshsig.public_line(signing_key(self._keys).public_key())

    def _digests(self) -> dict[str, str]:
        """Everything that the sums name. Steps that were not taken yet have nothing."""
        found: dict[str, str] = {}
        for step in (*self._media, self._text, self._origin):
            if record := self.output.record(step):
                found.update(record.files)
        return found

    # Steps.

    def _slot(self, target: Target) -> Step:
        def run(work: Path) -> Facts:
            image = self._builder(target).image(self._request.version)
            manifest = image.slot.manifest
            return {
                "image": image.digest,
                "manifest": sha256_file(image.slot.folder / MANIFEST_NAME),
                "artifacts": {one.name: one.sha256 for one in manifest.artifacts},
                "drift": list(manifest.drift),
            }

        name = f"image {target}"
        return Step(name, self._inputs(name), run)

    def _medium(self, kind: Kind, target: Target, file: str) -> Step:
        def run(work: Path) -> Facts:
            request = self._request
            channel = request.channel_of(target)
            build_medium(kind, self._builder(target), request.version, channel, work, file)
            return {"kind": kind, "arch": target.arch.value, "hardware": target.hardware}

        name = f"{kind} {target}"
        slot = next(one for one in self._slots if one.name == f"image {target}")
        return Step(name, self._inputs(name, lambda: self._files(slot)), run)

    def _describe(self, work: Path) -> Facts:
        (work / NOTES).write_text(self._notes)
        if self._seen.reports:
            reports = [report.model_dump(mode="json") for report in self._seen.reports]
            _write_json(work / MATRIX, {"schema_version": 1, "runs": reports})
        media = self.output.records(self._media)
        document = {
            "schema_version": 1,
            "version": self._request.version,
            "channel": self._request.channel,
            "commit": self._checkout.commit,
            "recipe": self._request.recipe.stem,
            "previous": self._seen.previous,
            "media": [
                {**record.facts, "file": file, "sha256": record.files[file]}
                for record, (_, _, file) in zip(media, self._request.media, strict=True)
            ],
        }
        _write_json(work / ABOUT, document)
        return {}

    def _provenance(self, work: Path) -> Facts:
        request = self._request
        subjects: dict[str, str] = {}
        for record in self.output.records([*self._media, self._text]):
            subjects.update(record.files)
        slots = self.output.records(self._slots)
        for target, record in zip(request.targets, slots, strict=True):
            subjects[f"{target}/{MANIFEST_NAME}"] = str(record.facts["manifest"])
            artifacts = record.facts["artifacts"]
            assert isinstance(artifacts, Mapping), "_slot writes it"
            subjects.update({f"{target}/{name}": str(sha) for name, sha in artifacts.items()})
        recipes: dict[Arch, list[Recipe]] = {}
        for target in request.targets:
            recipe = Recipe.load(request.recipe, hardware=target.hardware)
            recipes.setdefault(target.arch, []).append(recipe)
        internal: dict[str, object] = {
            "previous": self._seen.previous,
            "matrix": [report.id for report in self._seen.reports],
            "drift": {
                str(target): record.facts["drift"]
                for target, record in zip(request.targets, slots, strict=True)
            },
        }
        if request.without_matrix is not None:
            internal["withoutMatrix"] = request.without_matrix
        made = provenance.statement(
            subjects,
            external={
                "version": request.version,
                "channel": request.channel,
                "recipe": request.recipe.stem,
                "targets": [str(target) for target in request.targets],
                "media": list(request.kinds),
            },
            internal=internal,
            dependencies=provenance.dependencies(request.root, self._checkout.commit, recipes),
            builder=request.builder,
        )
        (work / PROVENANCE).write_text(envelope_text(made, self._keys))
        return {}

    def _sign(self, work: Path) -> Facts:
        self.output.records([*self._media, self._text, self._origin])
        key = signing_key(self._keys)
        text = sums_text(self._digests())
        (work / SUMS).write_text(text)
        (work / SIGNATURE).write_text(sshsig.sign(key, text.encode()))
        (work / SIGNERS).write_text(signers_text(key.public_key()))
        return {}

    def _repository(self, target: Target) -> Step:
        request = self._request
        channel = request.channel_of(target)
        path = target_path(channel, target.arch.value)

        def served() -> str | None:
            targets = read_state(request.repository).targets.targets
            return targets[path].hashes["sha256"] if path in targets else None

        def run(work: Path) -> Facts:
            slot = self._builder(target).slot(request.version)
            digest = sha256_file(slot.folder / MANIFEST_NAME)
            [record] = self.output.records([self._slot(target)])
            if digest != record.facts["manifest"]:
                raise PublishError(
                    f"the slot of {target} has another manifest than what was signed",
                    hint="the build is not reproducible here: begin in an empty folder",
                )
            if served() != digest:
                opening = opened(request.repository, request.keys)
                opening.publish(
                    slot.folder,
                    channel=channel,
                    notes=self._notes,
                    min_compatible_version=request.min_compatible_version,
                    terms=request.terms,
                    allow_drift=request.allow_drift,
                    deltas=request.deltas,
                    say=progress.note,
                )
                for note in opening.notes:
                    progress.note(note)
            return {"path": path, "digest": digest}

        def holds(record: Record) -> bool:
            try:
                return served() == record.facts.get("digest")
            except RepositoryError:
                return False

        name = f"repository {target}"
        return Step(name, self._inputs(name, lambda: self._files(self._sums)), run, holds)

    def _builder(self, target: Target) -> Builder:
        if target not in self._builders:
            cache = Cache()
            tools = next((one.tools for one in self._builders.values()), None)
            self._builders[target] = Builder(
                target.arch,
                cache=cache,
                tools=tools or HostTools.prepare(cache),
                recipe=self._request.recipe,
                hardware=target.hardware,
            )
        return self._builders[target]


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
