"""Which sector of a node's disk belongs to what, so that a state is judged anew only where what is
judged has changed.

The parts are found by a look at the disk after each flush: a folder stays metadata for the whole
recording, what else lies in a file system is content.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from harness.crash.disk import SECTOR, Disk, View
from harness.crash.ext4 import Ext4, Ext4Error
from harness.crash.fat32 import Fat32, FatError
from harness.crash.log import Write

MIB = 1 << 20
# The partition table's copies, with the MBR: so many sectors at the front and at the end.
TABLE_SECTORS = 34


class Part(IntEnum):
    """Parts of the disk, each with a fingerprint of its own."""

    TABLE = 0
    BIOS = 1
    ESP = 2  # allocation tables and folders
    ESP_OLD = 3  # files that lay there at the beginning
    ESP_NEW = 4
    SLOT_A = 5  # metadata
    SLOT_A_CONTENT = 6
    SLOT_B = 7
    SLOT_B_CONTENT = 8
    JOURNAL = 9  # of the data partition
    DATA = 10
    COPIES = 11  # content of a datastore and of its copies


SLOTS = {"A": (2, Part.SLOT_A, Part.SLOT_A_CONTENT), "B": (3, Part.SLOT_B, Part.SLOT_B_CONTENT)}
# Folders of the data partition with more content than all the rest.
BULK = ("kubesolo/store", "kubesolo/update/datastore")
ESP_PARTS = (Part.ESP, Part.ESP_OLD, Part.ESP_NEW)


@dataclass(slots=True)
class Layout:
    """``regions`` are the partitions by number: first byte and the one behind the last."""

    regions: dict[int, tuple[int, int]]
    disk_bytes: int
    # Sectors of what is not content.
    esp: set[int] = field(default_factory=set)
    esp_old: set[int] = field(default_factory=set)
    slots: dict[str, set[int]] = field(default_factory=lambda: {"A": set(), "B": set()})
    journal: list[tuple[int, int]] = field(default_factory=list)
    data: set[int] = field(default_factory=set)
    copies: set[int] = field(default_factory=set)

    def part(self, sector: int) -> int:
        """The part that a sector belongs to."""
        at = sector * SECTOR
        number = next((n for n, (begin, end) in self.regions.items() if begin <= at < end), 0)
        if not number:
            return Part.TABLE if sector < TABLE_SECTORS or at >= MIB else Part.BIOS
        if number == 1:
            if sector in self.esp:
                return Part.ESP
            return Part.ESP_OLD if sector in self.esp_old else Part.ESP_NEW
        if number == 4:
            index = bisect_right(self.journal, (sector, 1 << 62)) - 1
            inside = index >= 0 and sector < self.journal[index][1]
            if inside:
                return Part.JOURNAL
            is_content = sector in self.copies and sector not in self.data
            return Part.COPIES if is_content else Part.DATA
        slot = "A" if number == 2 else "B"
        _, fixed, content = SLOTS[slot]
        return fixed if sector in self.slots[slot] else content

    def look(self, disk: Disk, regions: Iterable[int]) -> None:
        """Note the metadata of file systems as they are now; one that is not there yet has none."""
        for number in regions:
            begin, end = self.regions[number]
            view = View(disk, begin, end, {})
            if number == 1:
                self._look_at_esp(view)
            elif number == 4:
                self._look_at_data(view)
            else:
                self._look_at_slot("A" if number == 2 else "B", view)

    def _look_at_esp(self, view: View) -> None:
        try:
            fat = Fat32(view.read)
            files = [path for path in fat.walk() if not path.startswith("SPARE/")]
        except FatError:
            return
        first = not self.esp
        self._add(self.esp, view, 0, fat.data)
        for at in fat.folders:
            self._add(self.esp, view, at, fat.cluster)
        if first:
            for path in files:
                for at in fat.places(path) or ():
                    self._add(self.esp_old, view, at, fat.cluster)

    def _look_at_slot(self, slot: str, view: View) -> None:
        found = self.slots[slot]
        try:
            for replay in (False, True):
                file_system = Ext4(view.read, replay=replay)
                size = file_system.block
                for first, count in file_system.fixed_blocks():
                    self._add(found, view, first * size, count * size)
                for name in file_system.names():
                    file_system.extents(name)
                for block in file_system.looked_at:
                    self._add(found, view, block * size, size)
        except Ext4Error:
            return

    def _look_at_data(self, view: View) -> None:
        try:
            file_system = Ext4(view.read, replay=True)
            size = file_system.block
            if not self.journal:
                per, begin = size // SECTOR, view.begin // SECTOR
                runs = file_system.journal_runs()
                self.journal = sorted((begin + at * per, begin + (at + n) * per) for at, n in runs)
            for name in file_system.tree():
                # A block that is anything else at any time is no content of a copy.
                into = self.copies
                if not name.startswith(BULK) or name.endswith(".json"):
                    into = self.data
                for first, count in file_system.extents(name) or ():
                    if first >= 0:
                        self._add(into, view, first * size, count * size)
            for block in file_system.looked_at:
                self._add(self.data, view, block * size, size)
        except Ext4Error:
            return

    @staticmethod
    def _add(into: set[int], view: View, at: int, length: int) -> None:
        first = (view.begin + at) // SECTOR
        into.update(range(first, first + length // SECTOR))

    def touched(self, writes: Iterable[Write]) -> set[int]:
        """Numbers of the partitions that writes go to."""
        found = set()
        for write in writes:
            for number, (begin, end) in self.regions.items():
                if begin <= write.offset < end:
                    found.add(number)
        return found
