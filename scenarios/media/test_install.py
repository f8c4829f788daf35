"""The installer of the ISO image: by a seed without a question, and by a person at the console."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.faults.http import WebServer
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Firmware
from harness.target.node import Node
from product.image.tools import HostTools
from scenarios.releases import Releases
from scenarios.steps import Update, offer

Machines = Callable[..., Node]
Seed = Callable[..., Path]
MEMORY_MIB = 1024
# From the medium's start to the disk's: writing and reading back, on an emulated machine.
INSTALL_SECONDS = 400
META = "instance-id: installed-1\n"


def user_data(install: str) -> dict[str, str]:
    """A seed that names the host, with the section ``install``."""
    return {
        "user-data": f"#cloud-config\nhostname: edge-7\ninstall:\n{install}",
        "meta-data": META,
    }


def wait_installed(node: Node, *, since: int = 0) -> None:
    """Wait until the installer is done; the reboot follows."""
    node.wait_console(r"kubesolo-install: done: /dev/vda", since=since, seconds=INSTALL_SECONDS)


def require_installed(node: Node) -> None:
    """It runs from its own disk, and is committed."""
    ready = node.wait_ready(seconds=INSTALL_SECONDS)
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    status = node.status()
    assert (status.boot.mode, status.boot.data) == ("normal", "persistent")


@pytest.fixture
def foreign_disk(tmp_path: Path, host_tools: HostTools) -> Path:
    """A disk of somebody else's: a partition with a file system."""
    path = tmp_path / "foreign.img"
    with path.open("wb") as stream:
        stream.truncate(64 << 20)
    script = "label: gpt\nstart=2048, size=65536, name=PHOTOS\n"
    host_tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=script.encode())
    return path


def install_and_update(
    node: Node, releases: Releases, webserver: Callable[[Path], WebServer]
) -> None:
    """From the medium to the disk by the seed; then the disk, its configuration, an update."""
    with node.expect_boots(1) as boots:
        node.power_on()
        wait_installed(node)
    require_installed(node)
    assert boots.slots == ["A"]
    assert node.succeed("hostname").text == "edge-7"
    # The node has the seed's files on its own disk, for when the seed is gone.
    read = "mkdir /tmp/esp && mount -t vfat -o ro /dev/vda1 /tmp/esp && cat /tmp/esp/kubesolo/*"
    found = node.succeed(read).text
    assert "hostname: edge-7" in found, found
    assert "instance-id: installed-1" in found, found
    node.succeed("umount /tmp/esp")
    server = webserver(releases.good.repository)
    offer(node, releases.good, server)
    updated = Update(node, releases.good, server).install()
    assert (updated.version, updated.slot, updated.confirmed) == ("0.2.0", "B", True)


@scenario(arch="x86_64", memory_mib=MEMORY_MIB, firmware=Firmware.BIOS)
def test_a_seed_installs_without_a_question_under_bios(
    machine_factory: Machines,
    iso: Path,
    seed: Seed,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    order = seed(user_data("  disk: {path: /dev/vda}\n  then: reboot\n"))
    node = machine_factory(image=None, cdrom=iso, seed=order)
    install_and_update(node, releases, webserver)


@scenario(memory_mib=MEMORY_MIB)
def test_a_seed_installs_without_a_question_under_uefi(
    machine_factory: Machines,
    iso: Path,
    seed: Seed,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    order = seed(user_data("  disk: {min_size: 500M, pick: largest}\n"))
    node = machine_factory(image=None, cdrom=iso, seed=order)
    install_and_update(node, releases, webserver)


@scenario(memory_mib=MEMORY_MIB)
def test_what_lies_on_a_disk_is_lost_only_if_told(
    machine_factory: Machines, iso: Path, seed: Seed, foreign_disk: Path
) -> None:
    order = seed(user_data("  disk: {path: /dev/vda}\n"))
    node = machine_factory(image=foreign_disk, cdrom=iso, seed=order)
    node.power_on()
    refused = r"error: /dev/vda is not empty: partitions PHOTOS; nothing was written"
    node.wait_console(refused, since=0, seconds=INSTALL_SECONDS)
    # A person may still decide. (The question itself ends no line.)
    node.wait_console(r" 1  /dev/vda .*\[partitions PHOTOS\]", since=0)
    node.target.channel.wait_up(node.deadline(INSTALL_SECONDS))
    table = "dd if=/dev/vda bs=512 skip=2 count=1 2> /dev/null | tr -d '\\0'"
    assert "PHOTOS" in node.succeed(table).text
    with node.expect_boots(1) as boots:
        node.start(["kubesolo-install", "--disk", "/dev/vda", "--wipe"], seconds=INSTALL_SECONDS)
        # It says so to whoever called it.
        node.wait_console("kubesolo: stage stop", since=0, seconds=INSTALL_SECONDS)
    assert boots.slots == ["A"]
    require_installed(node)


@scenario(memory_mib=MEMORY_MIB)
def test_a_person_chooses_a_disk_at_the_console(machine_factory: Machines, iso: Path) -> None:
    node = machine_factory(image=None, cdrom=iso)
    node.power_on()
    with node.expect(seconds=INSTALL_SECONDS, since=0) as console:
        console.expect(r"choose a disk")
        console.send("\x1b[B\r")
        console.expect(r"  1  /dev/vda .*\[empty\]")
        console.expect(r"Number of the disk, or q to leave: ")
        console.send("7\r")
        console.expect(r"'7' is none of 1 to 1")
        console.expect(r"Number of the disk, or q to leave: ")
        console.send("1\r")
        console.expect(r"Type /dev/vda to go on: ")
        console.send("/dev/vda\r")
    with node.expect_boots(1):
        wait_installed(node)
    require_installed(node)
