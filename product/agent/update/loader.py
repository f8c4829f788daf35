"""The boot loader follows the system: a confirmed release installs its own.

GRUB has no slots, so this happens once nobody will go back from the release on the boot loader's
account, and in a way that each power cut leaves a disk that starts: the new files go to the folder
SPARE on KSOLOEFI and are read back, then SPARE and EFI change places by the write of one sector.
The core for BIOS goes to a second place, and the MBR is switched to it. BIOS goes first, so that
the record which EFI carries says that all is done; in between, each GRUB starts with the other's
configuration. The boot environment lies in neither folder. What a board's firmware looks for at the
top of KSOLOEFI waits there as NAME.NEW, and changes places by the same write.

A release that is older than the installed loader leaves it: GRUB of a newer release starts older
ones, since the boot contract is the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from product.agent.bootloader.boot import ESP_LABEL
from product.agent.errors import AgentError
from product.agent.node import Node
from product.agent.system.direct_io import from_disk
from product.agent.system.files import read_bounded, sync_directory
from product.agent.system.firmware import secure_boot
from product.disk.errors import DiskError
from product.disk.loader import (
    ACTIVE,
    BIOS_BOOT,
    BIOS_CORE,
    BOARD,
    MAX_RECORD,
    RECORD,
    SPARE,
    Loader,
    parse_record,
    spare_name,
)
from product.version import VersionError, parse_version

# What the firmware itself starts; the rest is started, and judged, by that.
_STARTED = "EFI/BOOT/BOOT"
_MAX_PROGRAM = 16 << 20


def follow_loader(node: Node) -> bool:
    """Install the running release's boot loader unless it is there; whether it was not.

    For a confirmed release, under the agent's lock. Raises AgentError, DiskError or OSError; the
    disk then still starts, with the old loader or the new one.
    """
    # A medium has its own.
    wanted = None if node.boot.live else _read_record(f"{node.paths.loader}/{RECORD}")
    if wanted is None:
        return False
    installed = read_installed(node)
    if installed is not None and (
        installed.files == wanted.files or _is_older(wanted.version, installed.version)
    ):
        return False
    install_loader(node, wanted)
    return True


def install_loader(node: Node, wanted: Loader) -> None:
    """Install the running release's boot loader, be it there already; raises as follow_loader."""
    if secure_boot(node.paths) == "on":
        _require_signed(node, wanted)
    if BIOS_CORE in wanted.files:
        _install_bios(node)
    _write_spare(node, wanted)
    _exchange(node, wanted)
    if (found := read_installed(node)) != wanted:
        raise AgentError(
            f"the boot loader of {wanted.version} was installed, and KSOLOEFI has that of "
            f"{found.version if found else 'nobody'}",
            code="loader-not-installed",
        )


def read_installed(node: Node) -> Loader | None:
    """What lies on KSOLOEFI; None where nothing says what that is. Raises AgentError, OSError."""
    with node.mounted_esp(False) as directory:
        try:
            return _read_record(f"{directory}/{RECORD}")
        except DiskError:
            return None


def _read_record(path: str) -> Loader | None:
    try:
        data = read_bounded(path, MAX_RECORD)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DiskError(f"{path} is no record of a boot loader: {error}") from None
    return parse_record(data, path)


def _is_older(version: str, other: str) -> bool:
    try:
        return parse_version(version) < parse_version(other)
    except VersionError:
        return False  # somebody's own build: what he confirms is what he wants


def _require_signed(node: Node, wanted: Loader) -> None:
    """A shim waits for a key where it refuses a boot loader, and a firmware starts nothing: that
    would be a van trip."""
    from product.agent.update.loader_trust import require_trusted
    from product.disk.pe import is_signed

    for name in wanted.files:
        if not name.lower().endswith(".efi"):
            continue
        with open(f"{node.paths.loader}/{name}", "rb") as stream:
            content = stream.read()
            if not is_signed(content):
                raise AgentError(
                    f"{name} of the boot loader of {wanted.version} carries no signature, and "
                    "Secure Boot is on",
                    hint="the old boot loader stays; build the image with signed ones",
                    code="loader-unsigned",
                )
        if name.upper().startswith(_STARTED):
            require_trusted(node.paths, name, content, _installed_file(node, name))


def _installed_file(node: Node, name: str) -> bytes | None:
    with node.mounted_esp(False) as directory:
        try:
            return read_bounded(f"{directory}/{name}", _MAX_PROGRAM)
        except (OSError, ValueError):
            return None


def _exchange(node: Node, wanted: Loader) -> None:
    from product.disk.fat import exchange

    pairs = [(ACTIVE, SPARE), *((name, spare_name(name)) for name in _at_top(wanted))]
    exchange(node.boot.device(ESP_LABEL), pairs)


def _at_top(wanted: Loader) -> list[str]:
    """What a board's firmware looks for at the top of KSOLOEFI, by its names there."""
    prefix = f"{BOARD}/"
    return sorted(name.removeprefix(prefix) for name in wanted.files if name.startswith(prefix))


def _waiting(wanted: Loader) -> dict[str, str]:
    """Each file for KSOLOEFI, by its name in the loader, and where it waits for the exchange."""
    places = {
        name: f"{SPARE}/{name.removeprefix(f'{ACTIVE}/')}"
        for name in wanted.files
        if name.startswith(f"{ACTIVE}/")
    }
    return places | {f"{BOARD}/{name}": spare_name(name) for name in _at_top(wanted)}


def _write_spare(node: Node, wanted: Loader) -> None:
    """Fill SPARE, on the disk and read back when this returns; the record comes last."""
    import shutil

    source = node.paths.loader
    waiting = _waiting(wanted)
    with node.mounted_esp(True) as directory:
        spare = os.path.join(directory, SPARE)
        shutil.rmtree(spare, ignore_errors=True)
        os.makedirs(spare, exist_ok=True)
        for name, place in [*waiting.items(), (RECORD, f"{SPARE}/{os.path.basename(RECORD)}")]:
            target = os.path.join(directory, place)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(os.path.join(source, name), "rb") as read, open(target, "wb") as write:
                shutil.copyfileobj(read, write)
                write.flush()
                os.fsync(write.fileno())
        for folder, _, _ in os.walk(spare, topdown=False):
            sync_directory(folder)
        sync_directory(directory)
        for name, place in waiting.items():
            if (found := _digest(from_disk(os.path.join(directory, place)))) != wanted.files[name]:
                raise AgentError(
                    f"{name} of the boot loader reads back as {found[:12]}, "
                    f"not {wanted.files[name][:12]}; the old boot loader stays",
                    code="loader-integrity",
                    hint="the disk may be failing",
                )


def _digest(pieces: Iterable[memoryview]) -> str:
    import hashlib  # a boot that installs nothing hashes nothing

    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _install_bios(node: Node) -> None:
    """Let the disk's first sectors start the release's core."""
    from product.disk.bios import install, is_installed
    from product.disk.prepare import open_disk

    with open(f"{node.paths.loader}/{BIOS_BOOT}", "rb") as stream:
        boot = stream.read()
    with open(f"{node.paths.loader}/{BIOS_CORE}", "rb") as stream:
        core = stream.read()
    with open_disk(node.boot.disk) as disk:
        if not is_installed(disk, boot, core):
            install(disk, boot, core)
