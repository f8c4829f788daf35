"""A node in a directory: partitions are directories, the boot loader is a model of its contract.

The model reads and writes the environment block with code of its own, so that it cannot share a
mistake with the agent's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from product.agent import sources, trust
from product.agent.cli.main import main
from product.agent.errors import AgentError
from product.agent.node import Node
from product.agent.slots.volumes import VolumeBusyError, VolumeError
from product.agent.system.clock import Clock
from product.agent.system.paths import Paths
from product.deltas import Delta
from product.manifest import ARTIFACT_NAMES, Artifact, Manifest
from product.terms import Terms

DEVICES = {
    "KSOLOEFI": "/dev/vda1",
    "KSOLOA": "/dev/vda2",
    "KSOLOB": "/dev/vda3",
    "KSOLODATA": "/dev/vda4",
}
SLOT_DEVICES = {"A": "/dev/vda2", "B": "/dev/vda3"}


class FakeClock(Clock):
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0
        self.minute = 12 * 60

    def now(self) -> float:
        return self.seconds

    def local_minute(self, at: float | None = None) -> int:
        ahead = 0 if at is None else int(at // 60 - self.seconds // 60)
        return (self.minute + ahead) % (24 * 60)

    def zone(self) -> str:
        return "UTC +0000"

    def monotonic(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += max(seconds, 0.01)


class FakeVolumes:
    """Devices as directories under ``base``."""

    def __init__(self, base: Path) -> None:
        self.directories = {device: base / Path(device).name for device in DEVICES.values()}
        for directory in self.directories.values():
            directory.mkdir(parents=True)
        self.active: list[tuple[str, bool]] = []
        self.elsewhere: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.unmountable: set[str] = set()
        self.busy: set[str] = set()
        self.made: list[tuple[str, str]] = []
        self.bytes = 512 * 1024 * 1024

    @contextmanager
    def mounted(
        self, device: str, at: str, *, kind: str, writable: bool = False, wait: bool = True
    ) -> Iterator[str]:
        assert kind == ("ext4" if device in SLOT_DEVICES.values() else "vfat")
        if device in self.busy:
            raise VolumeBusyError(f"{device} is in use by another process")
        if device in self.unmountable or device not in self.directories:
            raise VolumeError(f"mount {device} failed: wrong fs type")
        assert device not in [name for name, _ in self.active], "mounted twice"
        self.active.append((device, writable))
        try:
            yield str(self.directories[device])
        finally:
            self.active.remove((device, writable))

    def mounted_elsewhere(self, device: str, at: str) -> str | None:
        return self.elsewhere.get(device)

    def check(self, device: str) -> bool:
        return device not in self.damaged

    def make(self, device: str, label: str) -> None:
        self.made.append((device, label))
        for path in self.directories[device].iterdir():
            path.unlink()
        self.damaged.discard(device)
        self.unmountable.discard(device)

    def size(self, device: str) -> int:
        return self.bytes


class Rebooted(BaseException):
    """The agent asked for a reboot: nothing after it runs."""


class FakeRelease:
    """A release, and the server that has it."""

    def __init__(self, version: str, *, architecture: str = "x86_64", salt: str = "") -> None:
        self.content = {
            name: f"{name} of {version} {salt}".encode() * 50 for name in ARTIFACT_NAMES
        }
        self.version = version
        self.architecture = architecture
        self.channel = "stable"
        self.min_compatible_version: str | None = None
        self.release_date: str | None = None
        self.notes = ""
        self.terms = Terms()
        self.deltas: tuple[Delta, ...] = ()
        self.forced_manifest: Manifest | None = None

    @property
    def manifest(self) -> Manifest:
        if self.forced_manifest:
            return self.forced_manifest
        artifacts = tuple(
            Artifact(name, len(data), hashlib.sha256(data).hexdigest())
            for name, data in self.content.items()
        )
        return Manifest(self.version, self.architecture, artifacts)

    @property
    def manifest_bytes(self) -> bytes:
        return self.manifest.to_bytes()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.manifest_bytes).hexdigest()


class World:
    """One node, its disk, its boot loader and its server."""

    def __init__(
        self, base: Path, monkeypatch: pytest.MonkeyPatch, *, real_server: bool = False
    ) -> None:
        """With ``real_server``, releases come by HTTP through the agent's own trust."""
        self.paths = Paths(str(base / "root"))
        self.volumes = FakeVolumes(base / "dev")
        self.clock = FakeClock()
        self.reboots = 0
        self.boots = 0
        self.environment = "ok"
        self.addresses: dict[int, list[str]] = {}
        self.offered: FakeRelease | None = None
        self.server_error: AgentError | None = None
        # What goes wrong at the n-th fetch, counting from 1.
        self.fetch_errors: dict[int, Exception] = {}
        self.fetched: list[str] = []
        self.versions: dict[str, str] = {}
        fakes = {
            (trust, "client"): SimpleNamespace(find_release=self._find),
            (sources, "artifact"): SimpleNamespace(fetch_artifact=self._fetch),
        }
        for (package, name), fake in ({} if real_server else fakes).items():
            monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", fake)
            monkeypatch.setattr(package, name, fake, raising=False)
        self.write_file(self.paths.config, "server=http://server/\npubkey=/etc/kubesolo/pub.pem\n")
        self.write_file(self.paths.console, "")
        self.fill("A", FakeRelease("0.1.0"))
        self.set_env(active_slot="A", boot_counter="3", boot_success="1")
        self.plug_in()
        self.power_on()

    # The disk.

    def directory(self, slot: str) -> Path:
        return self.volumes.directories[SLOT_DEVICES[slot]]

    @property
    def env_path(self) -> Path:
        return self.volumes.directories[DEVICES["KSOLOEFI"]] / "boot/grub/grubenv"

    def fill(self, slot: str, release: FakeRelease) -> None:
        for name, data in release.content.items():
            (self.directory(slot) / name).write_bytes(data)
        (self.directory(slot) / "manifest.json").write_bytes(release.manifest_bytes)

    def set_env(self, **variables: str) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in variables.items())
        block = ("# GRUB Environment Block\n" + lines).encode("latin-1").ljust(1024, b"#")
        self.env_path.parent.mkdir(parents=True, exist_ok=True)
        self.env_path.write_bytes(block)

    def env(self) -> dict[str, str]:
        lines = self.env_path.read_bytes().decode("latin-1").split("\n")[1:]
        return dict(line.split("=", 1) for line in lines if "=" in line)

    @staticmethod
    def write_file(path: str, text: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    # The machine.

    def plug_in(
        self,
        name: str = "eth0",
        *,
        index: int = 2,
        mac: str = "52:54:00:00:00:01",
        pci: str = "0000:00:03.0",
        driver: str | None = "e1000e",
        link: bool | None = True,
        address: str | None = "10.0.2.15/24",
        kind: str = "0x020000",
    ) -> None:
        """A network card as sysfs shows it; without a driver it is a device and no interface."""
        sys = Path(self.paths.sys)
        device = sys / "devices" / pci
        shutil.rmtree(device, ignore_errors=True)
        self.pull_out(name, index)
        files = {"class": kind, "vendor": "0x8086", "device": "0x15f3"}
        for file, text in files.items():
            self.write_file(str(device / file), f"{text}\n")
        bus = sys / "bus/pci"
        (bus / "devices").mkdir(parents=True, exist_ok=True)
        (device / "subsystem").symlink_to(bus)
        with suppress(FileExistsError):
            (bus / "devices" / pci).symlink_to(device)
        if driver is None:
            return
        (bus / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (device / "driver").symlink_to(bus / "drivers" / driver)
        folder = sys / "class/net" / name
        files = {"address": mac, "ifindex": str(index), "speed": "1000"}
        if link is not None:
            files["carrier"] = str(int(link))
        for file, text in files.items():
            self.write_file(str(folder / file), f"{text}\n")
        (folder / "device").symlink_to(device)
        if address:
            self.addresses[index] = [address]

    def take_card_out(self, pci: str = "0000:00:03.0", name: str = "eth0", index: int = 2) -> None:
        """Interface and device are gone."""
        self.pull_out(name, index)
        Path(self.paths.sys, "bus/pci/devices", pci).unlink()

    def pull_out(self, name: str = "eth0", index: int = 2) -> None:
        """The interface is gone; the device stays on its bus."""
        shutil.rmtree(Path(self.paths.sys, "class/net", name), ignore_errors=True)
        self.addresses.pop(index, None)

    def decide(self) -> str:
        """The boot loader's contract."""
        try:
            data = self.env_path.read_bytes()
            env = self.env()
            names = {"active_slot", "boot_counter", "boot_success"}
            valid = data.startswith(b"# GRUB Environment Block\n") and names <= set(env)
        except (OSError, ValueError):
            valid = False
        if not valid:
            return "A" if (self.directory("A") / "vmlinuz").exists() else "B"
        slot = env["active_slot"]
        if env["boot_success"] == "1":
            return slot
        if not data.rstrip(b"#").endswith(b"\n"):
            # It cannot save, so the boot counts for nothing.
            self.environment = "unsaved"
            return "B" if slot == "A" else "A"
        if int(env["boot_counter"]) > 0:
            env["boot_counter"] = str(int(env["boot_counter"]) - 1)
        else:
            slot = "B" if slot == "A" else "A"
            env.update(active_slot=slot, boot_success="1")
        self.set_env(**env)
        return slot

    def power_on(self, *, slot: str | None = None) -> str:
        """Boot: /run is new, and early boot leaves its report. ``slot``: chosen in the menu."""
        self.volumes.active.clear()
        self.environment = "ok"
        slot = slot or self.decide()
        self.boots += 1
        for path in Path(self.paths.run).glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        boot = {
            "slot": slot,
            "disk": "/dev/vda",
            "partitions": DEVICES,
            "boot_id": f"boot-{self.boots}",
            "mode": "normal",
            "data": "persistent",
            "env": self.environment,
            "problems": [],
        }
        self.write_file(self.paths.boot, json.dumps(boot))
        manifest = self.directory(slot) / "manifest.json"
        if manifest.exists():
            self.versions[slot] = json.loads(manifest.read_text())["version"]
        release = {"version": self.versions.get(slot, "0.1.0"), "architecture": "x86_64"}
        self.write_file(self.paths.release, json.dumps(release))
        Path(self.paths.console).write_text("")
        return slot

    def node(self) -> Node:
        return Node(
            self.paths,
            volumes=self.volumes,
            clock=self.clock,
            reboot=self._reboot,
            addresses=lambda: self.addresses,
        )

    def _reboot(self) -> None:
        assert not self.volumes.active, "rebooted with partitions mounted"
        self.reboots += 1
        raise Rebooted

    def run(self, *argv: str) -> int | None:
        """One command; None where it rebooted the node."""
        try:
            return main(list(argv), self.node())
        except Rebooted:
            return None

    def boot_service(self) -> int | None:
        return self.run("healthcheck", "--boot", "--deadline", "5")

    def console(self) -> list[str]:
        return Path(self.paths.console).read_text().splitlines()

    def state(self) -> dict[str, object]:
        found = json.loads(Path(self.paths.state).read_text())
        assert isinstance(found, dict)
        return found

    def state_or_none(self) -> dict[str, object] | None:
        return self.state() if Path(self.paths.state).exists() else None

    def history(self) -> list[str]:
        lines = Path(self.paths.history).read_text().splitlines()
        return [f"{e['event']} {e['outcome']}" for e in map(json.loads, lines)]

    def quarantined(self) -> list[str]:
        path = Path(self.paths.quarantine)
        return list(json.loads(path.read_text())) if path.exists() else []

    def update(self, release: FakeRelease) -> None:
        """Up to the reboot into it."""
        self.offered = release
        assert self.run("apply") == 0
        assert self.run("activate", "--reboot") is None

    def break_disk(self) -> None:
        """Make the disk check fail, also for root: a directory where the probe file belongs."""
        Path(self.paths.data, "health-probe").mkdir(parents=True, exist_ok=True)

    def mend_disk(self) -> None:
        Path(self.paths.data, "health-probe").rmdir()

    # The server.

    def _find(self, source: object, config: object, **arguments: object) -> FakeRelease | None:
        if self.server_error:
            raise self.server_error
        return self.offered

    def _fetch(self, source: object, artifact: Artifact, dest: str, **_: object) -> int:
        assert self.offered is not None
        error = self.fetch_errors.pop(len(self.fetched) + 1, None)
        if error:
            raise error
        self.fetched.append(artifact.name)
        Path(dest).write_bytes(self.offered.content[artifact.name])
        return zlib.crc32(self.offered.content[artifact.name])
