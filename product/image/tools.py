"""Host programs from locked Debian packages, run from the cache with their own loader.

Nothing is installed and nothing of the host is used but its kernel: every host runs the same QEMU,
mksquashfs and GRUB. A host's own program is used where ``KUBESOLO_HOST_TOOL_<NAME>`` names it, as
in ``KUBESOLO_HOST_TOOL_QEMU_SYSTEM_X86_64=/usr/bin/qemu-system-x86_64``.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from product.image import images, progress
from product.image.cache import Cache, digest_of, file_sha256
from product.image.drift import settle
from product.image.errors import ToolError, UnsupportedHostError
from product.image.packages import compile_globs, fetch, unpack_all
from product.image.recipe import Arch, Recipe

# ``UNPACKED``: it lies in the cache, because the project was installed without a checkout.
IMAGES, UNPACKED = images.find()
_OWN_PREFIX = "KUBESOLO_HOST_TOOL_"
_LOADERS = {"x86_64": "usr/lib64/ld-linux-x86-64.so.2", "aarch64": "usr/lib/ld-linux-aarch64.so.1"}
_OWN_LIBRARIES = ("pulseaudio", "swtpm")
_FOLDERS = ("usr/bin", "usr/sbin", "usr/libexec")


# The recipe of the programs for each purpose that machines and their surroundings have.
_SETS = {
    "qemu": "host-tools",
    "board": "board-tools",
    "registry": "registry-tools",
    "metrics": "metrics-tools",
    "tpm": "hardening-tools",
}


def prepare_set(purpose: str) -> HostTools:
    """The locked programs for a purpose: qemu, board, registry, metrics or tpm.

    Raises ToolError for another one.
    """
    if purpose not in _SETS:
        raise ToolError(f"no programs are locked for {purpose!r}, only for {', '.join(_SETS)}")
    return HostTools.prepare(Cache(), IMAGES / f"{_SETS[purpose]}.toml")


def host_arch() -> Arch:
    """This host's architecture. Raises UnsupportedHostError unless it is a supported Linux."""
    if sys.platform != "linux":
        raise UnsupportedHostError(
            f"this host runs {sys.platform}; the image builders and the harness need Linux",
            hint="run them on a Linux machine or in a Linux virtual machine",
        )
    try:
        return Arch(platform.machine())
    except ValueError:
        raise UnsupportedHostError(
            f"no host programs are locked for {platform.machine()}",
            hint=f"use a host of one of: {', '.join(Arch)}",
        ) from None


def _own_programs() -> list[tuple[str, str]]:
    """Variable and SHA-256 of the programs that the user has put in the place of locked ones."""
    found = []
    for name, path in sorted(os.environ.items()):
        if name.startswith(_OWN_PREFIX) and path:
            try:
                found.append((name, file_sha256(Path(path))))
            except OSError as error:
                raise ToolError(
                    f"{name} names {path!r}, which cannot be read: {error.strerror}",
                    hint="give the full path of a program, or unset it",
                ) from None
    return found


class HostTools:
    """The unpacked programs; ``digest`` names their exact versions.

    ``drift`` says which of them are not the locked ones.
    """

    def __init__(self, root: Path, arch: Arch, digest: str, drift: tuple[str, ...] = ()) -> None:
        self.root = root
        self.arch = arch
        self.digest = digest
        self.drift = drift

    @classmethod
    def prepare(cls, cache: Cache, recipe_path: Path = IMAGES / "host-tools.toml") -> HostTools:
        """Fetch and unpack the locked programs unless the cache holds them."""
        arch = host_arch()
        recipe = Recipe.load(recipe_path)
        lock, drift = settle(recipe, arch, cache)
        digest = digest_of([package.sha256 for package in lock.packages], recipe.root.prune)

        def build(tree: Path) -> None:
            blobs = fetch(lock.packages, cache)
            with progress.step(f"unpack {len(blobs)} packages of host programs"):
                unpack_all(list(blobs.values()), tree, compile_globs(recipe.root.prune))

        tree = cache.tree("host-tools", digest, build)
        if own := _own_programs():
            digest = digest_of(digest, own)
        return cls(tree, arch, digest, drift)

    def path(self, relative: str) -> Path:
        """A file of the tools, such as firmware. Raises ToolError where it is missing."""
        path = self.root / relative
        if not path.exists():
            raise ToolError(f"the host programs hold no {relative}", hint="is it pruned?")
        return path

    @cached_property
    def _library_path(self) -> str:
        libraries = self.root / "usr/lib" / self.arch.multiarch
        # Some programs have libraries of their own in a folder below.
        return ":".join(str(path) for path in (libraries, *map(libraries.joinpath, _OWN_LIBRARIES)))

    def argv(self, program: str, *args: str) -> list[str]:
        """The command line that runs ``program``, a name or a full path.

        Raises ToolError where there is none.
        """
        own = os.environ.get(_OWN_PREFIX + re.sub(r"\W", "_", program).upper())
        if own:
            return [own, *args]
        for folder in _FOLDERS:
            path = self.root / folder / program
            if path.exists():
                break
        else:
            raise ToolError(f"no package of the host programs holds {program!r}")
        loader = str(self.root / _LOADERS[self.arch])
        command = [loader, "--library-path", self._library_path, str(path)]
        if program.startswith("qemu-system-"):
            share = self.root / "usr/share"
            command += ["-L", str(share / "qemu"), "-L", str(share / "seabios")]
        return command + list(args)

    def run(
        self,
        program: str,
        *args: str | Path,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        allowed: Sequence[int] = (0,),
        cwd: Path | None = None,
    ) -> bytes:
        """Run a program to its end and return what it printed.

        The environment holds only fixed values and ``environment``, so that no locale, time zone or
        setting of the host reaches an image. Raises ToolError with the program's own last words.
        """
        base = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "MKE2FS_CONFIG": str(self.root / "etc/mke2fs.conf"),
            "MTOOLSRC": "/dev/null",
        }
        command = self.argv(program, *(str(arg) for arg in args))
        result = subprocess.run(
            command,
            input=stdin if stdin is not None else b"",
            capture_output=True,
            env={**base, **(environment or {})},
            cwd=cwd,
            check=False,
        )
        if result.returncode not in allowed:
            words = (result.stderr or result.stdout).decode(errors="replace").strip()
            if "No space left on device" in words:
                raise ToolError(
                    f"no space left on the disk while running {program}",
                    hint="free some space, or set KUBESOLO_CACHE to a larger disk",
                )
            raise ToolError(f"{program} failed with {result.returncode}: {words[-2000:]}")
        return result.stdout
