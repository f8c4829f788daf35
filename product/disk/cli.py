"""What early boot calls: `prepare DISK PARTITION`, `mend PARTITION`, `find NAME`, `find-for-live`.

prepare  make the data file system and this disk's identity at its first boot, or let the partition
         take what the disk has more; prints what was done
mend     let the checksum of a superblock fit that a power cut has torn
find     print the device that kubesolo.data= names
find-for-live  print the device with the data of a system that runs from a medium

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing found (yet).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from product.errors import KubesoloError

EXIT_USAGE, EXIT_NOT_FOUND = 2, 3
# A journal of the default size for more than 64 GiB, 1 GiB, takes a slow card a minute to write.
MAX_JOURNAL_MIB = 256


def main(arguments: Sequence[str]) -> int:
    """Run the command; errors go to standard output, which early boot reports."""
    try:
        match list(arguments):
            case ["prepare", disk, partition]:
                return _prepare(disk, partition)
            case ["mend", partition]:
                return _mend(partition)
            case ["find", name]:
                return _found(lambda find: find.find(name))
            case ["find-for-live"]:
                return _found(lambda find: find.find_for_live())
    except KubesoloError as error:
        print(error.message + (f"; {error.hint}" if error.hint else ""))
        return 1
    usage = "prepare DISK PARTITION | mend PARTITION | find NAME | find-for-live"
    print(f"usage: {usage}, not {' '.join(arguments)}")
    return EXIT_USAGE


def _prepare(disk_path: str, partition: str) -> int:
    from product.disk.prepare import open_disk, prepare, reread, resize_in_kernel

    with open_disk(disk_path) as disk:
        outcome = prepare(
            disk, lambda size: make_data(partition, size), resize_in_kernel(disk_path, disk.sector)
        )
    # The kernel still knows the identifiers of before.
    reread(disk_path)
    if outcome.first:
        print(f"made the data file system: {outcome.data_bytes >> 20} MiB")
    elif outcome.grew:
        print(f"the data partition has {outcome.data_bytes >> 20} MiB now")
    return 0


def _mend(partition: str) -> int:
    from product.disk.errors import DiskError
    from product.disk.superblock import mend

    try:
        return 0 if mend(partition) else EXIT_NOT_FOUND
    except OSError as error:
        raise DiskError(f"cannot mend {partition}: {error.strerror}") from None


def make_data(partition: str, size: int) -> None:
    """An ext4 on ``partition``, its journal to fit ``size`` bytes. Raises DiskError."""
    from product.disk.errors import DiskError

    journal = min(max(size >> 26, 4), MAX_JOURNAL_MIB)
    command = [
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "KSOLODATA",
        "-J", f"size={journal}", "-E", "lazy_itable_init=1,nodiscard", partition,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DiskError(f"cannot run mke2fs: {error.strerror}") from None
    if done.returncode:
        raise DiskError(
            f"mke2fs could not make the data file system on {partition}: "
            f"{(done.stderr or done.stdout).strip()[-300:]}",
            hint="the disk may be failing; try another one",
        )


def _found(look: Callable[[ModuleType], str | None]) -> int:
    from product.disk import find

    found = look(find)
    if found is None:
        return EXIT_NOT_FOUND
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
