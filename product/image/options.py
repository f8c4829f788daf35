"""Options that the commands of the image builder share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from product.image import progress
from product.image.build import Slot
from product.image.recipe import Arch
from product.image.secure_boot.keys import LoaderKind
from product.image.tools import IMAGES
from product.manifest import MANIFEST_NAME

ArchOption = Annotated[Arch | None, typer.Option(help="Guest architecture; the host's if absent.")]
# What users install; the project's own tests name theirs.
DEFAULT_RECIPE = IMAGES / "upstream.toml"
# What follows the name of an image's file.
SBOM_SUFFIX = ".spdx.json"
RecipeOption = Annotated[
    Path, typer.Option(help="Recipe file, or the name of one that comes with the project.")
]
HardwareOption = Annotated[
    str | None,
    typer.Option(help="Hardware (a part under hardware/) in place of the one the recipe names."),
]
BinaryOption = Annotated[
    Path | None,
    typer.Option(
        "--payload-binary",
        envvar="KUBESOLO_PAYLOAD_BINARY",
        help="A program of the payload that was built before; goes before payload.binary.",
    ),
]
ArchiveOption = Annotated[
    Path | None,
    typer.Option(
        "--payload-archive",
        envvar="KUBESOLO_PAYLOAD_ARCHIVE",
        help="The payload's release archive; goes before payload.archive.",
    ),
]
Sha256Option = Annotated[
    str | None,
    typer.Option(
        "--payload-sha256",
        envvar="KUBESOLO_PAYLOAD_SHA256",
        help="What the release archive's SHA-256 must be; goes before payload.sha256.",
    ),
]
OverlayOption = Annotated[
    list[Path] | None, typer.Option(help="Directory laid over the root; may be repeated.")
]
DriftOption = Annotated[
    bool,
    typer.Option(
        "--allow-drift",
        help="Take the archive's present version of locked packages that have vanished; "
        "the image is then marked as not the locked one.",
    ),
]
SigningKeyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--secure-boot-key",
        help="The image's owner's key (PEM): kernel, initramfs and command line are then one "
        "signed file. Repeated: the keys that follow it.",
    ),
]
CertificateOption = Annotated[
    list[Path] | None,
    typer.Option("--secure-boot-certificate", help="The key's certificate; in the same order."),
]
LoaderOption = Annotated[
    LoaderKind,
    typer.Option(
        "--secure-boot-loader",
        help="What the firmware starts: a GRUB that the key signs, or Microsoft's shim and "
        "Debian's GRUB, for keys enrolled as MOK.",
    ),
]


def warn_of_drift(slot: Slot) -> None:
    """Say so where packages of the image are not the locked ones."""
    if changed := slot.manifest.drift:
        progress.note(
            f"this is not the locked image: {len(changed)} packages are others than the locked "
            f"ones, as its {MANIFEST_NAME} says"
        )


def payload_options(
    binary: Path | None, archive: Path | None, sha256: str | None
) -> dict[str, str]:
    """The payload's options as a recipe has them."""
    given = {"binary": binary, "archive": archive}
    # Relative to where the command was typed, not to the recipe.
    options = {key: str(path.absolute()) for key, path in given.items() if path is not None}
    if sha256 is not None:
        options["sha256"] = sha256
    return options


def recipe_path(recipe: Path) -> Path:
    """``upstream`` is ``upstream.toml`` of the project's own recipes, unless such a file is."""
    # A name may have a version in it, which is no suffix.
    if recipe.exists() or recipe.suffix == ".toml" or recipe.name != str(recipe):
        return recipe
    return IMAGES / f"{recipe}.toml"
