"""Images whose slots a Raspberry Pi's firmware starts: board.tar, and the boot partitions.

What ends up on a boot partition is written by the code that the node writes it with, see
product.disk.boot_files.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from product.disk.autoboot import NAME, Content, format_autoboot
from product.disk.boot_files import RECORD, Record, sources
from product.image.cache import file_sha256
from product.image.errors import RecipeError
from product.image.kernel import Kernel
from product.image.recipe import Tryboot
from product.manifest import MANIFEST_NAME

CONFIG = "config.txt"
_PIECE = 1 << 20
# The factory's state: slot A, confirmed.
FACTORY = Content(
    "A", "A", {"active_slot": "A", "boot_counter": "3", "boot_success": "1", "tried": "1"}
)


def board_archive(tryboot: Tryboot, kernel: Kernel, packages: Path, mtime: int) -> bytes:
    """``board.tar``; ``packages`` are the unpacked boot packages.

    Raises RecipeError for a file that the recipe names and no package holds.
    """
    files: dict[str, bytes] = {CONFIG: "".join(f"{line}\n" for line in tryboot.config).encode()}
    for path in tryboot.firmware:
        files[Path(path).name] = _read(packages / path, path, "the boot packages hold")
    for name in tryboot.device_trees:
        found = sorted(kernel.tree.glob(f"usr/lib/linux-image-*/**/{name}"))
        tree = found[0] if found else kernel.tree / name
        files[name] = _read(tree, name, f"kernel {kernel.release} brings")
    return _tar(files, mtime)


def _read(path: Path, name: str, who: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise RecipeError(
            f"tryboot names {name}, and {who} no such file",
            hint="firmware are paths in the packages for boot, device_trees names of the kernel's",
        ) from None


def _tar(files: Mapping[str, bytes], mtime: int) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), mtime, 0o644
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def write_esp(esp: Path) -> None:
    """Fill the folder of KSOLOEFI. Nothing on it may look bootable to the firmware, which without
    autoboot.txt starts the first partition that does: slot A's."""
    esp.mkdir(parents=True)
    (esp / NAME).write_bytes(format_autoboot(FACTORY))


def write_boot_folder(slot: Path, folder: Path) -> None:
    """Fill the folder of slot A's boot partition as the node would. Raises DiskError.

    The disk's identifiers are not known yet: its first boot makes them.
    """
    folder.mkdir(parents=True)
    files = {}
    for source in sources(str(slot), "A", None):
        path = folder / source.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open() as read, path.open("wb") as write:
            while piece := read.read(_PIECE):
                write.write(piece)
        files[source.name] = file_sha256(path)
    record = Record(file_sha256(slot / MANIFEST_NAME), files)
    (folder / RECORD).write_bytes(record.to_bytes())
