"""The release before this checkout's, as it was made: what an update must start from.

``KUBESOLO_PREVIOUS`` names the folder that ``./noxw -s publish`` made it in. Without that, the
image of the newest tag ``vX`` that is older than this checkout's version is built by its own code.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from product.current import VERSION
from product.errors import KubesoloError
from product.image.build import DEFAULT_RECIPE
from product.image.cache import file_sha256
from product.image.recipe import Arch
from product.image.tools import IMAGES, HostTools
from product.publish.request import ABOUT
from product.version import VersionError, parse_version

VARIABLE = "KUBESOLO_PREVIOUS"
_ROOT = Path(__file__).resolve().parents[1]
# A build of the image, on a slow host.
_LIMIT = 3600


class BeforeError(KubesoloError):
    """What should be the release before is none."""


@dataclass(frozen=True, slots=True)
class Before:
    """``disk`` is its image, with ``version`` in slot A; ``recipe`` what it was built from."""

    version: str
    disk: Path
    recipe: Path


def release_before(arch: Arch, tools: HostTools, folder: Path) -> Before:
    """The release before, its disk image in ``folder``. Skips the test where there is none.

    Raises BeforeError where one is named that cannot be used.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = _made(Path(named).absolute(), arch, tools, folder)
        if parse_version(found.version) >= parse_version(VERSION):
            pytest.skip(f"{VARIABLE} is {found.version}, and this checkout is {VERSION}: not older")
        return found
    tag = _older_tag()
    if tag is None:
        pytest.skip(f"there is no release before: {VARIABLE} is not set, and no tag v* is older")
    return _built(tag, arch, folder)


def _made(place: Path, arch: Arch, tools: HostTools, folder: Path) -> Before:
    try:
        about = json.loads((place / ABOUT).read_bytes())
        [disk] = [
            one
            for one in about["media"]
            if (one["kind"], one["arch"], one["hardware"]) == ("disk", arch, None)
        ]
        packed = place / str(disk["file"])
        found = file_sha256(packed)
        version, recipe = str(about["version"]), str(about["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BeforeError(
            f"{VARIABLE} names {place}, which holds no release with a disk for {arch}: {error}",
            hint="name the folder that ./noxw -s publish made",
        ) from None
    if found != disk["sha256"]:
        raise BeforeError(f"{packed} has SHA-256 {found}, not the one of its release")
    image = folder / "before.img"
    tools.run("zstd", "-q", "-d", "--long=27", packed, "-o", image)
    return Before(version, image, IMAGES / f"{recipe}.toml")


def _older_tag() -> str | None:
    done = subprocess.run(
        ["git", "-C", str(_ROOT), "tag", "--list", "v*", "--merged", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    older = []
    for tag in done.stdout.split():
        try:
            version = parse_version(tag)
        except VersionError:
            continue
        if version < parse_version(VERSION):
            older.append((version, tag))
    return max(older)[1] if older else None


def _built(tag: str, arch: Arch, folder: Path) -> Before:
    """Built by the code of ``tag``. Raises BeforeError."""
    checkout, image = folder / "checkout", folder / "before.img"
    checkout.mkdir()
    version = tag.removeprefix("v")
    archive = folder / "checkout.tar"
    commands = (
        ["git", "-C", str(_ROOT), "archive", "-o", str(archive), tag],
        ["tar", "-xf", str(archive), "-C", str(checkout)],
        [
            sys.executable, "-m", "product.image", "build", "--arch", arch.value, "--version",
            version, "--recipe", f"images/{DEFAULT_RECIPE.name}", "--output", str(image),
        ],
    )  # fmt: skip
    for command in commands:
        done = subprocess.run(
            command, cwd=checkout, capture_output=True, text=True, timeout=_LIMIT, check=False,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )  # fmt: skip
        if done.returncode != 0:
            raise BeforeError(
                f"the image of {tag} cannot be built: {done.stderr.strip()[-500:]}",
                hint=f"name the folder of that release: {VARIABLE}=DIR",
            )
    archive.unlink()
    shutil.rmtree(checkout)
    return Before(version, image, DEFAULT_RECIPE)
