"""What a slot's boot partition holds, where the firmware reads FAT only (hardware rpi-tryboot).

Firmware and kernel come with the release: the slot's ``vmlinuz`` and ``initramfs.img``, its kernel
arguments as ``cmdline.txt``, and the files of ``board.tar``, an artifact of such releases:
config.txt, the firmware's own files, device trees. The record ``kubesolo.json`` is written last::

    {"files": {"vmlinuz": "<SHA-256>", ...}, "release": "<SHA-256 of the slot's manifest>"}

A partition without it, or with one of another release than the slot holds, is not started.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import IO, NamedTuple, Protocol

from product.disk import records
from product.disk.errors import DiskError
from product.manifest import ARGUMENTS_NAME, INITRAMFS_NAME, KERNEL_NAME

RECORD = "kubesolo.json"
# An artifact beside those that every slot has.
BOARD_NAME = "board.tar"
COMMAND_LINE = "cmdline.txt"
MAX_RECORD = 256 * 1024
# The firmware reads one line, and the kernel as much of it as x86 and ARM take.
_MAX_LINE = 2047
_MEMBER = re.compile(r"[A-Za-z0-9+][A-Za-z0-9+._-]*(/[A-Za-z0-9+][A-Za-z0-9+._-]*){0,3}")


class Record(NamedTuple):
    """The release that a boot partition is for, and each file's SHA-256 by its path."""

    release: str
    files: dict[str, str]

    def to_bytes(self) -> bytes:
        """The record's content."""
        return records.format_record("release", self.release, self.files)


def parse_record(data: bytes, origin: str) -> Record:
    """Raises DiskError for anything that is no record; ``origin`` names it."""
    return Record(*records.parse_record(data, "release", origin, "a boot partition"))


class _Readable(Protocol):
    """A file that is open for reading."""

    def read(self, size: int, /) -> bytes: ...


class Source(NamedTuple):
    """A file of the boot partition: ``open`` gives its bytes from the first on."""

    name: str
    open: Callable[[], AbstractContextManager[_Readable]]


def sources(slot_directory: str, slot: str, boot_guid: str | None) -> Iterator[Source]:
    """The files for ``slot``, whose own lie in ``slot_directory``, one after the other.

    ``boot_guid`` is the identifier of the disk's first partition; None where it is not known yet.
    Each must be read before the next is asked for. Raises DiskError, OSError.
    """
    for name in (KERNEL_NAME, INITRAMFS_NAME):
        yield Source(name, partial(io.FileIO, os.path.join(slot_directory, name)))
    with open(os.path.join(slot_directory, ARGUMENTS_NAME), "rb") as stream:
        line = command_line(stream.read(), slot, boot_guid)
    yield Source(COMMAND_LINE, partial(io.BytesIO, line))
    board = os.path.join(slot_directory, BOARD_NAME)
    try:
        with tarfile.open(board, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                if not _MEMBER.fullmatch(member.name) or member.name in _TAKEN:
                    raise DiskError(f"{board} has a file of the name {member.name!r:.80}")
                yield Source(member.name, partial(_content, archive, member))
    except FileNotFoundError:
        raise DiskError(
            f"slot {slot} has no {BOARD_NAME}: its release is not for this hardware"
        ) from None
    except tarfile.TarError as error:
        raise DiskError(f"{board} is no archive: {error}") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None  # it is a file
    return content


_TAKEN = frozenset({RECORD, COMMAND_LINE, KERNEL_NAME, INITRAMFS_NAME})


def kernel_arguments(block: bytes, whose: str) -> str:
    """What kernel.env says. Raises DiskError."""
    found = re.search(rb"^kernel_arguments=(.*)$", block, re.M)
    if not block.startswith(b"# GRUB Environment Block\n") or found is None:
        raise DiskError(f"{ARGUMENTS_NAME} of {whose} has no kernel_arguments")
    return re.sub(rb"\\(.)", rb"\1", found[1]).decode("latin-1")


def command_line(block: bytes, slot: str, boot_guid: str | None) -> bytes:
    """cmdline.txt: the words that GRUB gives elsewhere, and the release's own. Raises DiskError."""
    arguments = kernel_arguments(block, f"slot {slot}")
    words = [f"kubesolo.slot={slot}", "kubesolo.loader=tryboot"]
    if boot_guid:
        words.append(f"kubesolo.boot={boot_guid.lower()}")
    line = " ".join([*words, arguments])
    if len(line) > _MAX_LINE:
        raise DiskError(
            f"the command line of slot {slot} has {len(line)} of {_MAX_LINE} characters"
        )
    return line.encode("latin-1") + b"\n"
