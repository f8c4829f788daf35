"""Stand-ins for modules that python-tuf imports, this client never uses, and the image leaves out.

Importing them costs an emulated node a CPU second. A stand-in takes a module's place only where no
real one is installed, so on a host nothing changes. What is in it can be imported and named; using
it raises StandInError.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class StandInError(RuntimeError):
    """Something that the image leaves out was used after all."""


class _StandInClass(type):
    def __call__(cls, *arguments: object, **keywords: object) -> object:
        raise StandInError(f"{cls.__module__}.{cls.__name__} is not part of this image")

    def __getattr__(cls, name: str) -> object:
        # dunders are asked for by the interpreter itself, and SCHEME where signers are registered.
        if name == "SCHEME":
            return cls.__name__
        if name.startswith("__"):
            raise AttributeError(name)
        raise StandInError(f"{cls.__module__}.{cls.__name__}.{name} is not part of this image")


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandInClass(name, (), {"__module__": self.__name__})


def unused(name: str) -> bool:
    """Whether a module is for what this client leaves to others, or never does.

    tuf's own fetcher, Ed25519 for hosts without cryptography, and ways to sign.
    """
    package, _, module = name.rpartition(".")
    if package == "securesystemslib.signer":
        return module.endswith("_signer") and module != "_signer"
    return name in ("requests", "securesystemslib._vendor.ed25519.ed25519")


class _Finder:
    """Finder and loader at once. importlib.abc would say so, and costs more than all of this."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # A loader is what has these two methods; typeshed wants it derived from importlib.abc's.
        return ModuleSpec(name, self) if unused(name) else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """A stand-in has no code."""


def install() -> None:
    """Let stand-ins be found, after everything else was looked for."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
