"""From a recipe to slot files and a disk image, every step cached by its inputs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from product.disk.boot_files import BOARD_NAME, kernel_arguments
from product.disk.loader import IN_ROOT
from product.image import (
    board,
    disk,
    grub,
    initramfs,
    kernel,
    progress,
    rootfs,
    sbom,
    tryboot,
    verity,
)
from product.image.cache import Cache, digest_of, file_sha256, require_unchanged, tree_digest
from product.image.configuration import configuration_overlay
from product.image.drift import settle
from product.image.errors import RecipeError
from product.image.images import find_product
from product.image.licences import Licences
from product.image.locks import Package
from product.image.own_code import own_files
from product.image.packages import fetch, unpack_all
from product.image.payload import Linked, Packaged
from product.image.payload.table import payload_of
from product.image.recipe import Arch, Recipe, Tryboot
from product.image.secure_boot import own_grub, unified
from product.image.secure_boot.keys import LoaderKind, Signing
from product.image.tools import IMAGES, HostTools
from product.manifest import (
    ARGUMENTS_NAME,
    ARTIFACT_NAMES,
    INITRAMFS_NAME,
    KERNEL_NAME,
    MANIFEST_NAME,
    ROOT_NAME,
    UNIFIED_NAME,
    UNIFIED_SIGNATURE_NAME,
    Artifact,
    Manifest,
)
from product.version import DEVELOPMENT, VersionError, parse_version

DEFAULT_RECIPE = IMAGES / "appliance.toml"
# What every image needs of its kernel: a restart that asks no driver, confinement of programs.
_NEEDS = kernel.KernelNeeds(options=("MAGIC_SYSRQ", "SECURITY_APPARMOR", "SECCOMP_FILTER"))
_DISK_NAME = "disk.img"
# As sha256sum writes and checks it, beside the disk image.
_SUM_NAME = "disk.img.sha256"
SBOM_NAME = "disk.img.spdx.json"
_PAYLOAD = "usr/lib/kubesolo/payload.json"
# Taken when the code is loaded: what is edited meanwhile is not what builds.
BUILDER_DIGEST = tree_digest(find_product() / "image", without="tests")


class _Brought(NamedTuple):
    """What a payload says of itself: its Kubernetes, and which of its packages drifted."""

    kind: str = ""
    version: str = ""
    kubernetes: str = ""
    drift: tuple[str, ...] = ()


def _brought(overlays: Sequence[Path]) -> _Brought:
    """What the last payload.json says. Raises RecipeError."""
    for path in (overlay / _PAYLOAD for overlay in reversed(overlays)):
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text())
            words = [str(found.get(key, "")) for key in ("kind", "version", "kubernetes")]
            kind, version, kubernetes = words
            return _Brought(kind, version, kubernetes, tuple(found.get("drift", ())))
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            raise RecipeError(
                f"{path} is no JSON object",
                hint="docs/decisions/0005-kubernetes-payload.md lists its fields",
            ) from None
    return _Brought()


@dataclass(frozen=True, slots=True)
class Slot:
    """The built files of one version: ``folder`` holds them as a slot does."""

    folder: Path
    version: str
    arch: Arch
    kernel: Path

    @property
    def manifest(self) -> Manifest:
        """The slot's manifest."""
        return Manifest.parse((self.folder / MANIFEST_NAME).read_bytes())


@dataclass(frozen=True, slots=True)
class Image:
    """A bootable disk image with ``slot`` in slot A; ``digest`` names its exact content."""

    disk: Path
    slot: Slot
    digest: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the disk image's file."""
        return (self.disk.parent / _SUM_NAME).read_text().split()[0]

    @property
    def sbom(self) -> Path:
        """What the image is made of, as SPDX in JSON."""
        return self.disk.parent / SBOM_NAME

    @property
    def kernel(self) -> Path:
        """The kernel, for a direct boot."""
        return self.slot.kernel


class Builder:
    """Builds for one recipe and architecture; safe to use from several processes at once."""

    def __init__(
        self,
        arch: Arch,
        *,
        cache: Cache | None = None,
        tools: HostTools | None = None,
        recipe: Path = DEFAULT_RECIPE,
        hardware: str | None = None,
        payload: Mapping[str, object] | None = None,
        signing: Signing | None = None,
    ) -> None:
        """``hardware`` and ``payload`` go before what the recipe says; with ``signing`` the image
        is its owner's (product.image.secure_boot)."""
        self.arch = arch
        self.cache = cache or Cache()
        self.recipe = Recipe.load(recipe, hardware=hardware)
        self.recipe.require(arch)
        if signing is not None and self.recipe.tryboot is not None:
            raise RecipeError(
                f"recipe {self.recipe.name}: hardware {self.recipe.hardware} has no Secure Boot",
                hint="leave out --secure-boot-key",
            )
        self.payload = payload_of(self.recipe, payload)
        self.signing = signing
        self.lock, drift = settle(self.recipe, arch, self.cache)
        self.tools = tools or HostTools.prepare(self.cache)
        self.licences = Licences(arch, self.cache)
        self._grub: tuple[Package, ...] = ()
        grub_drift: tuple[str, ...] = ()
        if signing is not None and signing.loader is LoaderKind.OWN:
            modules, grub_drift = settle(Recipe.load(own_grub.RECIPE), arch, self.cache)
            self._grub = modules.packages
        # What is not as locked, one line a package; a payload adds its own.
        self.drift = (*drift, *self.tools.drift, *self.licences.drift, *grub_drift)

    @property
    def packages(self) -> tuple[Package, ...]:
        """Every package of which the image holds something. Raises ImageError."""
        more = self.payload.packages(self.arch) if isinstance(self.payload, Packaged) else ()
        return (*self.lock.packages, *self._grub, *more)

    def licences_tree(self) -> Path:
        """The licence texts of all packages, to lay over the root. Raises LockError."""
        return self.licences.tree(self.packages, common=True)

    def slot(self, version: str, overlays: tuple[Path, ...] = ()) -> Slot:
        """Build the slot files of ``version``; ``overlays`` are laid over the recipe's own.

        Raises RecipeError for a version that no manifest may carry.
        """
        if version != DEVELOPMENT:
            try:
                parse_version(version)
            except VersionError as error:
                hint = f"{error.hint}; a build that is no release is {DEVELOPMENT}"
                raise RecipeError(error.message, hint=hint) from None
        every = self._overlays(overlays)
        key = self._slot_key(version, every)

        def build(tree: Path) -> None:
            with progress.step(f"build {self.recipe.name} {version} for {self.arch}"):
                self._build_slot(version, every, tree)
            require_unchanged(key, self._slot_key(version, every))

        folder = self.cache.tree(f"slot-{self.arch}", key, build)
        return Slot(folder, version, self.arch, folder / KERNEL_NAME)

    def _overlays(self, more: tuple[Path, ...]) -> tuple[Path, ...]:
        own = configuration_overlay(self.recipe, self.cache)
        return (*self.recipe.overlays(), *((own,) if own else ()), *more)

    def _slot_key(self, version: str, overlays: tuple[Path, ...]) -> str:
        return digest_of(
            self.recipe.model_dump(),
            [p.sha256 for p in self.lock.packages],
            self.tools.digest,
            self.licences.digest,
            # The same packages are another image once they are locked.
            self.drift,
            self.arch,
            version,
            [tree_digest(path) for path in overlays],
            tree_digest(self.recipe.folder / "boot"),
            self._code_digest(),
            self.payload and self.payload.digest(self.arch),
            *self._signed_with(),
        )

    def _signed_with(self) -> tuple[str, ...]:
        """What an owner's keys add to a digest."""
        if self.signing is None:
            return ()
        return (self.signing.digest, *(package.sha256 for package in self._grub))

    def image(self, version: str, overlays: tuple[Path, ...] = ()) -> Image:
        """Build the disk image whose slot A holds ``version``."""
        slot = self.slot(version, overlays)
        every = self._overlays(overlays)
        digest = digest_of(slot.folder.name, tree_digest(self.recipe.folder / "boot"))

        def build(tree: Path) -> None:
            with progress.step(f"assemble and hash the disk image for {self.arch}"):
                self._build_disk(slot, digest, tree)
            with progress.step("list what it is made of"):
                brought = _brought(self._with_payload(every))
                (tree / SBOM_NAME).write_bytes(self._sbom(version, brought, tree))

        folder = self.cache.tree(f"disk-{self.arch}", digest, build)
        return Image(folder / _DISK_NAME, slot, digest)

    def _code_digest(self) -> str:
        """Digest of the code that ships and of the code that builds."""
        parts = [BUILDER_DIGEST]
        for name in rootfs.SHIPPED:
            path = rootfs.PRODUCT / name
            is_folder = path.is_dir()
            parts.append(tree_digest(path, without="tests") if is_folder else file_sha256(path))
        return digest_of(parts)

    def _build_slot(self, version: str, overlays: tuple[Path, ...], tree: Path) -> None:
        prepared = kernel.prepare(self.lock, self.arch, self.cache, self.tools)
        kernel.check_modules(prepared, self.recipe)
        kernel.check_needs(prepared, _NEEDS, f"the image {self.recipe.name}")
        needs = kernel.KernelNeeds()
        if self.payload is not None:
            needs = self.payload.kernel
            kernel.check_needs(prepared, needs, f"the payload of {self.recipe.name}")
        overlays = self._with_payload(overlays)
        brought = _brought(overlays)
        # A boot loader that follows the confirmed system; the firmware starts the others' slots.
        loaders = (self.loader(),) if self.recipe.tryboot is None else ()
        overlays = (*loaders, self.licences_tree(), *overlays)
        packages = rootfs.packages_tree(self.recipe, self.lock, self.arch, self.cache, self.tools)
        shutil.copyfile(prepared.image, tree / KERNEL_NAME)
        shutil.copyfile(self._initramfs(prepared, packages), tree / INITRAMFS_NAME)
        with progress.step("squashfs"), self.cache.scratch("root") as work:
            rootfs.build(
                self.recipe, packages, prepared, list(overlays), version, self.tools, work,
                tree / ROOT_NAME, needs.modules,
            )  # fmt: skip
        checked = verity.append(tree / ROOT_NAME, self.tools)
        arguments = " ".join((*self.recipe.kernel.arguments(self.arch), *checked.arguments()))
        (tree / ARGUMENTS_NAME).write_bytes(
            grub.environment_block({"kernel_arguments": arguments}, atomic=False)
        )
        names: tuple[str, ...] = ARTIFACT_NAMES
        if self.recipe.tryboot is not None:
            names = (*names, BOARD_NAME)
            self._write_board(self.recipe.tryboot, prepared, tree / BOARD_NAME)
        if self.signing is not None:
            names = (*names, UNIFIED_NAME, UNIFIED_SIGNATURE_NAME)
            self._write_unified(self.signing, prepared.release, version, tree)
        artifacts = tuple(
            Artifact(name, (tree / name).stat().st_size, file_sha256(tree / name)) for name in names
        )
        drift = tuple(sorted({*self.drift, *brought.drift}))
        manifest = Manifest(version, self.arch.value, artifacts, brought.kubernetes, drift)
        (tree / MANIFEST_NAME).write_bytes(manifest.to_bytes())

    def _write_unified(self, signing: Signing, release: str, version: str, tree: Path) -> None:
        """Of what ``tree`` has by now; the command line is that of kernel.env, to the letter."""
        arguments = kernel_arguments((tree / ARGUMENTS_NAME).read_bytes(), "the release")
        packages = self.lock.group("boot")
        tools = HostTools.prepare(self.cache, unified.TOOLS)
        with progress.step("sign the unified kernel image"), self.cache.scratch("unified") as work:
            unpack_all(list(fetch(packages, self.cache).values()), work / "packages")
            parts = unified.Parts(
                work / "packages", tree / KERNEL_NAME, tree / INITRAMFS_NAME, arguments, release,
                version,
            )  # fmt: skip
            program = signing.program(unified.build(parts, self.arch, tools, work))
        (tree / UNIFIED_NAME).write_bytes(program)
        signature = signing.detached(program, self.recipe.source_date)
        (tree / UNIFIED_SIGNATURE_NAME).write_bytes(signature)

    def _write_board(self, board: Tryboot, prepared: kernel.Kernel, target: Path) -> None:
        packages = self.lock.group("boot")
        with self.cache.scratch("board") as work:
            unpack_all(list(fetch(packages, self.cache).values()), work / "packages")
            target.write_bytes(
                tryboot.board_archive(board, prepared, work / "packages", self.recipe.source_date)
            )

    def _with_payload(self, overlays: tuple[Path, ...]) -> tuple[Path, ...]:
        """The payload's tree lies under the overlays."""
        if self.payload is None:
            return overlays
        return (self.payload.prepare(self.arch, self.cache, self.tools), *overlays)

    def _sbom(self, version: str, brought: _Brought, disk: Path) -> bytes:
        parts = []
        if brought.kind:
            parts.append(sbom.Part(f"payload {brought.kind}", brought.version))
        if brought.kubernetes:
            parts.append(sbom.Part("kubernetes", brought.kubernetes))
        sha256 = (disk / _SUM_NAME).read_text().split()[0]
        recipe = self.recipe
        subject = sbom.Subject(
            recipe.name, version, self.arch, _DISK_NAME, sha256, recipe.source_date
        )
        licences = self.licences.declared(self.packages)
        linked = self.payload
        modules = linked.modules(self.arch, self.cache) if isinstance(linked, Linked) else ()
        return sbom.write(subject, self.packages, licences, parts, modules, own_files())

    def _initramfs(self, prepared: kernel.Kernel, packages: Path) -> Path:
        """The same for every version: it is packed once, and as small as can be."""
        init = (self.recipe.folder / "boot/init").read_bytes()
        key = digest_of(
            self.recipe.kernel.of(self.arch).model_dump(), self.recipe.source_date,
            prepared.tree.name, packages.name, hashlib.sha256(init).hexdigest(),
            self.tools.digest, BUILDER_DIGEST,
        )  # fmt: skip

        def build(tree: Path) -> None:
            with progress.step(f"pack the initramfs for {self.arch}"):
                target = tree / INITRAMFS_NAME
                initramfs.build(self.recipe, prepared, packages, init, self.tools, target)

        return self.cache.tree(f"initramfs-{self.arch}", key, build) / INITRAMFS_NAME

    def loader(self) -> Path:
        """A tree with the boot loader where the root has it (product.disk.loader)."""
        config = (self.recipe.folder / "boot/grub.cfg").read_bytes()
        packages = self.lock.group("boot")
        own = self.recipe.board
        key = digest_of(
            [package.sha256 for package in packages], hashlib.sha256(config).hexdigest(),
            self.tools.digest, BUILDER_DIGEST, self.arch,
            *([own.model_dump(), self.lock.group("kernel")[0].sha256] if own else []),
            *self._signed_with(),
        )  # fmt: skip

        def build(tree: Path) -> None:
            with self.cache.scratch("boot") as work:
                unpack_all(list(fetch(packages, self.cache).values()), work / "packages")
                grub.write_loader(
                    work / "packages", self.arch, config, self.tools, tree / IN_ROOT,
                    own=self._own_grub(config, work),
                )  # fmt: skip
                if own is not None:
                    kernels = kernel.prepare(self.lock, self.arch, self.cache, self.tools)
                    board.write(own, (work / "packages", kernels.tree), tree / IN_ROOT)

        return self.cache.tree(f"loader-{self.arch}", key, build)

    def _own_grub(self, config: bytes, work: Path) -> bytes | None:
        """The owner's GRUB, where the image has one; ``work`` holds the unpacked boot packages."""
        if self.signing is None or not self._grub:
            return None
        unpack_all(list(fetch(self._grub, self.cache).values()), work / "modules")
        return own_grub.build(
            work / "modules", work / "packages", config, self.signing, self.arch, self.tools, work
        )

    def _build_disk(self, slot: Slot, digest: str, tree: Path) -> None:
        with self.cache.scratch("disk") as work:
            esp, boot = work / "esp", None
            if self.recipe.tryboot is None:
                loader = self.loader() / IN_ROOT
                grub.write_esp(loader, slot.version, esp)
            else:
                loader, boot = work / "no-loader", work / "boot"
                tryboot.write_esp(esp)
                tryboot.write_boot_folder(slot.folder, boot)
            sha256 = disk.build(
                esp, slot.folder, loader, disk.Identifiers(digest), self.recipe.source_date,
                self.tools, work, tree / _DISK_NAME,
                hybrid_mbr=self.recipe.board is not None and self.recipe.board.hybrid_mbr,
                boot=boot,
            )  # fmt: skip
            (tree / _SUM_NAME).write_text(f"{sha256}  {_DISK_NAME}\n")
