"""What scenarios boot: the values of the fixture ``harness_images``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol


class ImageUnderTest(Protocol):
    """A built image.

    One that also has ``machine``, fields of MachineSpec by name, is booted with these in place of
    ``disk``.
    """

    @property
    def disk(self) -> Path:
        """The raw disk image."""
        ...

    @property
    def kernel(self) -> Path:
        """Its kernel, for the accelerator's probe."""
        ...

    @property
    def digest(self) -> str:
        """The name of its exact content."""
        ...


@dataclass(frozen=True)
class KernelImage:
    """A kernel and an initramfs that QEMU loads itself, and perhaps a disk; no boot loader."""

    kernel: Path
    initrd: Path
    append: str
    disk: Path | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def machine(self) -> dict[str, Any]:
        """Fields of MachineSpec; ``fields`` are more of them."""
        own = {"kernel": self.kernel, "initrd": self.initrd, "append": self.append}
        return {**own, "image": self.disk, **self.fields}

    @cached_property
    def digest(self) -> str:
        """32 hex digits over its files and its command line."""
        digest = hashlib.sha256(self.append.encode())
        for path in (self.kernel, self.initrd, self.disk):
            if path is not None:
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:32]


def fields_of(image: ImageUnderTest | KernelImage) -> dict[str, Any]:
    """Fields of MachineSpec that boot ``image``."""
    if isinstance(machine := getattr(image, "machine", None), Mapping):
        return dict(machine)
    return {"image": image.disk}
