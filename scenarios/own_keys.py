"""Owners with keys of their own, and firmware that trusts them alone: for scenarios."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.qemu.arch import Arch
from product.image.cache import Cache, digest_of
from product.image.secure_boot import keys
from product.image.secure_boot.keys import Signer
from product.image.tools import IMAGES, HostTools
from scenarios.profile import CHANNEL_OFFER, NO_TIME_SERVER

_TOOLS = IMAGES / "hardening-tools.toml"
# Whose an entry of the firmware's lists is; any identifier does.
_GUID = "77fa9abd-0359-4d32-bd60-28f4e78f784b"
# The host of a virtual machine may add to a unified image's command line, by SMBIOS: what grub.cfg
# tells other kernels on QEMU.
SMBIOS = (CHANNEL_OFFER, NO_TIME_SERVER, "io.systemd.stub.kernel-cmdline-extra=no_timer_check")


class Owner:
    """One owner's three keys in a folder, made by whoever comes first."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder / name
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.folder.exists():
                partial = folder / f"{name}.part"
                shutil.rmtree(partial, ignore_errors=True)
                keys.generate(partial, name)
                partial.rename(self.folder)

    @property
    def signer(self) -> Signer:
        """What signs images."""
        return keys.load(self.folder / "db.key", self.folder / "db.crt")


def trusting(
    arch: Arch, owner: Owner, cache: Cache, tools: HostTools, successor: Owner | None = None
) -> Path:
    """UEFI's variables with Secure Boot on and the keys of ``owner`` alone, or those of a
    ``successor`` beside them."""
    template = tools.path(arch.firmware_files(secure_boot=False).variables)
    more: list[str | Path] = []
    if successor is not None:
        more = ["--add-db", _GUID, successor.folder / "db.crt"]
    return _variables(
        arch, (owner, *((successor,) if successor else ())), template, cache,
        ["--set-pk", _GUID, owner.folder / "pk.crt", "--add-kek", _GUID, owner.folder / "kek.crt",
         *more, "--add-db", _GUID, owner.folder / "db.crt", "--sb"],
    )  # fmt: skip


def with_mok(arch: Arch, owner: Owner, cache: Cache, tools: HostTools) -> Path:
    """UEFI's variables as of PCs that are sold, and the certificate of ``owner`` as MOK."""
    template = tools.path(arch.firmware_files(secure_boot=True).variables)
    options: list[str | Path] = ["--add-mok", _GUID, owner.folder / "db.crt"]
    return _variables(arch, (owner,), template, cache, options)


def _variables(
    arch: Arch, owners: tuple[Owner, ...], template: Path, cache: Cache,
    options: Sequence[str | Path],
) -> Path:  # fmt: skip
    programs = HostTools.prepare(cache, _TOOLS)
    keys = [owner.signer.sha256 for owner in owners]
    words = [option if isinstance(option, str) else option.name for option in options]
    key = digest_of(programs.digest, str(template), keys, words, arch.value)

    def build(tree: Path) -> None:
        programs.run(
            "python3.13", "-s", "-P", "-B", programs.path("usr/bin/virt-fw-vars"),
            "--input", template, *options, "--output", tree / "variables.fd",
            environment={"PYTHONHOME": str(programs.root / "usr")},
        )  # fmt: skip

    return cache.tree(f"variables-{arch.value}", key, build) / "variables.fd"
