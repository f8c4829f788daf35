"""The installer of the ISO image: by a seed without a question, and by a person at the console."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.faults.http import WebServer
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Firmware
from harness.target.node import Node
from scenarios.releases import Releases
from scenarios.steps import Update, offer

Machines = Callable[..., Node]
Seed = Callable[..., Path]
MEMORY_MIB = 1024
# Writing and reading back, on an emulated machine.
INSTALL_SECONDS = 300
NO_ORDER = {"user-data": "#cloud-config\nhostname: edge-7\n", "meta-data": "instance-id: 0\n"}
META = "instance-id: installed-1\n"


def user_data(install: str) -> dict[str, str]:
    """A seed that names the host, with the section ``install``."""
    return {
        "user-data": f"#cloud-config\nhostname: edge-7\ninstall:\n{install}",
        "meta-data": META,
    }


def install(node: Node, *, since: int = 0) -> None:
    """Wait until the installer is done, and for the boot of the disk."""
    node.wait_console(r"kubesolo-install: done: /dev/vda", since=since, seconds=INSTALL_SECONDS)


@scenario(arch="x86_64", memory_mib=MEMORY_MIB, firmware=Firmware.BIOS)
def test_a_seed_installs_without_a_question_and_updates_follow(
    machine_factory: Machines,
    iso: Path,
    seed: Seed,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    order = "  disk: {path: /dev/vda}\n  then: reboot\n"
    node = machine_factory(image=None, cdrom=iso, seed=seed(user_data(order)))
    with node.expect_boots(1) as boots:
        node.power_on()
        install(node)
    ready = node.wait_ready()
    assert boots.slots == ["A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    status = node.status()
    assert (status.boot.mode, status.boot.data) == ("normal", "persistent")
    assert node.succeed("hostname").stdout.strip() == b"edge-7"
    server = webserver(releases.good.repository)
    offer(node, releases.good, server)
    updated = Update(node, releases.good, server).install()
    assert (updated.version, updated.slot, updated.confirmed) == ("0.2.0", "B", True)


@scenario(memory_mib=MEMORY_MIB)
def test_what_lies_on_a_disk_is_lost_only_if_told(
    machine_factory: Machines, iso: Path, seed: Seed
) -> None:
    node = machine_factory(image=None, cdrom=iso, seed=seed(NO_ORDER))
    node.boot()
    # The start of a partition of somebody else's, behind a table that nobody here knows.
    node.succeed("dd if=/dev/urandom of=/dev/vda bs=4k count=512 2>&1 && sync")
    before = node.succeed("sha256sum < /dev/vda", seconds=INSTALL_SECONDS).stdout
    order = "  disk: {path: /dev/vda}\n"
    node.power_cut()
    node.machine.insert_seed(seed(user_data(order)))
    since = node.journal.cursor
    node.power_on()
    refused = r"error: /dev/vda is not empty: something unknown; nothing was written"
    node.wait_console(refused, since=since, seconds=INSTALL_SECONDS)
    node.wait_ready()
    assert node.succeed("sha256sum < /dev/vda", seconds=INSTALL_SECONDS).stdout == before
    node.power_cut()
    node.machine.insert_seed(seed(user_data(order + "  wipe: yes\n")))
    since = node.journal.cursor
    node.power_on()
    install(node, since=since)
    assert node.wait_ready().slot == "A"
    assert node.status().boot.mode == "normal"


@scenario(arch="x86_64", memory_mib=MEMORY_MIB)
def test_a_person_chooses_a_disk_at_the_console(machine_factory: Machines, iso: Path) -> None:
    node = machine_factory(image=None, cdrom=iso)
    node.power_on()
    with node.expect(seconds=INSTALL_SECONDS, since=0) as console:
        console.expect(r"choose a disk")
        console.send("\x1b[B\r")
        console.expect(r"  1  /dev/vda .*\[empty\]")
        console.expect(r"Number of the disk, or q to leave: ")
        console.send("1\r")
        console.expect(r"Type /dev/vda to go on: ")
        console.send("/dev/vda\r")
    install(node, since=0)
    node.wait_ready()
    assert node.status().boot.mode == "normal"
