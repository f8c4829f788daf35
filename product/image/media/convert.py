"""The disk image as a hypervisor's disk, by ``qemu-img``, the same bytes at every build."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from product.image import sparse
from product.image.disk import Identifiers
from product.image.errors import ImageError
from product.image.media import vhdx
from product.image.tools import HostTools

MIB = 1 << 20
# The embedded description of a VMDK starts in its second sector (VMware Virtual Disk Format 5.0).
_VMDK_DESCRIPTION = (512, 20 * 512)
# Of any number of digits: QEMU leaves out leading zeros.
_VMDK_CID = re.compile(rb"^CID=[0-9a-f]{1,8}$", re.MULTILINE)


class Format(NamedTuple):
    """How ``qemu-img`` is asked for a format, and what is done about what it draws at random."""

    name: str
    arguments: tuple[str, ...]
    settle: Callable[[Path, Identifiers], None] | None = None


def _settle_vmdk(path: Path, identifiers: Identifiers) -> None:
    """Set the content id, which snapshots compare and nothing else. Raises ImageError."""
    at, length = _VMDK_DESCRIPTION
    with path.open("r+b") as stream:
        stream.seek(at)
        before = stream.read(length)
        line = b"CID=" + identifiers.guid("vmdk content")[:8].lower().encode()
        after, count = _VMDK_CID.subn(line, before)
        if count != 1:
            raise ImageError(f"{path} is no VMDK with a description of its own")
        stream.seek(at)
        stream.write(after.rstrip(b"\0").ljust(length, b"\0"))


FORMATS: Mapping[str, Format] = {
    "qcow2": Format("qcow2", ("-c", "-o", "compression_type=zlib")),
    "vmdk": Format(
        "vmdk", ("-o", "subformat=streamOptimized,adapter_type=lsilogic"), _settle_vmdk
    ),
    "vhdx": Format("vhdx", ("-o", "subformat=dynamic,block_size=1M"), vhdx.settle),
}  # fmt: skip


def convert(
    disk: Path, wanted: Format, size: int, identifiers: Identifiers, tools: HostTools, target: Path
) -> None:
    """Write ``disk``, a raw image, as ``target`` of ``size`` bytes for the guest.

    The same input and name of ``target`` give the same bytes, because a VMDK holds its own name.
    Raises ImageError, ToolError, OSError.
    """
    least = disk.stat().st_size
    if size < least or size % MIB:
        raise ImageError(
            f"a disk of {size} bytes cannot hold the image of {least >> 20} MiB"
            if size < least
            else f"a disk of {size} bytes is no whole number of MiB",
            hint="give --disk-size a size like 8G",
        )
    larger = target.with_name(f"{target.name}.raw")
    try:
        sparse.copy(disk, larger)
        with larger.open("r+b") as stream:
            stream.truncate(size)
        tools.run(
            "qemu-img", "convert", "-q", "-f", "raw", "-O", wanted.name, *wanted.arguments,
            larger, target,
        )  # fmt: skip
    finally:
        larger.unlink(missing_ok=True)
    if wanted.settle is not None:
        wanted.settle(target, identifiers)
