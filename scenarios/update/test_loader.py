"""A confirmed release brings its own boot loader, and no power cut on the way stops the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.crash.log import Write, read_log
from harness.crash.replay import Cut, Replay
from harness.pytest_plugin.image import ImageUnderTest
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch, Firmware
from harness.target.node import Node, State
from product.disk.bios import is_installed
from product.disk.errors import DiskError
from product.disk.loader import BIOS_BOOT, BIOS_CORE, IN_ROOT, RECORD, parse_record
from product.disk.prepare import open_disk
from product.image.errors import ToolError
from product.image.tools import IMAGES, HostTools
from scenarios.releases import Release, Releases
from scenarios.steps import Update, configure

Serve = Callable[..., Update]

MIB = 1 << 20
# What the new configuration says on the console, and nothing else is different.
SAID = "kubesolo: the other boot loader"


def _with_another_loader(releases: Releases, folder: Path, *, starts: bool = True) -> Release:
    """0.3.0, whose configuration of GRUB says so, and whose core for BIOS is another.

    One that need not start with BIOS is different in each sector, so that half of it shows.
    """
    loader = folder / "overlay" / IN_ROOT
    config = (IMAGES / "boot/grub.cfg").read_text()
    marked = config.replace("# Hold F4", f'echo "{SAID}"\n# Hold F4', 1)
    assert marked != config
    (loader / "EFI/debian").mkdir(parents=True)
    (loader / "EFI/debian/grub.cfg").write_text(marked)
    core = releases.loader / BIOS_CORE
    if core.exists():
        (loader / "bios").mkdir()
        content = core.read_bytes()
        other = content + bytes(512) if starts else bytes(byte ^ 0xFF for byte in content)
        (loader / BIOS_CORE).write_bytes(other)
    name = "another-loader" if starts else "other-bytes"
    return releases.with_overlay(name, "0.3.0", folder / "overlay")


def _installed(node: Node) -> str:
    """The release whose boot loader lies on KSOLOEFI."""
    version: str = node.status().boot_loader
    return version


def _boots_with(node: Node) -> bool:
    """Reboot; whether it is the other boot loader that starts the node."""
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    return any(SAID in event.text for event in node.journal.events(since=since))


def _follows(node: Node, releases: Releases, serve: Serve, folder: Path) -> None:
    node.at(State.READY, slot="A")
    assert _installed(node) == "0.1.0"
    update = serve(_with_another_loader(releases, folder))
    update.stage()
    assert _installed(node) == "0.1.0", "before the release is confirmed"
    since = node.journal.cursor
    node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.3.0", "B", True)
    node.wait_console("kubesolo-update: boot loader of 0.3.0 installed", since=since)
    assert _installed(node) == "0.3.0"
    assert node.status().problems == []
    assert _boots_with(node)
    # Back on the older release the newer boot loader stays, and starts it.
    node.succeed(["kubesolo-update", "rollback"])
    assert _boots_with(node)
    assert node.status().version == "0.1.0"
    assert _installed(node) == "0.3.0"


@scenario(tier="core", core_arch="aarch64")
def test_a_confirmed_release_installs_its_boot_loader(
    node: Node, releases: Releases, serve: Serve, tmp_path: Path
) -> None:
    _follows(node, releases, serve, tmp_path)


@scenario(arch="x86_64", firmware=Firmware.BIOS)
def test_with_bios_as_well(node: Node, releases: Releases, serve: Serve, tmp_path: Path) -> None:
    _follows(node, releases, serve, tmp_path)


@scenario()
def test_a_release_that_is_rolled_back_leaves_the_boot_loader(
    node: Node, releases: Releases, serve: Serve, tmp_path: Path
) -> None:
    """Its checks fail: nothing of it stays."""
    node.at(State.READY, slot="A")
    serve(_with_another_loader(releases, tmp_path)).stage()
    # It was not there when the baseline was taken, so it is held against the release.
    configure(
        node,
        healthcheck_deadline="3",
        auto_rollback_after="1",
        healthcheck_url=f"http://{node.host_address}:9/",
    )
    with node.expect_boots(2) as boots:
        node.reboot()
        ready = node.wait_ready()
    assert boots.slots == ["B", "A"]
    assert (ready.version, ready.slot) == ("0.1.0", "A")
    assert _installed(node) == "0.1.0"
    assert not _boots_with(node)


@scenario(arch="x86_64", log_writes=True)
def test_a_power_cut_at_any_write_of_it(
    node: Node,
    releases: Releases,
    serve: Serve,
    images: Mapping[str, ImageUnderTest],
    host_tools: HostTools,
    arch: Arch,
    tmp_path: Path,
) -> None:
    """What firmware and BIOS start is the old one or the new one, whole, after each sector."""
    node.boot()
    serve(_with_another_loader(releases, tmp_path, starts=False)).install()
    assert _installed(node) == "0.3.0"
    log = node.machine.storage.write_log
    assert log is not None
    node.target.quit()
    replay = Replay(images[arch].disk, node.machine.spec.disk_size_mib * MIB, tmp_path / "disk")
    old, new = releases.loader, tmp_path / "overlay" / IN_ROOT
    boot = (old / BIOS_BOOT).read_bytes()
    cores = {"0.1.0": (old / BIOS_CORE).read_bytes(), "0.3.0": (new / BIOS_CORE).read_bytes()}
    oracle = _Oracle(host_tools, replay.path, boot, cores)
    seen: dict[tuple[str, str], int] = {}

    def look(cut: Cut) -> None:
        found = oracle.look(str(cut))
        seen[found] = seen.get(found, 0) + 1

    replay.each(read_log(log), look, wanted=_before_the_slots)
    # Each state was passed through, and there is none beside them.
    assert set(seen) == {("0.1.0", "0.1.0"), ("0.1.0", "0.3.0"), ("0.3.0", "0.3.0")}, seen
    assert min(seen.values()) > 1, seen


def _before_the_slots(write: Write) -> bool:
    """The first sectors and the EFI partition; not the table, which a first boot writes."""
    return 34 * 512 <= write.offset < 257 * MIB or write.offset == 0


class _Oracle:
    """What a machine would start from a disk: of UEFI's files and of BIOS's sectors, whose."""

    def __init__(
        self, tools: HostTools, disk: Path, boot: bytes, cores: Mapping[str, bytes]
    ) -> None:
        self._tools = tools
        self._disk = disk
        self._partition = f"{disk}@@{MIB}"
        self._boot = boot
        self._cores = cores

    def _read(self, name: str, cut: str) -> bytes:
        try:
            return self._tools.run("mtype", "-i", self._partition, f"::{name}")
        except ToolError as error:
            raise AssertionError(f"{cut}: {name} cannot be read: {error.message}") from None

    def look(self, cut: str) -> tuple[str, str]:
        """Versions of both. Fails where one is not whole."""
        try:
            record = parse_record(self._read(RECORD, cut), cut)
        except DiskError as error:
            raise AssertionError(error.message) from None
        for name, digest in record.files.items():
            if name.startswith("EFI/"):
                found = hashlib.sha256(self._read(name, cut)).hexdigest()
                assert found == digest, f"{cut}: {name} is neither the old nor the new one"
        with open_disk(str(self._disk)) as disk:
            for version, core in self._cores.items():
                if is_installed(disk, self._boot, core):
                    return record.version, version
        raise AssertionError(f"{cut}: what BIOS starts is neither the old nor the new one")
