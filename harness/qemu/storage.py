"""The files behind a machine's disks: overlays over bases that nobody writes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.errors import LaunchError
from harness.qemu.arch import Firmware
from harness.qemu.argv import Storage
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools

# The header of a GUID partition table, in the second sector.
_GPT_OFFSET, _GPT_SIGNATURE = 512, b"EFI PART"
# Of a disk's overlay: one table for up to 16 GiB. The first write into what another table is for
# would make QEMU write out its cache, and a power cut would lose nothing from before it.
_DISK_OPTIONS = ("-o", "cluster_size=512k,extended_l2=on")


def fresh(spec: MachineSpec, tools: HostTools, directory: Path) -> Storage:
    """Overlays over the image and over the firmware's empty variables. Raises LaunchError."""
    for what, file in (("kernel", spec.kernel), ("initrd", spec.initrd)):
        if file is not None and not file.is_file():
            raise LaunchError(f"there is no {what} {file}")
    commands = []
    disk = None
    if spec.image is not None:
        disk = directory / "disk.qcow2"
        size = _disk_size(spec, spec.image)
        commands.append(_create(tools, spec.image, "raw", disk, size, options=_DISK_OPTIONS))
    variables = None
    if spec.firmware is Firmware.UEFI:
        # Raw variables could not be part of a snapshot's forks.
        variables = directory / "variables.qcow2"
        template = tools.path(spec.arch.firmware_files.variables)
        commands.append(_create(tools, template, "raw", variables))
    _run(commands)
    return Storage(disk, variables)


def _disk_size(spec: MachineSpec, image: Path) -> int:
    """Bytes of the disk over ``image``. Raises LaunchError where there cannot be one."""
    if not image.is_file():
        raise LaunchError(
            f"there is no disk image {image}",
            hint="build it: ./noxw -s image -- --recipe images/debian.toml",
        )
    with image.open("rb") as stream:
        head = stream.read(_GPT_OFFSET + len(_GPT_SIGNATURE))
    # A kernel may have a disk without partitions.
    if spec.kernel is None and not head.endswith(_GPT_SIGNATURE):
        raise LaunchError(
            f"{image} is no disk image: it has no partition table",
            hint="build one: ./noxw -s image -- --recipe images/debian.toml",
        )
    size = spec.disk_size_mib * 1024 * 1024
    smallest = image.stat().st_size
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
    return Storage(disk, variables)


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
    return Storage(disk, cut.variables)


def fold(top: Path, into: Path, tools: HostTools) -> None:
    """Write what ``top`` and all below it have that ``into`` has not into that one, an overlay
    further down; nothing is left to be used of those above. Raises LaunchError."""
    _run([tools.argv("qemu-img", "commit", "-q", "-b", str(into), str(top))])


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
            raise LaunchError(f"a disk overlay could not be made or folded: {text}")
