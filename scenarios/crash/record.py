"""One node's life with every write of its disk in a log, divided into phases.

A recording is a folder: ``disk`` is the image as raw bytes, ``log-N`` what QEMU logged from each
start of the machine on, ``recording.json`` which part of a log belongs to which phase.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.faults.http import WebServer
from harness.journal.patterns import Pattern
from harness.target.node import Node
from product.disk.loader import BIOS_BOOT, BIOS_CORE, IN_ROOT
from product.errors import KubesoloError
from product.image import progress
from product.image.build import Slot
from product.image.seed import seed_image
from product.image.tools import IMAGES, HostTools
from product.manifest import MANIFEST_NAME
from scenarios.releases import Release, Releases
from scenarios.steps import Update, offer

MIB = 1 << 20
FILE = "recording.json"
# What the configuration of GRUB that the last release brings says, and nothing else is different.
LOADER_SAID = "kubesolo: the other boot loader"


class RecordingError(KubesoloError):
    """The node did not do what was to be recorded."""


@dataclass(frozen=True, slots=True)
class Phase:
    """``name`` was under way from byte ``begin`` to byte ``end`` of the log of this number."""

    name: str
    log: int
    begin: int
    end: int


@dataclass(slots=True)
class Recording:
    """What lies in ``folder``; ``versions`` are those that a slot may hold, by their manifest's
    SHA-256."""

    folder: Path
    disk_bytes: int = 0
    # Of the disk, for each log.
    sizes: list[int] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def log(self, number: int) -> Path:
        """The log of the machine's start of this number."""
        return self.folder / f"log-{number}"

    @property
    def cores(self) -> dict[str, bytes]:
        """What BIOS may start, by the release."""
        found = sorted(self.folder.glob("core-*"))
        return {path.name.removeprefix("core-"): path.read_bytes() for path in found}

    @property
    def boot(self) -> bytes:
        """The code in the MBR that goes with each of them."""
        path = self.folder / "boot.img"
        return path.read_bytes() if path.exists() else b""

    @property
    def disk(self) -> Path:
        """What the machine began with."""
        return self.folder / "disk"

    def write(self) -> None:
        """Leave the file that says what the logs are."""
        document = {
            "disk_bytes": self.disk_bytes,
            "sizes": self.sizes,
            "versions": self.versions,
            "phases": [[p.name, p.log, p.begin, p.end] for p in self.phases],
        }
        (self.folder / FILE).write_text(json.dumps(document, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """Raises RecordingError."""
        try:
            found = json.loads((folder / FILE).read_text())
            phases = [Phase(*row) for row in found["phases"]]
            return cls(folder, found["disk_bytes"], found["sizes"], phases, found["versions"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RecordingError(
                f"{folder} holds no recording: {error}", hint="leave --recording out to make one"
            ) from None


class Recorder:
    """Divides the log of a node that runs into phases."""

    def __init__(self, node: Node, into: Recording) -> None:
        self._node = node
        self._into = into
        self._number = 0
        self._begin = 0

    def begin(self) -> None:
        """The machine is about to start, with a new log."""
        self._begin = 0

    def mark(self, name: str) -> None:
        """What was written since the last mark was written in this phase."""
        log = self._node.machine.storage.write_log
        assert log is not None
        end = log.stat().st_size
        self._into.phases.append(Phase(name, self._number, self._begin, end))
        progress.note(f"{name}: {(end - self._begin) / 1e6:.1f} MB of log")
        self._begin = end

    def keep(self, disk_bytes: int) -> None:
        """The machine, with a disk of this size, has ended: take its log."""
        log = self._node.machine.storage.write_log
        assert log is not None
        size = log.stat().st_size
        if self._into.phases:
            # What QEMU wrote on its way out belongs to the last one.
            last = self._into.phases[-1]
            self._into.phases[-1] = Phase(last.name, last.log, last.begin, size)
        shutil.move(log, self._into.log(self._number))
        self._into.sizes.append(disk_bytes)
        self._number += 1


GROWN_MIB = 512
_SEED = """#cloud-config
hostname: kept-through-cuts
timezone: Europe/Paris
write_files:
  - path: /etc/kubesolo/written-by-seed
    content: whole
"""


def record(
    node: Node, releases: Releases, image: Path, folder: Path, tools: HostTools
) -> Recording:
    """Let ``node``, which logs its writes, live through every phase. Raises RecordingError."""
    small = node.spec.disk_size_mib * MIB
    # Built before the machine runs beside.
    slots = [
        releases.good.slot,
        releases.panicking_init.slot,
        with_another_loader(releases, folder),
    ]
    into = _begin(releases, slots, image, folder, small + GROWN_MIB * MIB)
    recorder = Recorder(node, into)
    with progress.step("the data partition is made, and grows"):
        node.boot()
        recorder.mark("data creation")
        node.target.quit()
        recorder.keep(small)
        disk, size = str(node.machine.storage.disk), str(into.disk_bytes)
        subprocess.run(
            tools.argv("qemu-img", "resize", "-q", "-f", "qcow2", disk, size), check=True
        )
        recorder.begin()
        node.boot()
        recorder.mark("data growth")
        node.target.quit()
        recorder.keep(into.disk_bytes)
    with progress.step("configuration"):
        files = {"user-data": _SEED.encode()}
        node.machine.insert_seed(seed_image(folder / "seed", files, tools=tools))
        recorder.begin()
        node.boot()
        recorder.mark("configuration")
    with progress.step("copy of a datastore, and its return"):
        _datastore(node)
        recorder.mark("datastore copy")
    # One repository, as a publisher has it: a node goes back to no older state of one.
    good = releases.sign("crash", slots[0])
    _good_one(node, recorder, good)
    _rollback(node, recorder)
    bad = releases.publish_next(good, slots[1])
    _bad_one(node, recorder, bad)
    _loader(node, recorder, releases.publish_next(bad, slots[2]))
    return _end(node, recorder, into)


def record_update(node: Node, releases: Releases, image: Path, folder: Path) -> Recording:
    """A first boot, and one update that brings another boot loader, which is then installed once
    more while nothing else writes. Raises RecordingError."""
    slot = with_another_loader(releases, folder)
    into = _begin(releases, [slot], image, folder, node.spec.disk_size_mib * MIB)
    recorder = Recorder(node, into)
    node.boot()
    recorder.mark("data creation")
    _loader(node, recorder, releases.sign("crash", slot))
    with progress.step("the boot loader once more, alone"):
        node.succeed(["python3", "-ISB", "-c", _ALONE], seconds=60)
        recorder.mark("boot loader, alone")
    return _end(node, recorder, into)


def _begin(
    releases: Releases, slots: Sequence[Slot], image: Path, folder: Path, disk_bytes: int
) -> Recording:
    folder.mkdir(parents=True, exist_ok=True)
    into = Recording(folder, disk_bytes)
    subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", str(image), str(into.disk)], check=True
    )
    for slot in (*slots, releases.slot("0.1.0")):
        into.versions[_digest(slot)] = slot.version
    _keep_loaders(releases, folder)
    return into


def _end(node: Node, recorder: Recorder, into: Recording) -> Recording:
    node.target.quit()
    recorder.keep(into.disk_bytes)
    into.write()
    return into


# The agent's own functions, for a payload whose service does not run.
_COPY = """
import json, os, sys
sys.path += ["/usr/lib/kubesolo/python", "/usr/lib/python3/dist-packages"]
from product.agent.config import load_config
from product.agent.datastore.copies import save_copy
from product.agent.datastore.restore import settle
from product.agent.kubernetes.payload import read_payload
from product.agent.node import Node
from product.agent.system.paths import Paths

paths = Paths()
paths.payload = "/run/payload.json"
store = "/var/lib/kubesolo/store"

def fill(letter):
    os.makedirs(store, exist_ok=True)
    for name in ("db", "wal", "snap"):
        with open(f"{store}/{name}", "wb") as stream:
            stream.write(letter * 300_000)
            os.fsync(stream.fileno())

def payload(minor):
    document = {
        "schema": 1, "kind": "recorded", "version": "1", "kubernetes": f"1.{minor}.0",
        "containerd": "/run/none", "datastore": {"path": store, "service": "none"},
    }
    with open(paths.payload, "w") as stream:
        json.dump(document, stream)
    return read_payload(paths)

config = load_config(paths.config)
fill(b"a")
older = payload(34)
settle(Node(paths), config)
save_copy(Node(paths), older, print)
fill(b"b")
save_copy(Node(paths), older, print)
payload(35)
settle(Node(paths), config)
fill(b"c")
payload(34)
print("settled:", settle(Node(paths), config))
print("now", open(f"{store}/db", "rb").read(1))
"""

# A flush is of the whole disk: one that the boot loader's installation lacks would be made by
# whatever else is written meanwhile. So the data partition stands still (FIFREEZE, FITHAW of
# linux/fs.h).
_ALONE = """
import fcntl, os, sys
sys.path += ["/usr/lib/kubesolo/python", "/usr/lib/python3/dist-packages"]
from product.agent.node import Node
from product.agent.system.paths import Paths
from product.agent.update.loader import install_loader, read_installed

node = Node(Paths())
wanted = read_installed(node)
data = os.open("/mnt/data", os.O_RDONLY)
fcntl.ioctl(data, 0xC0045877, 0)
try:
    install_loader(node, wanted)
finally:
    fcntl.ioctl(data, 0xC0045878, 0)
"""


def _datastore(node: Node) -> None:
    """Copy a datastore twice, and let an older Kubernetes have its copy back."""
    done = node.succeed(["python3", "-ISB", "-c", _COPY], seconds=120)
    if "now b'b'" not in done.text:
        raise RecordingError(f"the datastore's copy did not come back: {done.text}")
    node.succeed("sync", seconds=60)


def _good_one(node: Node, recorder: Recorder, release: Release) -> None:
    with WebServer(release.repository) as server:
        offer(node, release, server)
        update = Update(node, release, server)
        with progress.step(f"apply {release.version}"):
            update.apply()
            recorder.mark("apply")
        with progress.step("activate"):
            update.activate()
            recorder.mark("activate")
        with progress.step("first boot of it, and commit"):
            since = node.journal.cursor
            node.reboot()
            node.wait_console(r"enter stage: /etc/runit/2", since=since)
            recorder.mark("first boots")
            _runs(node, "B", release.version)
            recorder.mark("commit")


def _rollback(node: Node, recorder: Recorder) -> None:
    with progress.step("rollback by hand"):
        node.succeed(["kubesolo-update", "rollback"])
        node.reboot()
        _runs(node, "A", "0.1.0")
        recorder.mark("rollback by hand")


def _bad_one(node: Node, recorder: Recorder, release: Release) -> None:
    with WebServer(release.repository) as server:
        offer(node, release, server)
        update = Update(node, release, server)
        with progress.step(f"apply {release.version}, whose init panics"):
            update.apply()
            recorder.mark("apply over another")
            update.activate()
            recorder.mark("activate over another")
        with (
            progress.step("three failed boots"),
            node.expecting(Pattern.INIT_EXITED, times=3),
            node.expect_boots(4),
        ):
            node.reboot()
        recorder.mark("failed boots")
        _runs(node, "A", "0.1.0")
        recorder.mark("rollback by itself")


def _loader(node: Node, recorder: Recorder, release: Release) -> None:
    with WebServer(release.repository) as server:
        offer(node, release, server)
        with progress.step(f"apply {release.version}, which brings another boot loader"):
            since = node.journal.cursor
            update = Update(node, release, server)
            update.apply()
            recorder.mark("apply once more")
            update.activate()
            recorder.mark("activate once more")
            node.reboot()
            _runs(node, "B", release.version)
            node.wait_console("kubesolo-update: boot loader of", since=since)
            recorder.mark("boot loader")


def _runs(node: Node, slot: str, version: str) -> None:
    ready = node.wait_ready()
    found = (ready.slot, ready.version, ready.confirmed)
    if found != (slot, version, True):
        raise RecordingError(f"slot {slot} with {version}, confirmed, was expected: {ready}")
    node.succeed("sync", seconds=60)


def _digest(slot: Slot) -> str:
    return hashlib.sha256((slot.folder / MANIFEST_NAME).read_bytes()).hexdigest()


def _keep_loaders(releases: Releases, folder: Path) -> None:
    """What BIOS starts of each, where there is such."""
    for version, loader in (("0.1.0", releases.loader), ("0.3.0", folder / "overlay" / IN_ROOT)):
        if (loader / BIOS_CORE).exists():
            shutil.copyfile(releases.loader / BIOS_BOOT, folder / "boot.img")
            shutil.copyfile(loader / BIOS_CORE, folder / f"core-{version}")


def with_another_loader(releases: Releases, folder: Path) -> Slot:
    """0.3.0, whose configuration of GRUB says so on the console; its core for BIOS is another."""
    loader = folder / "overlay" / IN_ROOT
    config = (IMAGES / "boot/grub.cfg").read_text()
    marked = config.replace("# Hold F4", f'echo "{LOADER_SAID}"\n# Hold F4', 1)
    (loader / "EFI/debian").mkdir(parents=True, exist_ok=True)
    (loader / "EFI/debian/grub.cfg").write_text(marked)
    core = releases.loader / BIOS_CORE
    if core.exists():
        (loader / "bios").mkdir(exist_ok=True)
        (loader / BIOS_CORE).write_bytes(core.read_bytes() + bytes(512))
    return releases.with_overlay("another-loader", "0.3.0", folder / "overlay").slot
