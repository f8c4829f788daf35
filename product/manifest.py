"""The manifest of a release, which is also the last file written into a slot.

Format: one JSON object, keys sorted, indented by two, ending in a newline::

    {"architecture": "x86_64", "artifacts": [{"name": "vmlinuz", "sha256": "<64 hex>",
     "size": 11737024}, ...], "kubernetes": "1.20.2", "schema": 1, "version": "0.2.0"}

A slot needs the artifacts of ARTIFACT_NAMES. Others are written into it as well: a later system may
bring some that this one does not know.

``kubernetes`` is there where the root brings one. ``drift`` is there where the release was built
from other packages than the locked ones, with one line for each. Keys that a reader does not know
are passed over, in the object and in its artifacts: a later publisher may add some, and what it
may not leave out or change is what is documented here.
It is on the node's boot path, so it uses the standard library alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from product.errors import KubesoloError

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
KERNEL_NAME = "vmlinuz"
INITRAMFS_NAME = "initramfs.img"
ROOT_NAME = "root.squashfs"
# The kernel's command line, as a block that GRUB's load_env reads.
ARGUMENTS_NAME = "kernel.env"
# Kernel, initramfs and command line in one program for UEFI, signed by the image's owner, and the
# signature that the owner's GRUB checks; only images with an owner's keys have them.
UNIFIED_NAME = "linux.efi"
UNIFIED_SIGNATURE_NAME = f"{UNIFIED_NAME}.sig"
ARTIFACT_NAMES = (KERNEL_NAME, INITRAMFS_NAME, ARGUMENTS_NAME, ROOT_NAME)
ARCHITECTURES = ("x86_64", "aarch64")

# A manifest lists four artifacts in under 1 KiB; anything much larger is not one.
MAX_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class ManifestError(KubesoloError):
    """The bytes are not a manifest of a schema that this version reads."""


class Artifact(NamedTuple):
    """One file of a release: ``size`` in bytes, ``sha256`` as 64 lower-case hex digits."""

    name: str
    size: int
    sha256: str


class Manifest(NamedTuple):
    """What a slot holds: the version, the architecture, every file by size and digest, and the
    version of the Kubernetes that it brings; "" where it brings none or says none. ``drift`` names
    the packages that are not the locked ones."""

    version: str
    architecture: str
    artifacts: tuple[Artifact, ...]
    kubernetes: str = ""
    drift: tuple[str, ...] = ()

    @property
    def total_size(self) -> int:
        """Bytes of all artifacts together."""
        return sum(artifact.size for artifact in self.artifacts)

    def artifact(self, name: str) -> Artifact:
        """The artifact called ``name``; raises ManifestError where there is none."""
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise ManifestError(f"manifest of {self.version} lists no artifact {name!r}")

    def to_bytes(self) -> bytes:
        """The canonical form, the same on every host."""
        document: dict[str, object] = {
            "schema": SCHEMA,
            "version": self.version,
            "architecture": self.architecture,
            "artifacts": [artifact._asdict() for artifact in self.artifacts],
        }
        if self.kubernetes:
            document["kubernetes"] = self.kubernetes
        if self.drift:
            document["drift"] = list(self.drift)
        return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes, *, origin: str = "manifest") -> Manifest:
        """Read and check a manifest; ``origin`` names its source in errors.

        Raises ManifestError for anything that is not exactly the documented format.
        """
        if len(data) > MAX_BYTES:
            raise ManifestError(f"{origin} is {len(data)} bytes, more than {MAX_BYTES}")
        try:
            document = json.loads(data.decode(), object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{origin} is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise ManifestError(f"{origin} is not a JSON object")
        if document.get("schema") != SCHEMA or isinstance(document["schema"], bool):
            raise ManifestError(
                f"{origin} has schema {document.get('schema')!r}, this version reads {SCHEMA}"
            )
        version = document.get("version")
        if not isinstance(version, str) or not version:
            raise ManifestError(f"{origin} has version {version!r}")
        architecture = document.get("architecture")
        if architecture not in ARCHITECTURES:
            raise ManifestError(f"{origin} has architecture {architecture!r}")
        entries = document.get("artifacts")
        if not isinstance(entries, list):
            raise ManifestError(f"{origin} has no list of artifacts")
        artifacts = tuple(_artifact(entry, origin) for entry in entries)
        _check_names(artifacts, origin)
        kubernetes = document.get("kubernetes", "")
        if not isinstance(kubernetes, str):
            raise ManifestError(f"{origin} has kubernetes {kubernetes!r}")
        drift = document.get("drift", [])
        if not isinstance(drift, list) or not all(isinstance(line, str) for line in drift):
            raise ManifestError(f"{origin} has drift {drift!r}")
        return cls(version, architecture, artifacts, kubernetes, tuple(drift))


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an object has a key twice")
    return document


def _artifact(entry: object, origin: str) -> Artifact:
    if not isinstance(entry, dict) or not {"name", "size", "sha256"} <= set(entry):
        raise ManifestError(f"{origin} has a malformed artifact: {entry!r}")
    name, size, sha256 = entry["name"], entry["size"], entry["sha256"]
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == MANIFEST_NAME:
        raise ManifestError(f"{origin} lists an artifact {name!r:.80}, which is no file's name")
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise ManifestError(f"{origin} gives {name} a size of {size!r}")
    hexadecimal = isinstance(sha256, str) and len(sha256) == 64
    if not hexadecimal or set(sha256) - set("0123456789abcdef"):
        raise ManifestError(f"{origin} gives {name} a sha256 of {sha256!r}")
    return Artifact(name, size, sha256)


def _check_names(artifacts: Sequence[Artifact], origin: str) -> None:
    names = sorted(artifact.name for artifact in artifacts)
    if len(set(names)) != len(names) or not set(ARTIFACT_NAMES) <= set(names):
        raise ManifestError(f"{origin} lists {names}, a slot needs {sorted(ARTIFACT_NAMES)}")
