"""Secure Boot: the firmware starts only a signed boot loader, and that only a signed kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.manifest import KERNEL_NAME
from scenarios.releases import GOOD, Release, Releases
from scenarios.steps import Update, failed_for, read_data, write_data

Begin = Callable[..., Update]
Serve = Callable[..., Update]

# What Debian's kernels say of who built them, before they unpack anything: nothing reads it.
BUILDER = b"debian-kernel@"
# In the part of a program for UEFI that only DOS would run; its signature covers it.
DOS_TEXT = "This program cannot"


@pytest.fixture(scope="module")
def tampered(releases: Releases) -> Release:
    """The good release, signed as usual, with one byte of its kernel changed that nothing reads."""
    content = releases.slot(GOOD).kernel.read_bytes()
    assert BUILDER in content
    kernel = content.replace(BUILDER, BUILDER.capitalize(), 1)
    return releases.with_file("tampered", GOOD, KERNEL_NAME, kernel)


@scenario(secure_boot=True, tier="core", core_arch="x86_64")
def test_the_image_starts_where_secure_boot_is_enforced(node: Node) -> None:
    node.power_on()
    node.wait_console("kubesolo: boot slot=A", seconds=40, since=0)
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert node.status().secure_boot == "on"
    assert "Kernel is locked down from EFI Secure Boot" in node.succeed("dmesg").text
    assert node.status().problems == []


@scenario(secure_boot=True)
def test_an_update_is_judged_and_confirmed(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with node.expect_boots(1) as boots:
        ready = update.install()
    assert boots.slots == ["B"]
    assert boots.counters == [2]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert node.status().secure_boot == "on"
    assert node.status().environment.boot_success is True


@scenario(secure_boot=True)
def test_a_kernel_that_was_tampered_with_spends_its_tries(
    node: Node, tampered: Release, begin_after: Begin
) -> None:
    update = begin_after(Update.stage, tampered)
    write_data(node, "kept")
    with node.expecting(Pattern.GRUB, times=3), node.expect_boots(4) as boots:
        node.reboot()
    ready = node.wait_ready()
    failed_for(boots, "bad shim signature", "kubesolo: boot failed slot=B")
    assert boots.slots == ["B", "B", "B", "A"]
    assert boots.counters[:3] == [2, 1, 0]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    said = node.status().update.last_error
    assert said == f"rolled back: 3 failed boots of {update.release.version}"
    assert read_data(node) == "kept"


def _tamper_with_grub(node: Node) -> None:
    """Change a byte of GRUB that nothing reads, then unmount cleanly."""
    node.succeed(
        f"mkdir -p /run/look && mount -t vfat {node.partition(1)} /run/look && "
        "for grub in /run/look/EFI/BOOT/grub*.efi; do "
        f"grep -q '{DOS_TEXT}' $grub && sed -i 's/{DOS_TEXT}/{DOS_TEXT.lower()}/' $grub || exit; "
        "done && umount /run/look && sync"
    )


@scenario(secure_boot=True)
def test_a_boot_loader_that_was_tampered_with_does_not_start(node: Node) -> None:
    node.at(State.READY, slot="A")
    _tamper_with_grub(node)
    position = node.target.console.position
    with node.expect_boots(0) as boots:
        node.reboot()
    # The shim draws a box and waits for a key; then an owner may enrol one.
    terminal = node.expect(seconds=60, since=position)
    terminal.expect(r"Verification failed: \(0x1A\) Security Violation")
    terminal.send("\r")
    terminal.expect("MOK management")
    assert boots.slots == []


@scenario()
def test_without_secure_boot_the_same_bytes_start(
    node: Node, tampered: Release, serve: Serve
) -> None:
    """Boot loader and kernel of the scenarios above are refused for their signatures alone."""
    node.at(State.READY, slot="A")
    assert node.status().secure_boot == "unsupported"
    _tamper_with_grub(node)
    with node.expect_boots(1) as boots:
        ready = serve(tampered).install()
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
