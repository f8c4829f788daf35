"""A FAT32 as a firmware reads it: files by their names, and what they lie on."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from harness.errors import HarnessError

_END = 0x0FFFFFF8
_FOLDER, _VOLUME, _LONG = 0x10, 0x08, 0x0F
_DELETED = 0xE5
_MAX_CLUSTERS = 1 << 20


class FatError(HarnessError):
    """What is there is no FAT32, or a chain of it leads nowhere."""


class Fat32:
    """A file system whose bytes ``read(offset, length)`` gives."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        """Raises FatError."""
        self._read = read
        boot = read(0, 512)
        if boot[510:512] != b"\x55\xaa" or boot[82:87] != b"FAT32":
            raise FatError("there is no FAT32")
        self.sector, per_cluster, reserved, tables = struct.unpack_from("<HBHB", boot, 11)
        (table_sectors,) = struct.unpack_from("<I", boot, 36)
        (self._root,) = struct.unpack_from("<I", boot, 44)
        self.cluster = self.sector * per_cluster
        self._table = reserved * self.sector
        self.data = (reserved + tables * table_sectors) * self.sector
        # Bytes of folders that were read: where each cluster begins.
        self.folders: set[int] = set()

    def _at(self, cluster: int) -> int:
        return int(self.data + (cluster - 2) * self.cluster)

    def _chain(self, cluster: int) -> Iterator[int]:
        """Raises FatError for a chain that meets a free cluster, or that has no end."""
        for _ in range(_MAX_CLUSTERS):
            if cluster >= _END:
                return
            if cluster < 2:
                raise FatError("a chain of clusters leads to none")
            yield cluster
            entry = self._read(self._table + cluster * 4, 4)
            cluster = int.from_bytes(entry, "little") & 0x0FFFFFFF
        raise FatError("a chain of clusters has no end")

    def _entries(self, first: int) -> dict[str, tuple[int, int, int]]:
        """Attributes, first cluster and size by upper-case name."""
        found: dict[str, tuple[int, int, int]] = {}
        long = ""
        for cluster in self._chain(first):
            self.folders.add(self._at(cluster))
            data = self._read(self._at(cluster), self.cluster)
            for at in range(0, len(data), 32):
                entry = data[at : at + 32]
                if entry[0] == 0:
                    return found
                if entry[0] == _DELETED:
                    long = ""
                    continue
                if entry[11] == _LONG:
                    piece = (entry[1:11] + entry[14:26] + entry[28:32]).decode(
                        "utf-16-le", "replace"
                    )
                    long = piece.split("\0")[0].rstrip("\uffff") + long
                    continue
                stem, suffix = (
                    part.decode("latin-1").rstrip() for part in (entry[:8], entry[8:11])
                )
                name = long or (f"{stem}.{suffix}" if suffix else stem)
                long = ""
                if entry[11] & _VOLUME or name in (".", ".."):
                    continue
                high, low = (
                    struct.unpack_from("<H", entry, 20)[0],
                    struct.unpack_from("<HI", entry, 26),
                )
                found[name.upper()] = (entry[11], high << 16 | low[0], low[1])
        return found

    def _find(self, path: str) -> tuple[int, int, int] | None:
        entry = (_FOLDER, self._root, 0)
        for name in path.strip("/").split("/"):
            if not entry[0] & _FOLDER:
                return None
            below = self._entries(entry[1]).get(name.upper())
            if below is None:
                return None
            entry = below
        return entry

    def places(self, path: str) -> list[int] | None:
        """Where each cluster of a file begins, in bytes; None where there is none."""
        entry = self._find(path)
        if entry is None or entry[0] & _FOLDER:
            return None
        if entry[2] == 0:
            return []
        count = -(-entry[2] // self.cluster)
        found: list[int] = []
        for cluster in self._chain(entry[1]):
            if len(found) == count:
                break
            found.append(self._at(cluster))
        if len(found) < count:
            raise FatError(f"{path} has {len(found)} clusters of {count}")
        return found

    def file(self, path: str) -> bytes | None:
        """The content of a file; None where there is none. Raises FatError."""
        places = self.places(path)
        if places is None:
            return None
        entry = self._find(path)
        assert entry is not None
        return b"".join(self._read(at, self.cluster) for at in places)[: entry[2]]

    def walk(self, path: str = "") -> Iterator[str]:
        """Every file below a folder. Raises FatError."""
        waiting = [(path.strip("/"), self._root if not path.strip("/") else -1)]
        if waiting[0][1] < 0:
            entry = self._find(path)
            if entry is None or not entry[0] & _FOLDER:
                return
            waiting = [(path.strip("/"), entry[1])]
        while waiting:
            here, first = waiting.pop()
            for name, (kind, cluster, _) in self._entries(first).items():
                below = f"{here}/{name}" if here else name
                if kind & _FOLDER:
                    waiting.append((below, cluster))
                else:
                    yield below
