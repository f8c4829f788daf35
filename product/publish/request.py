"""What a publisher asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from product.image.media.kinds import Kind, file_name
from product.publish.artefacts import SBOM_SUFFIX, Target, kinds_of
from product.release.deltas import DeltaOptions
from product.release.downloads import PROVENANCE, SIGNATURE, SIGNERS, SUMS
from product.terms import Terms

CHANGELOG = "CHANGELOG.md"
NOTES = "notes.md"
MATRIX = "matrix.json"
ABOUT = "release.json"
# The one channel whose releases nothing may be left out of.
STRICT_CHANNEL = "stable"


@dataclass(frozen=True, slots=True)
class Request:
    """One release. ``root`` is the checkout, ``output`` gets the files that people download.

    ``matrix`` are reports or folders of them, at most ``matrix_days`` old, or ``without_matrix``
    says why there is none. ``previous`` is the release before: its version, or the folder that it
    was made in. ``builder`` is a URI that says who builds.
    """

    root: Path
    version: str
    channel: str
    recipe: Path
    targets: tuple[Target, ...]
    kinds: tuple[Kind, ...]
    output: Path
    repository: Path
    keys: Path
    builder: str
    matrix: Sequence[Path]
    matrix_days: float
    without_matrix: str | None = None
    previous: str | None = None
    min_compatible_version: str | None = None
    terms: Terms = field(default_factory=Terms)
    deltas: DeltaOptions | None = field(default_factory=DeltaOptions)
    allow_drift: bool = False

    @property
    def strict(self) -> bool:
        """Whether nothing may be left out."""
        return self.channel == STRICT_CHANNEL

    def channel_of(self, target: Target) -> str:
        """Where nodes of ``target`` look: slots of other hardware are a channel's of their own."""
        return self.channel + (f"-{target.hardware}" if target.hardware else "")

    @property
    def media(self) -> list[tuple[Kind, Target, str]]:
        """Kind, target and file name of each medium."""
        return [
            (kind, target, file_name(kind, self.version, target.arch, target.hardware))
            for target in self.targets
            for kind in kinds_of(target, self.kinds)
        ]

    @property
    def files(self) -> list[str]:
        """The names of everything that the output may hold in the end."""
        names = [name for _, _, name in self.media]
        return [
            *names, *(f"{name}{SBOM_SUFFIX}" for name in names),
            NOTES, MATRIX, ABOUT, PROVENANCE, SUMS, SIGNATURE, SIGNERS,
        ]  # fmt: skip
