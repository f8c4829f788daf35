"""The files behind a machine's disks: overlays over bases that nobody writes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import LaunchError
from harness.qemu.arch import Firmware
from harness.qemu.argv import Storage
from harness.qemu.board import Board
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools

# The header of a GUID partition table, in the second sector.
_GPT_OFFSET, _GPT_SIGNATURE = 512, b"EFI PART"
# What the disks of hypervisors begin with, by QEMU's names of their formats.
_FORMATS = {b"QFI\xfb": "qcow2", b"KDMV": "vmdk", b"vhdxfile": "vhdx"}
# Of a disk's overlay: one table for up to 16 GiB. The first write into what another table is for
# would make QEMU write out its cache, and a power cut would lose nothing from before it.
_DISK_OPTIONS = ("-o", "cluster_size=512k,extended_l2=on")

# A disk that is kept as evidence is one file up to this size before its compression: each failed
# scenario leaves one.
WHOLE_BYTES = 4 << 30


def fresh(
    spec: MachineSpec, tools: HostTools, directory: Path, own_disk: Path | None = None
) -> Storage:
    """Overlays over the image and over the firmware's first variables; with ``own_disk``, a qcow2
    file, that one in place of the first. Raises LaunchError."""
    for what, file in (
        ("kernel", spec.kernel),
        ("initrd", spec.initrd),
        ("device tree", spec.device_tree),
        ("seed disk", spec.seed),
        ("CD", spec.cdrom),
        ("file of variables", spec.variables),
    ):
        if file is not None and not file.is_file():
            raise LaunchError(f"there is no {what} {file}")
    commands = []
    disk = own_disk
    if spec.image is not None and disk is None:
        disk = directory / "disk.qcow2"
        size = _disk_size(spec, spec.image, tools)
        kind = format_of(spec.image)
        commands.append(_create(tools, spec.image, kind, disk, size, options=_DISK_OPTIONS))
    elif spec.cdrom is not None and disk is None:
        disk = directory / "disk.qcow2"
        create = ["create", "-q", "-f", "qcow2", *_DISK_OPTIONS, str(disk)]
        commands.append(tools.argv("qemu-img", *create, f"{spec.disk_size_mib}M"))
    variables = None
    if spec.firmware is Firmware.UEFI and spec.board is Board.VIRTUAL:
        # Raw variables could not be part of a snapshot's forks.
        variables = directory / "variables.qcow2"
        template = spec.variables or tools.path(spec.firmware_files.variables)
        commands.append(_create(tools, template, "raw", variables))
    _run(commands)
    return Storage(disk, variables, _copy(spec.seed, directory))


def _copy(seed: Path | None, directory: Path) -> Path | None:
    """A machine's own copy of a seed disk."""
    if seed is None:
        return None
    own = directory / "seed.img"
    shutil.copyfile(seed, own)
    return own


def with_seed(present: Storage, seed: Path | None, directory: Path) -> Storage:
    """The same disk and variables with a copy of another seed disk, or with none."""
    return Storage(present.disk, present.variables, _copy(seed, directory))


def format_of(image: Path) -> str:
    """What QEMU calls the format of a disk image that is there."""
    with image.open("rb") as stream:
        head = stream.read(8)
    return next((name for magic, name in _FORMATS.items() if head.startswith(magic)), "raw")


def _content_size(image: Path, tools: HostTools) -> int:
    """Bytes of the disk that an image holds. Raises LaunchError."""
    kind = format_of(image)
    if kind == "raw":
        return image.stat().st_size
    return int(_info(image, kind, tools)["virtual-size"])


def _info(image: Path, kind: str, tools: HostTools) -> dict[str, Any]:
    """What qemu-img knows of an image. Raises LaunchError."""
    argv = tools.argv("qemu-img", "info", "--output=json", "-f", kind, str(image))
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise LaunchError(f"{image} cannot be read: {done.stderr.decode(errors='replace')}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _disk_size(spec: MachineSpec, image: Path, tools: HostTools) -> int:
    """Bytes of the disk over ``image``. Raises LaunchError where there cannot be one."""
    if not image.is_file():
        raise LaunchError(
            f"there is no disk image {image}",
            hint="build it: ./noxw -s image -- --recipe images/upstream.toml",
        )
    with image.open("rb") as stream:
        head = stream.read(_GPT_OFFSET + len(_GPT_SIGNATURE))
    # A kernel may have a disk without partitions.
    raw = format_of(image) == "raw"
    if raw and spec.kernel is None and not head.endswith(_GPT_SIGNATURE):
        raise LaunchError(
            f"{image} is no disk image: it has no partition table",
            hint="build one: ./noxw -s image -- --recipe images/upstream.toml",
        )
    size = spec.disk_size_mib * 1024 * 1024
    smallest = _content_size(image, tools)
    if size < smallest:
        raise LaunchError(
            f"the disk of {spec.disk_size_mib} MiB is smaller than its image {image} of "
            f"{smallest} bytes",
            hint="give the machine a larger disk",
        )
    return size


def over(base: Storage, tools: HostTools, directory: Path) -> Storage:
    """Overlays over another machine's overlays, which nobody may write from now on."""
    commands = []
    disk = None
    if base.disk is not None:
        disk = directory / "disk.qcow2"
        commands.append(_create(tools, base.disk, "qcow2", disk, options=_DISK_OPTIONS))
    variables = None
    if base.variables is not None:
        variables = directory / "variables.qcow2"
        commands.append(_create(tools, base.variables, "qcow2", variables))
    _run(commands)
    return Storage(disk, variables, _copy(base.seed, directory))


def after_cut(cut: Storage, tools: HostTools, number: int) -> Storage:
    """The same disk after its cut of this number, under an overlay of the next start's own.

    QEMU's cache of what it has allocated dies with it, but a write over what the overlay has
    already is the host's at once. In an overlay that has nothing yet, whatever is not flushed is
    lost at the next cut. A flash has no cache and goes on as it is.
    """
    if cut.disk is None:
        return cut
    disk = cut.disk.with_name(f"after-cut-{number}.qcow2")
    _run([_create(tools, cut.disk, "qcow2", disk, options=_DISK_OPTIONS)])
    return Storage(disk, cut.variables, cut.seed)


def overlay(
    tools: HostTools, base: Path, path: Path, size: int | None = None, *, kind: str = "qcow2"
) -> None:
    """Make ``path``, an overlay over ``base``, of ``size`` bytes or of its own. Raises LaunchError.

    What is written to it and not flushed dies with QEMU, as with the disk itself.
    """
    _run([_create(tools, base, kind, path, size, options=_DISK_OPTIONS)])


def held_bytes(tools: HostTools, path: Path) -> int:
    """Bytes that an overlay itself holds, without what lies below. Raises LaunchError."""
    argv = tools.argv("qemu-img", "map", "--output=json", "-f", "qcow2", str(path))
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise LaunchError(f"{path} cannot be read: {done.stderr.decode(errors='replace')}")
    return sum(
        int(part["length"])
        for part in json.loads(done.stdout)
        if part["depth"] == 0 and part["present"]
    )


def make_disk(image: Path, disk: Path, size: int, tools: HostTools) -> None:
    """Write a disk of its own, as qcow2, with the content of ``image``; it grows to ``size`` bytes.

    A node keeps its keys on it: it is its owner's alone. Raises LaunchError.
    """
    partial = disk.with_name(f"{disk.name}.part")
    partial.touch()
    partial.chmod(0o600)
    _run([tools.argv("qemu-img", "convert", "-q", "-O", "qcow2", str(image), str(partial))])
    _run([tools.argv("qemu-img", "resize", "-q", "-f", "qcow2", str(partial), str(size))])
    partial.rename(disk)


def flatten(overlay: Path, into: Path, kind: str, tools: HostTools) -> None:
    """Write a qcow2 file and all below it into one file: raw, or qcow2 that is compressed.

    Raises LaunchError.
    """
    options = ["-c", "-o", "compression_type=zstd"] if kind == "qcow2" else []
    convert = ["convert", "-q", "-f", "qcow2", "-O", kind, *options, str(overlay), str(into)]
    _run([tools.argv("qemu-img", *convert)])


def backing(disk: Path, tools: HostTools) -> tuple[Path, str] | None:
    """The file that a qcow2 file lies over, and its format. Raises LaunchError."""
    found = _info(disk, "qcow2", tools)
    below = found.get("full-backing-filename")
    return (Path(below), str(found["backing-filename-format"])) if below else None


def rebase(disk: Path, base: str, kind: str, tools: HostTools) -> None:
    """Tell a qcow2 file that what it lies over is at ``base`` now. Raises LaunchError."""
    _run([tools.argv("qemu-img", "rebase", "-q", "-u", "-F", kind, "-b", base, str(disk))])


def keep(overlays: tuple[Path, Path], image: Path, into: Path, arch: str, tools: HostTools) -> str:
    """Keep a disk as the file ``into``, away from the run directory and the cache; returns what
    those who open it have to know.

    ``overlays`` are the machine's first one and the one on top. One file has everything, unless
    that would be larger than ``WHOLE_BYTES`` or than the room there is: then it lies over the image
    alone. Raises LaunchError.
    """
    first, top = overlays
    size = _whole_size(top, tools)
    limit = min(WHOLE_BYTES, shutil.disk_usage(into.parent).free // 2)
    if size <= limit:
        partial = into.with_name(f"{into.name}.part")
        convert = ["convert", "-q", "-c", "-O", "qcow2", "-o", "compression_type=zstd"]
        _run([tools.argv("qemu-img", *convert, str(top), str(partial))])
        partial.rename(into)
        return f"{into.name} is the whole disk, compressed with zstd: it needs no other file."
    if top != first:
        _run([tools.argv("qemu-img", "commit", "-q", "-b", str(first), str(top))])
    base = str(image.resolve())
    # What snapshots between it and the image have is copied, because they do not stay.
    kind = format_of(image)
    _run([tools.argv("qemu-img", "rebase", "-q", "-F", kind, "-b", base, str(first))])
    shutil.move(first, into)
    with image.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return (
        f"{into.name} lies over its image; whole it would take up to {size >> 20} MiB, where "
        f"{limit >> 20} MiB are the most.\n"
        f"  image: {base}\n"
        f"  sha256 of the image: {digest}\n"
        "The same commit builds the same image (name its recipe); then the disk is told of it:\n"
        f"  ./noxw -s image -- --arch {arch} --output IMAGE\n"
        f"  qemu-img rebase -u -F {kind} -b IMAGE {into.name}"
    )


def _whole_size(top: Path, tools: HostTools) -> int:
    """Bytes that a disk and all below it take at most in one file. Raises LaunchError."""
    argv = tools.argv("qemu-img", "measure", "--output=json", "-O", "qcow2", str(top))
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise LaunchError(f"{top} cannot be measured: {done.stderr.decode(errors='replace')}")
    return int(json.loads(done.stdout)["required"])


def _create(
    tools: HostTools,
    base: Path,
    kind: str,
    overlay: Path,
    size: int | None = None,
    *,
    options: Sequence[str] = (),
) -> list[str]:
    arguments = ["create", "-q", "-f", "qcow2", *options, "-b", str(base.resolve()), "-F", kind]
    return tools.argv("qemu-img", *arguments, str(overlay), *([str(size)] if size else []))


def _run(commands: Sequence[list[str]]) -> None:
    """Run all at once; raises LaunchError with the words of the first that fails."""
    running = [
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for command in commands
    ]
    words = [process.communicate()[1].decode(errors="replace").strip() for process in running]
    for process, text in zip(running, words, strict=True):
        if process.returncode != 0:
            raise LaunchError(f"a disk could not be made or kept: {text}")
