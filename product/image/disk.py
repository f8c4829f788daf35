"""The disk image: the fixed partition table, its file systems and the boot loader.

Written by sfdisk, mtools and mke2fs straight into a sparse file: no root, no loop device. Every
identifier is derived from the image's digest, every time stamp is the recipe's source date, so
equal inputs give equal bytes. The data partition is left empty, and marked as such (attribute bit
59): the first boot makes its file system for the disk that it finds, see product.disk.
"""

from __future__ import annotations

import io
import struct
import tarfile
import uuid
from pathlib import Path
from typing import NamedTuple

from product.disk import autoboot, bios, fat, gpt
from product.disk.loader import BIOS_BOOT, BIOS_CORE
from product.image.errors import ImageError
from product.image.sparse import GrowingSum
from product.image.tools import HostTools

MIB = 1 << 20
SECTOR = 512
ESP_LABEL = "KSOLOEFI"
SLOT_LABELS = {"A": "KSOLOA", "B": "KSOLOB"}
DATA_LABEL = "KSOLODATA"
ESP_MIB, SLOT_MIB, DATA_MIB, BOOT_MIB = 256, 512, 64, 128
_TYPE_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_TYPE_BASIC = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
_TYPE_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
# GRUB cannot find a file system with the first, and does not know the second.
EXT4_FEATURES = "^metadata_csum_seed,^orphan_file"
_FIRST_LBA = 2048


class Partition(NamedTuple):
    """One partition: its label, where it starts and how long it is, in MiB, and its number."""

    label: str
    start: int
    size: int
    type: str
    number: int = 0

    @property
    def offset(self) -> int:
        """Bytes from the start of the disk."""
        return self.start * MIB

    @property
    def end(self) -> int:
        """Bytes from the start of the disk to what follows."""
        return (self.start + self.size) * MIB


def layout(*, boot: bool = False) -> tuple[Partition, ...]:
    """The fixed layout in the order of the disk, the data last: it grows.

    With ``boot`` there are two more, numbered behind the data and lying before it.
    """
    rows = [
        (ESP_LABEL, ESP_MIB, _TYPE_ESP, 1),
        (SLOT_LABELS["A"], SLOT_MIB, _TYPE_LINUX, 2),
        (SLOT_LABELS["B"], SLOT_MIB, _TYPE_LINUX, 3),
        (DATA_LABEL, DATA_MIB, _TYPE_LINUX, 4),
    ]
    if boot:
        rows[3:3] = [
            (autoboot.LABELS[slot], BOOT_MIB, _TYPE_BASIC, autoboot.PARTITIONS[slot])
            for slot in SLOT_LABELS
        ]
    start = 1
    partitions = []
    for label, size, kind, number in rows:
        partitions.append(Partition(label, start, size, kind, number))
        start += size
    return tuple(partitions)


class Identifiers:
    """GUIDs and serial numbers derived from one digest."""

    def __init__(self, digest: str) -> None:
        self._namespace = uuid.uuid5(uuid.NAMESPACE_OID, digest)

    def guid(self, name: str) -> str:
        """The identifier of one part of the disk."""
        return str(uuid.uuid5(self._namespace, name)).upper()


def build(
    esp: Path,
    slot: Path,
    loader: Path,
    identifiers: Identifiers,
    source_date: int,
    tools: HostTools,
    work: Path,
    target: Path,
    *,
    hybrid_mbr: bool = False,
    boot: Path | None = None,
) -> str:
    """Write the disk: ``esp`` is the folder of the first partition, ``slot`` fills slot A.

    What BIOS starts, where there is such, comes from ``loader`` (see product.disk.loader). With
    ``hybrid_mbr`` the MBR lists the first partition as well. ``boot`` is the folder of slot A's
    boot partition, for disks that have them.

    Returns the SHA-256 of the file, which is computed while it is written from front to back.
    Raises ImageError where the FAT has too few clusters to be a FAT32 for every firmware.
    """
    environment = {"SOURCE_DATE_EPOCH": str(source_date)}
    partitions = layout(boot=boot is not None)
    last = partitions[-1]
    with target.open("wb") as stream:
        # One MiB at the end for the backup of the partition table.
        stream.truncate((last.start + last.size + 1) * MIB)
    script = f"label: gpt\nlabel-id: {identifiers.guid('disk')}\nfirst-lba: {_FIRST_LBA}\n"
    for part in partitions:
        script += (
            f"disk{part.number} : start={part.offset // SECTOR}, "
            f"size={part.size * MIB // SECTOR}, type={part.type}, "
            f"uuid={identifiers.guid(part.label)}, name={part.label}"
        )
        script += ", attrs=GUID:59\n" if part.label == DATA_LABEL else "\n"
    tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", target, stdin=script.encode())
    if (loader / BIOS_CORE).exists():
        _bios((loader / BIOS_CORE).read_bytes(), (loader / BIOS_BOOT).read_bytes(), target)
    if hybrid_mbr:
        _hybrid_mbr(partitions[0], target)
    contents = {
        SLOT_LABELS["A"]: {path.name: path.read_bytes() for path in sorted(slot.iterdir())},
        SLOT_LABELS["B"]: {},
    }
    with GrowingSum(target) as growing:
        _fat(partitions[0], esp, identifiers, environment, tools, target)
        growing.reach(partitions[0].end)
        for part in partitions[1:3]:
            archive = work / f"{part.label}.tar"
            archive.write_bytes(_tar(contents[part.label], source_date))
            _ext4(part, archive, identifiers, environment, tools, target)
            growing.reach(part.end)
        for part in partitions[3:-1]:
            folder = boot if boot is not None and part.label == autoboot.LABELS["A"] else None
            _fat(part, folder, identifiers, environment, tools, target, cluster=2)
            growing.reach(part.end)
        growing.reach(last.end)
        return growing.finish()


def _fat(
    part: Partition,
    folder: Path | None,
    identifiers: Identifiers,
    environment: dict[str, str],
    tools: HostTools,
    target: Path,
    *,
    cluster: int | None = None,
) -> None:
    """``cluster`` is the size of one, in sectors. Raises ImageError for a FAT32 of too few."""
    image = f"{target}@@{part.offset}"
    sectors = part.size * MIB // SECTOR
    serial = identifiers.guid(f"fat {part.label}")[:8]
    tools.run(
        "mformat", "-i", image, "-F", "-T", str(sectors), "-h", "64", "-s", "32", "-H",
        str(part.offset // SECTOR), "-N", serial, "-v", part.label,
        *(("-c", str(cluster)) if cluster else ()), "::", environment=environment,
    )  # fmt: skip
    require_fat32(target, part)
    if folder is None:
        return
    names = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    for name in names:
        if (folder / name).is_dir():
            tools.run("mmd", "-i", image, f"::{name.as_posix()}", environment=environment)
        else:
            tools.run(
                "mcopy", "-i", image, folder / name, f"::{name.as_posix()}", environment=environment
            )


def require_fat32(target: Path, part: Partition) -> None:
    """Raise ImageError for a FAT32 of so few clusters that firmware may take it for a FAT16.

    By Microsoft's specification the number of clusters alone tells them apart, whatever the file
    system says of itself.
    """
    with target.open("rb") as stream:
        stream.seek(part.offset)
        clusters = fat.count_clusters(stream.read(SECTOR))
    if clusters < fat.FAT32_CLUSTERS:
        raise ImageError(
            f"the FAT of {part.label} has {clusters} clusters, and firmware takes one with fewer "
            f"than {fat.FAT32_CLUSTERS} for a FAT16",
            hint="make the partition larger, or its clusters smaller",
        )


def _hybrid_mbr(part: Partition, target: Path) -> None:
    """List ``part`` in the MBR's first entry, as FAT32 with sectors counted from the disk's start.

    The protective entry, by which all others know the GPT, becomes the second, and covers what lies
    before the partition: entries of an MBR do not overlap.
    """
    first = part.offset // SECTOR
    # "Beyond what cylinders, heads and sectors can say."
    chs = b"\xfe\xff\xff"
    entries = struct.pack("<B3sB3sII", 0x80, chs, 0x0C, chs, first, part.size * MIB // SECTOR)
    entries += struct.pack("<B3sB3sII", 0, b"\0\2\0", gpt.PROTECTIVE, chs, 1, first - 1)
    with target.open("r+b") as stream:
        stream.seek(gpt.MBR_ENTRIES_AT)
        stream.write(entries.ljust(4 * gpt.MBR_ENTRY_BYTES, b"\0"))


def _tar(files: dict[str, bytes], mtime: int) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mtime = mtime
            info.size = len(data)
            info.mode = 0o644
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


def _ext4(
    part: Partition,
    archive: Path,
    identifiers: Identifiers,
    environment: dict[str, str],
    tools: HostTools,
    target: Path,
) -> None:
    seed = identifiers.guid(f"hash {part.label}").lower()
    # The archive carries owner 0: run by an ordinary user, `-d DIRECTORY` would store that user.
    tools.run(
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", part.label, "-m", "0",
        "-U", identifiers.guid(f"fs {part.label}").lower(), "-O", EXT4_FEATURES, "-d", archive,
        "-E", f"offset={part.offset},hash_seed={seed},root_owner=0:0,lazy_itable_init=1,nodiscard",
        target, f"{part.size * 1024}k", environment=environment,
    )  # fmt: skip


def _bios(core: bytes, boot: bytes, target: Path) -> None:
    """What grub-install does on a disk with a gap before its first partition."""
    at = bios.PLACES[0]
    with target.open("r+b") as stream:
        stream.write(bios.boot_code(boot, at))
        stream.seek(at * SECTOR)
        stream.write(bios.place_core(core, at))
