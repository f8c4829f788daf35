"""What a node would do with a disk, read from the disk alone: which slot boots, and what is found.

Nothing here writes to the state that is judged. What the boot loader reads is read as it does it,
without ext4's journal; what Linux mounts is read with the journal replayed. Each part's judgement
is kept by the part's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from harness.crash.disk import SECTOR, Disk, View
from harness.crash.epochs import Cut, Epoch, Fingerprints, fingerprint
from harness.crash.ext4 import Ext4, Ext4Error
from harness.crash.fat32 import Fat32, FatError
from harness.errors import HarnessError
from product.agent.bootloader.grubenv import parse_block
from product.agent.bootloader.protocol import Environment
from product.agent.records.state import Phase, UpdateState, load_state
from product.agent.update.reconcile import Finding, judge
from product.disk.bios import is_installed
from product.disk.errors import DiskError
from product.disk.gpt import UNMADE, read_table
from product.disk.gpt import Disk as TableDisk
from product.disk.loader import parse_record
from product.disk.superblock import mend
from product.image.tools import HostTools
from product.manifest import MANIFEST_NAME, Manifest, ManifestError
from scenarios.crash.layout import ESP_PARTS, SLOTS, TABLE_SECTORS, Layout, Part

T = TypeVar("T")

MIB = 1 << 20
ENVIRONMENT = "boot/grub/grubenv"
RECORD = "EFI/loader.json"
# What GRUB reads of a slot, before anything could replay a journal.
GRUB_READS = ("vmlinuz", "initramfs.img", "kernel.env")
STATE, QUARANTINE = "kubesolo/update/state.json", "kubesolo/update/quarantine.json"
COPIES = "kubesolo/update/datastore/"
# An exchange of a datastore and its copy that is under way (product.agent.datastore.restore).
EXCHANGE, _ENDS = "journal.json", ("source", "live")
_FOUND = frozenset(
    {Finding.NOTHING, Finding.PENDING, Finding.TRIAL, Finding.COMMITTED, Finding.ROLLED_BACK}
)


class Env(NamedTuple):
    """The boot environment as GRUB reads it."""

    slot: str
    counter: int
    success: bool
    trial: str | None = None

    def __str__(self) -> str:
        return f"{self.slot}{self.counter}{'+' if self.success else '-'}"


class Decision(NamedTuple):
    """What GRUB does: which slot it starts, and the environment that it leaves."""

    slot: str
    env: Env
    rolled_back: bool


class Slot(NamedTuple):
    """What Linux finds in a slot: the SHA-256 of a manifest that all files fit; "" where the slot
    says itself that it is not whole. ``problem`` is a manifest that is not kept."""

    digest: str = ""
    problem: str = ""
    readable: bool = False


class Data(NamedTuple):
    """The data partition: ``condition`` is unmade, clean, replayed (its journal), mended (its
    superblock was torn), or repaired (by e2fsck, for more than these)."""

    condition: str
    state: UpdateState = UpdateState()
    quarantined: frozenset[str] = frozenset()
    problem: str = ""
    seeded: bool = False
    # What indexes of a datastore's copies name: path, SHA-256.
    copies: tuple[tuple[str, str], ...] = ()


class Kind(NamedTuple):
    """States that a boot cannot tell apart: what starts it, and what it finds."""

    slot: str
    version: str
    env: str
    passive: str
    loader: str
    bios: str
    data: str
    phase: str
    finding: str

    def __str__(self) -> str:
        return " ".join(f"{k}={v}" for k, v in self._asdict().items())


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problem`` is why the state does not boot, ``ambiguous`` why nobody can say what it is."""

    kind: Kind | None
    problem: str = ""
    ambiguous: str = ""


class Unbootable(HarnessError):
    """A state from which the machine does not come up as it should."""


def decide(env: Env) -> Decision:
    """The contract of images/boot/grub.cfg for an environment that can be read."""
    if env.success:
        return Decision(env.slot, env, False)
    other = "B" if env.slot == "A" else "A"
    if env.counter == 0:
        return Decision(other, env._replace(slot=other, success=True), True)
    return Decision(env.slot, env._replace(counter=env.counter - 1), False)


class Memory:
    """Judgements by what was judged."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], object] = {}
        self.asked: dict[str, int] = {}

    def knows(self, what: str, key: object) -> bool:
        """Whether this was judged before."""
        return (what, key) in self._known

    def get(self, what: str, key: object, make: Callable[[], T]) -> T:
        """What ``make`` returns, called once for each key."""
        place = (what, key)
        if place not in self._known:
            self.asked[what] = self.asked.get(what, 0) + 1
            try:
                self._known[place] = make()
            except Unbootable as error:
                self._known[place] = error
        found = self._known[place]
        if isinstance(found, Unbootable):
            raise found
        return found  # type: ignore[return-value]


class State:
    """One state of a disk, looked at only where its parts were never seen."""

    def __init__(self, epoch: Epoch, cut: Cut, disk: Disk, layout: Layout) -> None:
        self._epoch = epoch
        self.cut = cut
        self._disk = disk
        self._layout = layout
        self._views: dict[tuple[int, frozenset[int]], View] = {}

    def view(self, number: int, *parts: int) -> View:
        """A partition, or 0 for the whole disk, of which these parts are right."""
        key = (number, frozenset(parts))
        if key not in self._views:
            begin, end = self._layout.regions[number] if number else (0, self._layout.disk_bytes)
            overlay = self._epoch.overlay(self.cut, key[1].__contains__)
            self._views[key] = View(self._disk, begin, end, overlay)
        return self._views[key]


class Oracle:
    """Judges the states of one recording."""

    def __init__(
        self,
        layout: Layout,
        tools: HostTools,
        versions: Mapping[str, str],
        cores: Mapping[str, bytes],
        boot: bytes,
        scratch: Path,
    ) -> None:
        """``versions`` are releases by their manifest's digest, ``cores`` those of GRUB for BIOS
        by version, with ``boot`` for all of them."""
        self._layout = layout
        self._tools = tools
        self._versions = versions
        self._cores = cores
        self._boot = boot
        self._scratch = scratch
        self.memory = Memory()
        self.disk_bytes = layout.disk_bytes

    def judge(self, prints: Fingerprints, state: State) -> Verdict:
        """Never raises for what the disk holds."""
        try:
            return self._judge(prints, state)
        except Unbootable as error:
            return Verdict(None, problem=error.message)

    def _judge(self, prints: Fingerprints, state: State) -> Verdict:
        table, bios = Part.TABLE, Part.BIOS
        unmade = self.memory.get(
            "table", (prints[table], self.disk_bytes), lambda: self._table(state)
        )
        core = ""
        if self._cores:
            core = self.memory.get("bios", (prints[table], prints[bios]), lambda: self._bios(state))
        key = self._esp_key(prints, state)
        env, loader = self.memory.get("esp", key, lambda: self._esp(prints, state))
        decision = decide(env)
        slots = {name: self._slot(prints, state, name) for name in SLOTS}
        version = self._bootable(prints, state, decision.slot, slots[decision.slot])
        other = "B" if decision.slot == "A" else "A"
        if not decision.env.success:
            # A slot on trial needs one that has proved itself.
            self._bootable(prints, state, other, slots[other])
        if unmade:
            data = Data("unmade")
        else:
            data = self.memory.get(
                "data",
                (prints[Part.JOURNAL], prints[Part.DATA]),
                lambda: self._data(prints, state),
            )
        if data.problem:
            raise Unbootable(data.problem)
        if data.copies:
            key = (prints[Part.JOURNAL], prints[Part.DATA], prints[Part.COPIES])
            self.memory.get("copies", key, lambda: self._copies(prints, state, data))
        finding = self._reconcile(decision, data)
        kind = Kind(
            decision.slot,
            version,
            str(env),
            self._name(slots[other]),
            loader,
            core,
            data.condition if not data.seeded else f"{data.condition}, configured",
            data.state.phase.value,
            finding.value,
        )
        if finding not in _FOUND:
            return Verdict(kind, ambiguous=f"the record and the boot environment: {finding.value}")
        if problem := slots[other].problem or self._contradiction(decision, data):
            return Verdict(kind, ambiguous=problem)
        return Verdict(kind)

    def _name(self, slot: Slot) -> str:
        return self._versions.get(slot.digest, "not whole") if slot.digest else "not whole"

    # The front

    def _sectors_file(self, view: View, name: str, sectors: list[tuple[int, int]]) -> Path:
        path = self._scratch / name
        with path.open("wb") as stream:
            stream.truncate(self.disk_bytes)
            for first, count in sectors:
                stream.seek(first * SECTOR)
                stream.write(view.read(first * SECTOR, count * SECTOR))
        return path

    def _table(self, state: State) -> bool:
        """Whether the data partition is unmade."""
        last = self.disk_bytes // SECTOR
        view = state.view(0, Part.TABLE)
        rows = [(0, TABLE_SECTORS), (last - TABLE_SECTORS + 1, TABLE_SECTORS - 1)]
        path = self._sectors_file(view, "table", rows)
        with path.open("rb") as stream:
            try:
                table = read_table(TableDisk(stream.fileno(), "the disk"))
            except DiskError as error:
                raise Unbootable(error.message) from None
        for number in (1, 2, 3):
            part = table.partitions.get(number)
            begin, end = self._layout.regions[number]
            if part is None or (part.first * SECTOR, (part.last + 1) * SECTOR) != (begin, end):
                raise Unbootable(f"partition {number} is elsewhere")
        data = table.partitions.get(4)
        if data is None or data.first * SECTOR != self._layout.regions[4][0]:
            raise Unbootable("the data partition is elsewhere")
        return bool(data.attributes & UNMADE)

    def _bios(self, state: State) -> str:
        path = self._sectors_file(state.view(0, Part.TABLE, Part.BIOS), "front", [(0, 2048)])
        with path.open("rb") as stream:
            disk = TableDisk(stream.fileno(), "the disk")
            for version, core in self._cores.items():
                if is_installed(disk, self._boot, core):
                    return version
        raise Unbootable("what BIOS starts is neither the old nor the new core")

    # EFI partition

    def _esp_key(self, prints: Fingerprints, state: State) -> tuple[object, ...]:
        """What the judgement of the EFI partition depends on: what is written beside the files in
        use, or in the folders' parts that none of them lies in, changes nothing."""
        used = self.memory.get("folders", prints[Part.ESP], lambda: self._esp_sectors(state))
        if used is None:
            return tuple(prints[part] for part in ESP_PARTS)
        sectors, parts = used
        exact = (prints[Part.ESP], *(prints[part] for part in parts))
        if self.memory.knows("esp", exact):
            # Most states leave the partition alone: what they have of it need not be gathered.
            return exact
        overlay = state.view(1, Part.ESP_OLD, Part.ESP_NEW).overlay
        if overlay and overlay.keys().isdisjoint(sectors):
            return (prints[Part.ESP], "as before", state.cut.epoch)
        return exact

    def _esp_sectors(self, state: State) -> tuple[frozenset[int], tuple[int, ...]] | None:
        """Those that the files in use lie in, and their parts; None where the folders cannot be
        read."""
        view = state.view(1, Part.ESP)
        found: set[int] = set()
        try:
            fat = Fat32(view.read)
            for name in (ENVIRONMENT, *fat.walk("EFI")):
                for at in fat.places(name) or ():
                    first = (view.begin + at) // SECTOR
                    found.update(range(first, first + fat.cluster // SECTOR))
        except FatError:
            return None
        return frozenset(found), tuple(sorted({self._layout.part(sector) for sector in found}))

    def _esp(self, prints: Fingerprints, state: State) -> tuple[Env, str]:
        """The environment, and the loader's release."""
        view = state.view(1, *ESP_PARTS)
        try:
            fat = Fat32(view.read)
            block = fat.file(ENVIRONMENT)
            record = fat.file(RECORD)
        except FatError as error:
            raise Unbootable(f"the EFI partition: {error.message}") from None
        env = self._environment(block)
        if record is None:
            raise Unbootable(f"the EFI partition has no {RECORD}")
        try:
            loader = parse_record(record, RECORD)
        except DiskError as error:
            raise Unbootable(error.message) from None
        places = set(fat.places(ENVIRONMENT) or ())
        for name, digest in loader.files.items():
            if not name.startswith("EFI/"):
                continue
            try:
                where = fat.places(name)
            except FatError as error:
                raise Unbootable(f"the EFI partition: {error.message}") from None
            if where is None:
                raise Unbootable(f"the boot loader has no {name}")
            if places & set(where):
                raise Unbootable(f"{name} shares clusters with another file")
            places |= set(where)
            content = fat.file(name) or b""
            if hashlib.sha256(content).hexdigest() != digest:
                raise Unbootable(f"{name} is not that of the boot loader {loader.version}")
        self.memory.get("fsck.fat", prints[Part.ESP], lambda: self._fsck_fat(view))
        return env, loader.version

    @staticmethod
    def _environment(block: bytes | None) -> Env:
        if block is None:
            raise Unbootable("there is no boot environment")
        try:
            found = parse_block(block)
        except ValueError as error:
            raise Unbootable(f"the boot environment is garbage: {error}") from None
        variables = {k.decode("latin-1"): v.decode("latin-1") for k, v in found.variables.items()}
        slot, counter = variables.get("active_slot", ""), variables.get("boot_counter", "")
        success = variables.get("boot_success", "")
        if (
            slot not in ("A", "B")
            or not re.fullmatch("[0-3]", counter)
            or success not in ("0", "1")
        ):
            raise Unbootable(f"the boot environment says {slot!r} {counter!r} {success!r}")
        if found.oddity:
            raise Unbootable(f"GRUB could not write the boot environment: {found.oddity}")
        return Env(slot, int(counter), success == "1", variables.get("trial"))

    def _fsck_fat(self, view: View) -> bool:
        """Whether it finds more than that nobody unmounted it; raises Unbootable for what would
        touch a file that is in use."""
        path = self._scratch / "esp"
        view.copy(path)
        argv = self._tools.argv("fsck.fat", "-n", str(path))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise Unbootable(f"fsck.fat ended with {done.returncode}: {done.stderr.strip()}")
        if "share clusters" in done.stdout:
            raise Unbootable(f"fsck.fat: {done.stdout}")
        named = re.findall(r"^/(EFI|boot)/.*$", done.stdout, re.M)
        if named:
            raise Unbootable(f"fsck.fat on files in use: {done.stdout}")
        return done.returncode == 1

    # Slots

    def _slot(self, prints: Fingerprints, state: State, name: str) -> Slot:
        _, fixed, content = SLOTS[name]
        named = self.memory.get(
            f"slot {name}", prints[fixed], lambda: self._has_manifest(state, name)
        )
        if not named:
            return Slot()
        key = (prints[fixed], prints[content])
        return self.memory.get(f"content {name}", key, lambda: self._whole(prints, state, name))

    def _mounted(self, state: State, name: str, *parts: int, replay: bool) -> Ext4:
        number, fixed, _ = SLOTS[name]
        return Ext4(state.view(number, fixed, *parts).read, replay=replay)

    def _has_manifest(self, state: State, name: str) -> bool:
        try:
            return MANIFEST_NAME in self._mounted(state, name, replay=True).names()
        except Ext4Error:
            return False

    def _whole(self, prints: Fingerprints, state: State, name: str) -> Slot:
        """A slot that has a manifest keeps what it says."""
        content = SLOTS[name][2]
        mounted = self._mounted(state, name, content, replay=True)
        data = mounted.file(MANIFEST_NAME) or b""
        try:
            manifest = Manifest.parse(data)
        except ManifestError as error:
            return Slot(problem=error.message)
        for artifact in manifest.artifacts:
            found = self._digest(prints, name, mounted, artifact.name)
            if found != artifact.sha256:
                return Slot(problem=f"slot {name} has a manifest, and {artifact.name} is not whole")
        return Slot(hashlib.sha256(data).hexdigest(), readable=True)

    def _digest(self, prints: Fingerprints, slot: str, mounted: Ext4, name: str) -> str:
        runs, content = mounted.extents(name), prints[SLOTS[slot][2]]
        if runs is None:
            return ""

        def read() -> str:
            digest = hashlib.sha256()
            for piece in mounted.pieces(name) or ():
                digest.update(piece)
            return digest.hexdigest()

        return self.memory.get("digest", (slot, runs, mounted.size(name), content), read)

    def _bootable(self, prints: Fingerprints, state: State, name: str, slot: Slot) -> str:
        """The version that a slot starts; raises Unbootable where it does not start one."""
        if slot.problem:
            raise Unbootable(slot.problem)
        if not slot.digest:
            raise Unbootable(f"slot {name} is to be started and is not whole")
        version = self._versions.get(slot.digest)
        if version is None:
            raise Unbootable(f"slot {name} holds a release that nobody published")
        _, fixed, content = SLOTS[name]
        key = (prints[fixed], prints[content])
        problem = self.memory.get(f"GRUB {name}", key, lambda: self._grub(prints, state, name))
        if problem:
            raise Unbootable(problem)
        return version

    def _grub(self, prints: Fingerprints, state: State, name: str) -> str:
        """Why GRUB, which reads no journal, would start something else than Linux finds."""
        content = SLOTS[name][2]
        linux = self._mounted(state, name, content, replay=True)
        manifest = Manifest.parse(linux.file(MANIFEST_NAME) or b"")
        wanted = {a.name: a.sha256 for a in manifest.artifacts}
        try:
            grub = self._mounted(state, name, content, replay=False)
            for file in GRUB_READS:
                if self._digest(prints, name, grub, file) != wanted[file]:
                    return f"GRUB finds another {file} in slot {name} than Linux"
        except Ext4Error as error:
            return f"GRUB cannot read slot {name}: {error.message}"
        return ""

    # Data

    def _data(self, prints: Fingerprints, state: State) -> Data:
        view = state.view(4, Part.JOURNAL, Part.DATA)
        try:
            mounted = Ext4(view.read, replay=True)
        except Ext4Error:
            return self._checked(view)
        mark = prints[Part.DATA]
        first, size = view.begin // SECTOR, mounted.block
        for block, data in mounted.replayed.items():
            before = view.read(block * size, size)
            for i in range(0, size if before != data else 0, SECTOR):
                old, new = before[i : i + SECTOR], data[i : i + SECTOR]
                if old != new:
                    sector = first + (block * size + i) // SECTOR
                    mark ^= fingerprint(sector, old) ^ fingerprint(sector, new)
        found = self.memory.get("replayed data", mark, lambda: self._checked(view))
        if mounted.transactions and found.condition == "clean":
            return found._replace(condition="replayed")
        return found

    def _copies(self, prints: Fingerprints, state: State, data: Data) -> None:
        """Raises Unbootable where a copy is not what its index says."""

        def mounted() -> Ext4:
            return Ext4(state.view(4, Part.JOURNAL, Part.DATA, Part.COPIES).read, replay=True)

        def places() -> list[tuple[frozenset[int], object]]:
            try:
                found = mounted()
                rows = [(found.extents(path) or (), found.size(path)) for path, _ in data.copies]
            except Ext4Error:
                # Its superblock will be mended: the states beside it have the same copies.
                return []
            first, per = self._layout.regions[4][0] // SECTOR, found.block // SECTOR
            return [
                (
                    frozenset(first + s for at, n in runs for s in range(at * per, (at + n) * per)),
                    row,
                )
                for row in rows
                for runs in (row[0],)
            ]

        key = (prints[Part.JOURNAL], prints[Part.DATA])
        known = self.memory.get("places of copies", key, places)
        overlay = state.view(4, Part.COPIES).overlay.keys() if known else set()
        for (path, wanted), (sectors, row) in zip(data.copies, known, strict=False):
            # What is written beside a copy leaves it as the flush before has it.
            now = state.cut.epoch if overlay.isdisjoint(sectors) else prints[Part.COPIES]

            def read(path: str = path) -> str:
                return hashlib.sha256(mounted().file(path) or b"").hexdigest()

            if self.memory.get("copy", (row, now), read) != wanted:
                raise Unbootable(f"an index names {path}, which is not whole")

    def _checked(self, view: View) -> Data:
        """As stage 20-data does it: the check that repairs what is sure, then the one that repairs
        all; what is there then is read."""
        path = self._scratch / "data"
        view.copy(path)
        condition = "clean"
        done = self._e2fsck(path, "-p")
        if done.returncode >= 8 and _mended(path):
            condition = "mended"
            done = self._e2fsck(path, "-p")
        if done.returncode >= 4:
            condition = "repaired"
            done = self._e2fsck(path, "-y")
            if done.returncode >= 4:
                return Data("broken", problem=f"e2fsck -y: {done.stdout} {done.stderr}")
        if (done := self._e2fsck(path, "-f", "-n")).returncode:
            return Data("broken", problem=f"e2fsck leaves faults: {done.stdout} {done.stderr}")
        with path.open("rb") as stream:

            def read(offset: int, length: int) -> bytes:
                return os.pread(stream.fileno(), length, offset).ljust(length, b"\0")

            try:
                return self._read_data(Ext4(read, replay=False))._replace(condition=condition)
            except Ext4Error as error:
                return Data("broken", problem=f"the data partition: {error.message}")

    def _read_data(self, mounted: Ext4) -> Data:
        quarantined: frozenset[str] = frozenset()
        state = UpdateState()
        seeded = False
        copies: list[tuple[str, str]] = []
        for name in mounted.tree():
            if not name.endswith(".json"):
                seeded = seeded or name.endswith("written-by-seed")
                continue
            content = mounted.file(name) or b""
            try:
                document = json.loads(content)
            except ValueError as error:
                return Data("broken", problem=f"{name} is torn: {error}")
            if name.startswith(COPIES) and name.endswith("/index.json"):
                folder = f"{name.rpartition('/')[0]}/{document['directory']}"
                if not mounted.names(folder):
                    folder = self._taken(mounted, folder)
                copies += [(f"{folder}/{e['path']}", e["sha256"]) for e in document["files"]]
            if name == QUARANTINE:
                quarantined = frozenset(document)
            elif name == STATE:
                path = self._scratch / "state.json"
                path.write_bytes(content)
                loaded = load_state(str(path))
                if loaded.problems:
                    return Data("broken", problem=f"{name}: {loaded.problems[0]}")
                state = loaded.state
        return Data("clean", state, quarantined, seeded=seeded, copies=tuple(copies))

    @staticmethod
    def _taken(mounted: Ext4, folder: str) -> str:
        """Where the copy in ``folder`` lies by now, where a journal says that it is put back."""
        exchange = json.loads(mounted.file(f"{COPIES}{EXCHANGE}") or b"{}")
        places = [str(exchange.get(name, "")).removeprefix("/var/lib/") for name in _ENDS]
        return places[1] if places[0] == folder else folder

    def _e2fsck(self, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
        argv = self._tools.argv("e2fsck", *options, str(path))
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    # What the node will say of it

    @staticmethod
    def _reconcile(decision: Decision, data: Data) -> Finding:
        """What the agent finds once GRUB's choice runs."""
        env = decision.env
        found = Environment(env.slot, env.counter, env.success, env.trial)
        state = data.state
        if state.rollback is not None:
            done = found.confirms("B" if state.rollback.leave == "A" else "A")
            return Finding.ROLLED_BACK if done else judge(state.abandon(), found, decision.slot)
        return judge(state, found, decision.slot)

    @staticmethod
    def _contradiction(decision: Decision, data: Data) -> str:
        state = data.state
        if state.phase is Phase.ROLLED_BACK and state.to_digest:
            lost = (state.last_error or "").find("environment was lost") >= 0
            if not lost and state.to_digest not in data.quarantined:
                return "a release was rolled back, and is not quarantined"
        if state.phase is Phase.SUCCESS and state.unproved:
            return "an update has succeeded with an unproved slot"
        return ""


def _mended(path: Path) -> bool:
    try:
        return mend(str(path))
    except DiskError:
        return False
