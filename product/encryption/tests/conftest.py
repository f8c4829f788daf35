"""Real programs: cryptsetup on a file, tpm2-tools with a TPM in software."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from product.encryption import programs
from product.encryption.luks import Volume
from product.encryption.programs import Run
from product.encryption.tpm import Tpm
from product.image.cache import Cache, digest_of
from product.image.locks import Lock
from product.image.packages import compile_globs, fetch, unpack_all
from product.image.recipe import Recipe
from product.image.tools import IMAGES, HostTools, host_arch


def _with(tools: HostTools, more: Mapping[str, str] | None = None) -> Run:
    """Programs of ``tools`` in the place of the machine's own; others do nothing."""

    def run(
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        keys: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        if argv[0] == "modprobe":
            return b""
        command = tools.argv(argv[0], *argv[1:])
        both = {**(environment or {}), **(more or {})}
        return programs.run(command, stdin=stdin, keys=keys, environment=both)

    return run


@pytest.fixture
def volume(host_tools: HostTools, tmp_path: Path) -> Volume:
    """A file that may become a volume; without root it is not opened, but all else is real."""
    disk = tmp_path / "partition"
    with disk.open("wb") as stream:
        stream.truncate(64 << 20)
    return Volume(str(disk), _with(host_tools))


@pytest.fixture(scope="session")
def extension_tools(cache: Cache) -> HostTools:
    """The extension's locked packages as they are, run on this host."""
    arch = host_arch()
    lock = Lock.load(Recipe.load(IMAGES / "appliance-encryption.toml").lock_path(arch))
    wanted = lock.group("root")
    digest = digest_of([package.sha256 for package in wanted])

    def build(tree: Path) -> None:
        blobs = fetch(wanted, cache)
        unpack_all(list(blobs.values()), tree, compile_globs(("usr/share/*",)))

    return HostTools(cache.tree("extension-tools", digest, build), arch, digest)


class SoftwareTpm:
    """swtpm on a socket; ``clear`` makes another TPM of it."""

    def __init__(self, swtpm: HostTools, tools: HostTools, folder: Path) -> None:
        self._swtpm, self._tools, self._folder = swtpm, tools, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self.clear()

    @property
    def run(self) -> Run:
        """Runs tpm2-tools with this TPM."""
        return _with(self._tools, {"TPM2TOOLS_TCTI": f"swtpm:path={self._socket}"})

    @property
    def tpm(self) -> Tpm:
        """As the product sees it."""
        return Tpm(str(self._socket), _Flushing(self.run), str(self._folder))

    def clear(self) -> None:
        """A TPM with a seed of its own."""
        self.close()
        self._number += 1
        self._socket = self._folder / f"socket-{self._number}"
        state = self._folder / f"state-{self._number}"
        state.mkdir()
        self._process = subprocess.Popen(
            self._swtpm.argv(
                "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}",
                "--ctrl", f"type=unixio,path={self._socket}.ctrl",
                "--server", f"type=unixio,path={self._socket}",
                "--flags", "not-need-init,startup-clear",
            ),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 30
        while not os.path.exists(self._socket) and time.monotonic() < end:
            time.sleep(0.02)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class _Flushing:
    """What the kernel's resource manager does: nothing stays loaded between two programs."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        keys: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        printed = self._run(argv, stdin=stdin, keys=keys, environment=environment)
        self._run(["tpm2", "flushcontext", "-t"])
        return printed


@pytest.fixture
def software_tpm(
    cache: Cache, extension_tools: HostTools, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SoftwareTpm]:
    """A new one for each test."""
    swtpm = HostTools.prepare(cache, IMAGES / "hardening-tools.toml")
    made = SoftwareTpm(swtpm, extension_tools, tmp_path_factory.mktemp("tpm"))
    yield made
    made.close()
