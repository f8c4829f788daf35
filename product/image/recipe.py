"""Recipes: what an image, or the set of host tools, is made of. TOML files under ``images/``."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArchPackages(_Model):
    """Packages of one architecture: the kernel's meta package, and boot loader modules."""

    kernel: tuple[str, ...] = ()
    boot: tuple[str, ...] = ()
    root: tuple[str, ...] = ()


class Packages(_Model):
    """Package lists; ``root`` is taken with its dependencies except ``exclude``.

    What ``root`` names itself is never left out. ``source`` are source packages.
    """

    root: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    x86_64: ArchPackages = ArchPackages()
    aarch64: ArchPackages = ArchPackages()

    def of(self, arch: Arch) -> ArchPackages:
        """What ``arch`` adds."""
        return self.x86_64 if arch is Arch.X86_64 else self.aarch64


class Root(_Model):
    """What is left out of the packages; globs over paths without a leading slash."""

    prune: tuple[str, ...] = ()
    # Packages of which nothing but the named files is taken.
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Console(_Model):
    """Kernel console arguments by architecture; the last one is /dev/console."""

    x86_64: tuple[str, ...] = ()
    aarch64: tuple[str, ...] = ()


class Kernel(_Model):
    """Which modules go where, and the command line."""

    early: tuple[str, ...] = ()
    watchdog_fallback: tuple[str, ...] = ()
    storage: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cmdline: tuple[str, ...] = ()
    console: Console = Console()

    def arguments(self, arch: Arch) -> tuple[str, ...]:
        """The command line of ``arch`` without what the boot loader adds for each boot."""
        own = self.console.x86_64 if arch is Arch.X86_64 else self.console.aarch64
        return own + self.cmdline


class Recipe(_Model):
    """One recipe; ``folder`` is where it was read, beside its locks and overlays."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    suite: str = Field(pattern=r"^[a-z]+$")
    source_date: int = Field(default=0, ge=0)
    packages: Packages
    root: Root = Root()
    kernel: Kernel = Kernel()
    # Checked by the payload's own model: see product.image.payload.
    payload: dict[str, Any] | None = None
    folder: Path = Field(exclude=True)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe. Raises RecipeError that names the file, the key and what is wrong."""
        document = _read(path, ())
        try:
            return cls.model_validate({**document, "folder": path.parent.absolute()})
        except ValidationError as error:
            raise recipe_error(f"recipe {path}", error) from None

    def request(self, arch: Arch) -> str:
        """Digest of what a lock for ``arch`` depends on."""
        extra = self.packages.of(arch)
        return digest_of(
            self.suite,
            sorted(self.packages.root + extra.root),
            sorted(self.packages.exclude),
            sorted(extra.kernel),
            sorted(extra.boot),
            *([sorted(self.packages.source)] if self.packages.source else []),
        )

    def lock_path(self, arch: Arch) -> Path:
        """The lock file beside the recipe."""
        return self.folder / "locks" / f"{self.name}-{arch.value}.json"


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """The document with what it ``extends`` merged in; ``below`` are the recipes that led here."""
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        wanted = f", which {below[-1]} extends," if below else ""
        raise RecipeError(
            f"recipe {path}{wanted} does not exist", hint=_recipes_there(path.parent)
        ) from None
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not TOML: {error}") from None
    base = document.pop("extends", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise RecipeError(f"recipe {path}: extends: a recipe's file name was expected")
    chain = (*below, path.resolve())
    parent = path.parent / base
    if parent.resolve() in chain:
        raise RecipeError(f"recipe {path} extends {base}, which extends it in turn")
    return _merge(_read(parent, chain), document)


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
