"""Recipes: what an image, or the set of host tools, is made of. TOML files under ``images/``."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path

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
    """Package lists; ``root`` is taken with its dependencies except ``exclude``."""

    root: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    x86_64: ArchPackages = ArchPackages()
    aarch64: ArchPackages = ArchPackages()

    def of(self, arch: Arch) -> ArchPackages:
        """What ``arch`` adds."""
        return self.x86_64 if arch is Arch.X86_64 else self.aarch64


class Root(_Model):
    """What is left out of the packages; globs over paths without a leading slash."""

    prune: tuple[str, ...] = ()


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
    folder: Path = Field(exclude=True)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe. Raises RecipeError that names the file, the key and what is wrong."""
        try:
            document = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise RecipeError(f"recipe {path} does not exist") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"recipe {path} is not TOML: {error}") from None
        try:
            return cls.model_validate({**document, "folder": path.parent.absolute()})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise RecipeError(
                    f"recipe {path} has an unknown key {key!r}",
                    hint="keys are documented in docs/images.md",
                ) from None
            raise RecipeError(f"recipe {path}: {key}: {first['msg']}") from None

    def request(self, arch: Arch) -> str:
        """Digest of what a lock for ``arch`` depends on."""
        extra = self.packages.of(arch)
        return digest_of(
            self.suite,
            sorted(self.packages.root + extra.root),
            sorted(self.packages.exclude),
            sorted(extra.kernel),
            sorted(extra.boot),
        )

    def lock_path(self, arch: Arch) -> Path:
        """The lock file beside the recipe."""
        return self.folder / "locks" / f"{self.name}-{arch.value}.json"
