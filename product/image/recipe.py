"""Recipes: what an image, or the set of host tools, is made of. TOML files under ``images/``.

The recipe of an image names one part of each axis, ``images/AXIS/NAME.toml``: the base system, the
hardware that it runs on, the payload. It may name any number of extensions, whose folders
``images/extensions/NAME`` are overlays. A part is a piece of a recipe; a recipe's own keys come
last. ``payload.extends`` names a payload's part whose options the recipe changes.
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from product.image.cache import digest_of
from product.image.errors import RecipeError


class Arch(StrEnum):
    """A guest architecture, by its kernel name."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"

    @property
    def debian(self) -> str:
        """Debian's name of the architecture."""
        return {"x86_64": "amd64", "aarch64": "arm64"}[self.value]

    @property
    def multiarch(self) -> str:
        """The directory under ``usr/lib`` that holds this architecture's libraries."""
        return f"{self.value}-linux-gnu"

    @property
    def kernel_format(self) -> str:
        """What boots directly: a bzImage, or a plain Image."""
        return {"x86_64": "bzImage", "aarch64": "Image"}[self.value]


# In the order in which parts are merged.
AXES = ("base", "hardware", "payload")
EXTENSIONS = "extensions"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArchPackages(_Model):
    """Packages of one architecture: the kernel's meta package, and boot loader modules."""

    kernel: tuple[str, ...] = ()
    boot: tuple[str, ...] = ()
    root: tuple[str, ...] = ()


class Packages(_Model):
    """Package lists; ``root`` is taken with its dependencies except ``exclude``.

    What ``root`` names itself is never left out.
    """

    root: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    x86_64: ArchPackages = ArchPackages()
    aarch64: ArchPackages = ArchPackages()

    def of(self, arch: Arch) -> ArchPackages:
        """What ``arch`` adds."""
        return self.x86_64 if arch is Arch.X86_64 else self.aarch64


class Root(_Model):
    """What is left out of the packages, and who may read what; paths without a leading slash."""

    # Globs.
    prune: tuple[str, ...] = ()
    # Packages of which nothing but the named files is taken; globs.
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    # "0640 root:shadow": an octal mode, and whose it is, if not root's.
    modes: dict[
        Annotated[str, Field(pattern=r"^[\w.+@/-]+$")],
        Annotated[str, Field(pattern=r"^[0-7]{4}( [a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*)?$")],
    ] = Field(default_factory=dict)


class Console(_Model):
    """Kernel console arguments by architecture; the last one is /dev/console."""

    x86_64: tuple[str, ...] = ()
    aarch64: tuple[str, ...] = ()


class ArchKernel(_Model):
    """Kernel modules by when they are loaded, and the command line; see docs/images.md."""

    early: tuple[str, ...] = ()
    watchdogs: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    watchdog_fallback: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    # By the bus that they are for; "any" are those that wait for no device.
    hotplug: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], tuple[str, ...]] = Field(
        default_factory=dict
    )
    cmdline: tuple[str, ...] = ()

    def joined(self, other: ArchKernel) -> ArchKernel:
        """Both."""
        return ArchKernel(
            early=self.early + other.early,
            watchdogs=self.watchdogs + other.watchdogs,
            drivers=self.drivers + other.drivers,
            watchdog_fallback=self.watchdog_fallback + other.watchdog_fallback,
            modules=self.modules + other.modules,
            hotplug={
                bus: self.hotplug.get(bus, ()) + other.hotplug.get(bus, ())
                for bus in dict.fromkeys((*self.hotplug, *other.hotplug))
            },
            cmdline=self.cmdline + other.cmdline,
        )

    def all(self) -> tuple[str, ...]:
        """The names of all modules."""
        plugged = tuple(name for names in self.hotplug.values() for name in names)
        loaded = self.early + self.watchdogs + self.watchdog_fallback + self.drivers
        return loaded + self.modules + plugged


class Kernel(ArchKernel):
    """What every architecture's kernel gets, and what one's does."""

    x86_64: ArchKernel = ArchKernel()
    aarch64: ArchKernel = ArchKernel()
    console: Console = Console()

    def of(self, arch: Arch) -> ArchKernel:
        """What the kernel of ``arch`` gets."""
        return self.joined(self.x86_64 if arch is Arch.X86_64 else self.aarch64)

    def arguments(self, arch: Arch) -> tuple[str, ...]:
        """The command line of ``arch`` without what the boot loader adds for each boot."""
        own = self.console.x86_64 if arch is Arch.X86_64 else self.console.aarch64
        return own + self.of(arch).cmdline


# Where a board's firmware looks, at the top of KSOLOEFI: a name as FAT itself has it. ``.NEW`` is
# what an update writes before it takes the place of the other.
_TOP = re.compile(r"[A-Z0-9]{1,8}\.(?!NEW$)[A-Z0-9]{1,3}")
_BELOW_EFI = re.compile(r"EFI/[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+")
# Two entries each, the label and three folders fill the first sector of the root's 16 entries.
_MOST_AT_TOP = 6


class Board(_Model):
    """What the firmware of a board finds on KSOLOEFI beside the boot loader for UEFI.

    ``files`` are those of the packages for kernel and boot: where they go, and where they lie in
    their package, as a glob that one file fits. ``texts`` are files that stand in the recipe. What
    goes below ``EFI/`` or to the top is replaced by updates. ``hybrid_mbr`` has the MBR list
    KSOLOEFI, for firmware that reads no GPT.
    """

    hybrid_mbr: bool = False
    files: dict[str, str] = Field(default_factory=dict)
    texts: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _places(self) -> Self:
        names = [*self.files, *self.texts]
        top = [name for name in names if "/" not in name]
        for name in names:
            if not (_TOP if name in top else _BELOW_EFI).fullmatch(name):
                raise ValueError(
                    f"{name!r} is no place on KSOLOEFI: name EFI/FOLDER/FILE, or a file at the top "
                    "in capitals, of at most 8 characters and an extension of at most 3, not NEW"
                )
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("two files have one place")
        if len({name.partition(".")[0] for name in top}) != len(top):
            raise ValueError(
                "files at the top differ before the extension, as updates add their own"
            )
        if len(top) > _MOST_AT_TOP:
            raise ValueError(
                f"{len(top)} files at the top are more than the {_MOST_AT_TOP} that one write of a "
                "sector can replace: put them below EFI/"
            )
        return self


class Tryboot(_Model):
    """What the boot partitions hold where a Raspberry Pi's firmware starts the slots itself.

    ``config`` are the lines of config.txt. ``firmware`` are files of the packages for boot, by
    path; ``device_trees`` are files of the kernel's package, by name.
    """

    config: tuple[str, ...]
    firmware: tuple[str, ...] = ()
    device_trees: tuple[str, ...] = ()


class Recipe(_Model):
    """One recipe; ``folder`` is where it was read, beside its locks, parts and overlays.

    ``architectures`` are those that its hardware has. ``components`` are the archive's, such as
    non-free-firmware. ``hardware`` is the name of its part; a recipe of tools has none. ``board``
    is for hardware whose firmware wants files of its own. ``configuration`` is a folder with
    ``user-data`` and the like.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    architectures: Annotated[tuple[Arch, ...], Field(min_length=1)] = tuple(Arch)
    suite: str = Field(pattern=r"^[a-z]+$")
    components: tuple[Annotated[str, Field(pattern=r"^[a-z-]+$")], ...] = ("main",)
    source_date: int = Field(default=0, ge=0)
    packages: Packages
    root: Root = Root()
    kernel: Kernel = Kernel()
    board: Board | None = None
    tryboot: Tryboot | None = None
    # Checked by the payload's own model: see product.image.payload.
    payload: dict[str, Any] | None = None
    hardware: str | None = None
    # A folder beside the recipe: the configuration of nodes that get no other.
    configuration: str | None = None
    extensions: tuple[str, ...] = ()
    folder: Path = Field(exclude=True)
    # The files that it was read from, its own last.
    files: tuple[Path, ...] = Field(exclude=True)

    @classmethod
    def load(cls, path: Path, *, hardware: str | None = None) -> Recipe:
        """Read a recipe; ``hardware`` goes before the one that it names.

        One for other hardware than the recipe's own has another name, and so a lock of its own.
        Raises RecipeError that names the file, the key and what is wrong.
        """
        files: list[Path] = []
        document = _read(path, (), files)
        own = document.get("hardware")
        if hardware is not None and hardware != own:
            if own is None:
                raise RecipeError(
                    f"recipe {path} names no hardware that {hardware} could take the place of"
                )
            document["hardware"] = hardware
            document["name"] = f"{document.get('name', '')}-{hardware}"
        document = _with_parts(path, document, files)
        try:
            return cls.model_validate(
                {**document, "folder": path.parent.absolute(), "files": tuple(files)}
            )
        except ValidationError as error:
            raise recipe_error(f"recipe {path}", error) from None

    def require(self, arch: Arch) -> None:
        """Raise RecipeError unless the recipe's hardware has that architecture."""
        if arch not in self.architectures:
            known = ", ".join(self.architectures)
            raise RecipeError(
                f"recipe {self.name}: hardware {self.hardware} has no {arch}, only {known}",
                hint=f"name it: --arch {self.architectures[0]}",
            )

    def request(self, arch: Arch) -> str:
        """Digest of what a lock for ``arch`` depends on."""
        extra = self.packages.of(arch)
        return digest_of(
            self.suite,
            sorted(self.packages.root + extra.root),
            sorted(self.packages.exclude),
            sorted(extra.kernel),
            sorted(extra.boot),
            *([{"components": sorted(self.components)}] if self.components != ("main",) else []),
        )

    def lock_path(self, arch: Arch) -> Path:
        """The lock file beside the recipe."""
        return self.folder / "locks" / f"{self.name}-{arch.value}.json"

    def overlays(self) -> tuple[Path, ...]:
        """The folders that are laid over every image of it, the later ones over those before."""
        own = (self.folder / EXTENSIONS / name for name in self.extensions)
        return (self.folder / "overlay", *(path for path in own if path.is_dir()))

    def naming(self, module: str) -> Path:
        """The file that names a kernel module: the recipe's own, or one of its parts."""
        for path in reversed(self.files):
            kernel = tomllib.loads(path.read_text()).get("kernel", {})
            tables = [kernel, *(kernel.get(arch.value, {}) for arch in Arch)]
            tables += [table.get("hotplug", {}) for table in tables]
            if any(module in names for table in tables for names in table.values()):
                return path
        return self.files[-1]


def parts(folder: Path, axis: str) -> list[str]:
    """The names of the parts of an axis that recipes in ``folder`` can choose from."""
    return sorted(path.stem for path in (folder / axis).glob("*.toml"))


def _with_parts(path: Path, document: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """The document with the parts that it names merged in below it."""
    named = {axis: document[axis] for axis in AXES if isinstance(document.get(axis), str)}
    own = {key: value for key, value in document.items() if key not in named}
    payload = own.get("payload")
    if isinstance(payload, dict) and isinstance(payload.get("extends"), str):
        named["payload"] = payload["extends"]
        own["payload"] = {key: value for key, value in payload.items() if key != "extends"}
    if not named:
        return document
    extensions = own.get(EXTENSIONS, [])
    if not isinstance(extensions, list) or not all(isinstance(name, str) for name in extensions):
        raise RecipeError(f"recipe {path}: {EXTENSIONS}: a list of names was expected")
    merged: dict[str, Any] = {}
    for axis in AXES:
        if axis not in named:
            if axis in own:
                continue  # A payload may stand in the recipe itself.
            raise RecipeError(
                f"recipe {path} names no {axis}: an image has one of each of {', '.join(AXES)}",
                hint=f"there are: {', '.join(parts(path.parent, axis))}",
            )
        merged = _merge(merged, _part(path, axis, named[axis], files))
    for name in extensions:
        merged = _merge(merged, _part(path, EXTENSIONS, name, files))
    merged = _merge(merged, own)
    return {**merged, "hardware": named.get("hardware")}


def _part(path: Path, axis: str, name: str, files: list[Path]) -> dict[str, Any]:
    """The part ``name`` of ``axis``, for the recipe in ``path``."""
    known = parts(path.parent, axis)
    if name not in known:
        raise RecipeError(
            f"recipe {path}: {axis}: there is no {name!r}",
            hint=f"there are: {', '.join(known)}" if known else f"{path.parent / axis} is empty",
        )
    file = path.parent / axis / f"{name}.toml"
    part = _document(file)
    taken = {"name", "extends", EXTENSIONS, *AXES[:2]}
    if axis == EXTENSIONS:
        taken.add("payload")
    if wrong := taken & part.keys():
        raise RecipeError(f"{file} is part of a recipe and cannot have {sorted(wrong)[0]!r}")
    files.insert(len(files) - 1, file)
    return part


def _document(path: Path, wanted: str = "") -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise RecipeError(
            f"recipe {path}{wanted} does not exist", hint=_recipes_there(path.parent)
        ) from None
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not TOML: {error}") from None


def _read(path: Path, below: tuple[Path, ...], files: list[Path]) -> dict[str, Any]:
    """The document with what it ``extends`` merged in; ``below`` are the recipes that led here.

    ``files`` takes every file that was read.
    """
    document = _document(path, f", which {below[-1]} extends," if below else "")
    files.insert(0, path)
    base = document.pop("extends", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise RecipeError(f"recipe {path}: extends: a recipe's file name was expected")
    chain = (*below, path.resolve())
    parent = path.parent / base
    if parent.resolve() in chain:
        raise RecipeError(f"recipe {path} extends {base}, which extends it in turn")
    return _merge(_read(parent, chain, files), document)


def _recipes_there(folder: Path) -> str:
    """Names the recipes in ``folder``, for whoever mistyped one."""
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    names = [path.name for path in sorted(folder.glob("*.toml"))]
    return f"recipes in {folder}: {', '.join(names) or 'none'}"


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged, lists joined (each entry once), anything else replaced."""
    merged = dict(base)
    for key, value in own.items():
        before = base.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = _merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = before + [entry for entry in value if entry not in before]
        else:
            merged[key] = value
    return merged


def recipe_error(what: str, error: ValidationError, prefix: str = "") -> RecipeError:
    """The first thing that a model found wrong; ``prefix`` leads to the checked table."""
    first = error.errors()[0]
    key = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return RecipeError(
            f"{what} has an unknown key {key!r}", hint="keys are documented in docs/images.md"
        )
    return RecipeError(f"{what}: {key}: {first['msg']}")
