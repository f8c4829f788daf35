"""The files that people download of a release: media, and what each is made of."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from product.image.build import Builder
from product.image.media.kinds import Kind, MediaOptions, build
from product.image.recipe import Arch
from product.image.tools import IMAGES
from product.publish.errors import PublishError

SBOM_SUFFIX = ".spdx.json"
NONE = "none"


class Target(NamedTuple):
    """What a release is built for; ``hardware`` None is what the recipe names."""

    arch: Arch
    hardware: str | None = None

    def __str__(self) -> str:
        return self.arch.value + (f"-{self.hardware}" if self.hardware else "")


def hardware_targets(words: Sequence[str] | None, archs: Sequence[Arch]) -> list[Target]:
    """Targets of other hardware than the recipe's: ``aarch64-rpi``, or those that the project has
    images of where ``words`` is None. Raises PublishError."""
    known = [Target(Arch.AARCH64, "rpi")] if (IMAGES / "hardware" / "rpi.toml").is_file() else []
    if words is None:
        return [target for target in known if target.arch in archs]
    found = []
    for word in words:
        if word == NONE:
            continue
        arch, _, name = word.partition("-")
        if arch not in set(Arch) or not (IMAGES / "hardware" / f"{name}.toml").is_file():
            raise PublishError(
                f"there is no hardware {word!r}",
                hint=f"name it ARCH-NAME, as {known[0] if known else 'aarch64-rpi'}, or {NONE}",
            )
        found.append(Target(Arch(arch), name))
    return found


def kinds_of(target: Target, kinds: Sequence[Kind]) -> list[Kind]:
    """Those of ``kinds`` that ``target`` has a use for: a board starts from its disk alone."""
    return [kind for kind in kinds if target.hardware is None or kind is Kind.DISK]


def build_medium(
    kind: Kind, builder: Builder, version: str, channel: str, folder: Path, name: str
) -> None:
    """Write the medium ``name`` and its list of parts into ``folder``. Raises ImageError."""
    medium = build(kind, builder, version, folder / name, options=_options(kind, channel))
    # The release has one file of sums.
    medium.sum_path.unlink()
    sbom = builder.image(version).sbom
    (folder / f"{name}{SBOM_SUFFIX}").write_bytes(
        parts_of(sbom.read_bytes(), name, medium.sha256, sbom)
    )


def _options(kind: Kind, channel: str) -> MediaOptions:
    return MediaOptions(channel=channel) if kind is Kind.OCI else MediaOptions()


def parts_of(disk: bytes, name: str, sha256: str, origin: Path) -> bytes:
    """The list of a medium's parts, SPDX in JSON, from that of the disk image that it carries.

    Raises PublishError where ``origin``, which ``disk`` was read from, is no such list.
    """
    try:
        document = json.loads(disk)
        [image] = [one for one in document["packages"] if one["SPDXID"] == "SPDXRef-Image"]
        document["documentNamespace"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, sha256)}"
        document["name"] = image["name"] = name
        image["packageFileName"] = name
        image["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    except (ValueError, KeyError, TypeError):
        raise PublishError(f"{origin} is no list of an image's parts") from None
    return json.dumps(document, indent=4).encode() + b"\n"
