"""The image builder's command line, on the build host."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from product import command_line
from product.current import VERSION
from product.errors import KubesoloError
from product.image import drift, kernel, progress, sparse
from product.image.build import Builder
from product.image.cache import Cache
from product.image.errors import DownloadError, LockError
from product.image.flash_command import flash
from product.image.golang.renew import ModuleRenewal, Renewable, ToolchainRenewal, modules_in
from product.image.golang.toolchain import LOCK as TOOLCHAIN
from product.image.locks import Lock
from product.image.media.command import from_oci, media
from product.image.options import (
    DEFAULT_RECIPE,
    SBOM_SUFFIX,
    ArchiveOption,
    ArchOption,
    BinaryOption,
    CertificateOption,
    DriftOption,
    HardwareOption,
    LoaderOption,
    OverlayOption,
    RecipeOption,
    Sha256Option,
    SigningKeyOption,
    payload_options,
    recipe_path,
    warn_of_drift,
)  # fmt: skip
from product.image.payload import Relockable
from product.image.payload.table import payload_of
from product.image.recipe import Arch, Recipe
from product.image.relock import Change, outdated, relock
from product.image.secure_boot.command import secure_boot_keys
from product.image.secure_boot.keys import LoaderKind, load_signing
from product.image.tools import IMAGES, UNPACKED, HostTools, host_arch

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def build(
    arch: ArchOption = None,
    version: Annotated[str, typer.Option(help="Version of slot A.")] = VERSION,
    recipe: RecipeOption = DEFAULT_RECIPE,
    hardware: HardwareOption = None,
    overlay: OverlayOption = None,
    payload_binary: BinaryOption = None,
    payload_archive: ArchiveOption = None,
    payload_sha256: Sha256Option = None,
    secure_boot_key: SigningKeyOption = None,
    secure_boot_certificate: CertificateOption = None,
    secure_boot_loader: LoaderOption = LoaderKind.OWN,
    allow_drift: DriftOption = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Copy the disk image here, and to FILE.spdx.json what it is made of."),
    ] = None,
) -> None:
    """Build the disk image whose slot A holds one version; print its path.

    Beside it lies what it is made of: packages, versions, digests, licences, as SPDX 2.3 in JSON.
    """
    with drift.allowing(allow_drift):
        payload = payload_options(payload_binary, payload_archive, payload_sha256)
        signing = load_signing(
            secure_boot_key or (), secure_boot_certificate or (), secure_boot_loader
        )
        builder = Builder(
            arch or host_arch(), recipe=recipe_path(recipe), hardware=hardware, payload=payload,
            signing=signing,
        )  # fmt: skip
        image = builder.image(version, tuple(overlay or ()))
    path = image.disk
    if output is not None:
        sparse.copy(path, output)
        shutil.copyfile(image.sbom, f"{output}{SBOM_SUFFIX}")
        path = output
    print(path)
    progress.note(f"sha256 {image.sha256}")
    warn_of_drift(image.slot)


@app.command()
def slot(
    arch: ArchOption = None,
    version: Annotated[str, typer.Option(help="Version of the release.")] = VERSION,
    recipe: RecipeOption = DEFAULT_RECIPE,
    hardware: HardwareOption = None,
    overlay: OverlayOption = None,
    payload_binary: BinaryOption = None,
    payload_archive: ArchiveOption = None,
    payload_sha256: Sha256Option = None,
    secure_boot_key: SigningKeyOption = None,
    secure_boot_certificate: CertificateOption = None,
    secure_boot_loader: LoaderOption = LoaderKind.OWN,
    allow_drift: DriftOption = False,
) -> None:
    """Build the files of one slot, as a release is published from; print their directory."""
    with drift.allowing(allow_drift):
        payload = payload_options(payload_binary, payload_archive, payload_sha256)
        signing = load_signing(
            secure_boot_key or (), secure_boot_certificate or (), secure_boot_loader
        )
        builder = Builder(
            arch or host_arch(), recipe=recipe_path(recipe), hardware=hardware, payload=payload,
            signing=signing,
        )  # fmt: skip
        built = builder.slot(version, tuple(overlay or ()))
    print(built.folder)
    warn_of_drift(built)


@app.command()
def lock(
    recipe: Annotated[list[Path] | None, typer.Argument()] = None,
    hardware: HardwareOption = None,
    allow_older: Annotated[
        bool,
        typer.Option("--allow-older", help="Take versions that are older than the locked ones."),
    ] = False,
) -> None:
    """Renew lock files from the archive, and those of Go modules; prints what changed.

    It takes recipes, folders of Go modules and images/go/toolchain.json; all if none is named.
    A kernel without a module that the recipe names is an error; the lock is written all the same.
    """
    if UNPACKED and not recipe:
        raise LockError(
            "the project's own locks are renewed in a checkout, and this is an installed program",
            hint="run ./noxw -s lock in a checkout, or name a recipe of yours",
        )
    for path, arch in _locks(recipe):
        read, cache = Recipe.load(path, hardware=hardware), Cache()
        if arch not in read.architectures:
            continue
        changes = relock(read, arch, cache, allow_older=allow_older)
        _print_changes(path, arch, changes)
        if read.packages.of(arch).kernel:
            made = Lock.load(read.lock_path(arch))
            kernel.check_modules(kernel.prepare(made, arch, cache, HostTools.prepare(cache)), read)
    for path in _recipes(recipe):
        payload = payload_of(Recipe.load(path))
        if isinstance(payload, Relockable):
            _renew(f"{path.stem} payload", payload.relock)
    for name, one in _go_locks(recipe):
        _renew(name, lambda one=one: _lines(one.renew()))  # type: ignore[misc]


@app.command(name="outdated")
def check_outdated(recipe: Annotated[list[Path] | None, typer.Argument()] = None) -> None:
    """Print what a re-lock would change; exit status 1 if anything."""
    found = False
    for path, arch in _locks(recipe):
        changes = outdated(Recipe.load(path), arch, Cache())
        _print_changes(path, arch, changes)
        found = found or bool(changes)
    for name, one in _go_locks(recipe):
        try:
            newer = one.outdated()
        except DownloadError as error:
            print(f"{name}: not checked: {error.message}")
            _print_hint(error)
            continue
        for line in _lines(newer):
            print(f"{name}: {line}")
        found = found or bool(newer)
    if found:
        raise typer.Exit(1)


app.command()(flash)
app.command()(media)
app.command("from-oci")(from_oci)
app.command()(secure_boot_keys)


def _locks(recipes: list[Path] | None) -> list[tuple[Path, Arch]]:
    return [(path, arch) for path in _recipes(recipes) for arch in Arch]


def _recipes(given: list[Path] | None) -> list[Path]:
    if given:
        return [path for path in given if not _is_go_lock(path)]
    return sorted(IMAGES.glob("*.toml"))


def _is_go_lock(path: Path) -> bool:
    return path.is_dir() or path.name == TOOLCHAIN.name


def _go_locks(given: list[Path] | None) -> Iterator[tuple[str, Renewable]]:
    """What locks Go's toolchain and modules, by name. The toolchain is renewed before the modules
    are read, which are renewed with it."""
    if not given:
        folders = sorted(path.parent for path in TOOLCHAIN.parent.glob("*/go.mod"))
        given = [TOOLCHAIN, *folders]
    for path in given:
        if path.name == TOOLCHAIN.name:
            yield "go toolchain", ToolchainRenewal(Cache(), path)
        elif path.is_dir():
            for module in modules_in(path):
                yield module.name, ModuleRenewal(module, Cache())


def _renew(name: str, renew: Callable[[], list[str]]) -> None:
    """Not every network reaches upstream; what was renewed before stays so."""
    try:
        lines = renew()
    except DownloadError as error:
        print(f"{name}: not renewed: {error.message}")
        _print_hint(error)
        return
    for line in lines:
        print(f"{name}: {line}")


def _lines(changes: list[Change]) -> list[str]:
    return [
        f"{change.name} {change.locked or '-'} -> {change.available or '-'}" for change in changes
    ] or ["up to date"]


def _print_changes(path: Path, arch: Arch, changes: list[Change]) -> None:
    for line in _lines(changes):
        print(f"{path.stem} {arch}: {line}")


def _print_hint(error: KubesoloError) -> None:
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def main() -> int:
    """Run the command line; every expected error is one line and a hint, exit status 1."""
    return command_line.run(app)
