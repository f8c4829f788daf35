"""A damaged boot environment: the node boots, says so, and repairs it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.steps import (
    boot_environment,
    failed_for,
    read_data,
    write_boot_environment,
    write_data,
)


@dataclass(frozen=True, slots=True)
class Damage:
    """A shell command that damages the block, and what the boot loader finds and says of it."""

    shell: str
    found: str
    said: tuple[Pattern, ...] = ()


DAMAGE = {
    "missing": Damage("rm $env", "missing"),
    "empty": Damage(": > $env", "invalid", (Pattern.GRUB,)),
    "short": Damage("dd if=/dev/zero of=$env bs=100 count=1", "invalid", (Pattern.GRUB,)),
    "contradictory": Damage(
        r"printf '# GRUB Environment Block\nactive_slot=C\nboot_counter=9\nboot_success=2\n' > $env"
        " && truncate -s 1024 $env",
        "invalid",
    ),
}
GARBAGE = Damage("dd if=/dev/urandom of=$env bs=1024 count=1", "invalid", (Pattern.GRUB,))


def _repairs(node: Node, damage: Damage) -> None:
    """After ``damage`` a boot goes well, says what it found, and commits."""
    node.at(State.READY, slot="A")
    write_data(node, "kept")
    write_boot_environment(node, damage.shell)
    since = node.journal.cursor
    with node.expecting(*damage.said), node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready()
    node.wait_console(rf"kubesolo: environment unreadable \({damage.found}\)", since=since)
    assert boots.slots == ["A"]
    assert (ready.slot, ready.confirmed) == ("A", True)
    status = node.status()
    assert any("environment" in problem for problem in status.problems), status.problems
    assert read_data(node) == "kept"
    # The health check passed, so the slot is committed and the block is whole again.
    block = boot_environment(node)
    assert len(block) == 1024
    assert block.startswith(b"# GRUB Environment Block\n")


@scenario()
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_environment_still_boots(node: Node, damage: str) -> None:
    _repairs(node, DAMAGE[damage])


@scenario(tier="core", core_arch="x86_64")
def test_a_repaired_environment_is_one_like_any(node: Node) -> None:
    _repairs(node, GARBAGE)
    with node.expect_boots(1) as boots:
        node.reboot()
        node.wait_ready()
    assert boots.successes == [True]
    assert node.status().problems == []


def _set(node: Node, **variables: object) -> None:
    lines = "".join(f"{name}={value}\\n" for name, value in variables.items())
    write_boot_environment(
        node,
        f"printf '# GRUB Environment Block\\n{lines}' > /run/new && "
        "dd if=/dev/zero bs=1024 count=1 2> /dev/null | tr '\\0' '#' >> /run/new && "
        "dd if=/run/new of=$env bs=1024 count=1 conv=notrunc",
    )


@scenario(tier="core")
def test_used_up_tries_return_once_and_never_loop(node: Node) -> None:
    """Slot B has no tries left and slot A is the way back; later boots stay there."""
    node.at(State.READY, slot="A")
    _set(node, active_slot="B", boot_counter=0, boot_success=0)
    with node.expect_boots(1) as boots:
        node.reboot()
    assert boots.slots == ["A"]
    assert boots.rollbacks == ["A"]
    node.wait_ready()
    with node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready()
    assert boots.slots == ["A"]
    assert boots.rollbacks == []
    assert ready.confirmed


@scenario()
def test_both_slots_used_up_still_boots_what_has_a_kernel(node: Node) -> None:
    """Slot A is given up for slot B, which is empty: the boot loader comes back to slot A."""
    node.at(State.READY, slot="A")
    _set(node, active_slot="A", boot_counter=0, boot_success=0)
    with node.expecting(Pattern.GRUB), node.expect_boots(2) as boots:
        node.reboot()
        ready = node.wait_ready()
    assert boots.slots == ["B", "A"]
    assert boots.rollbacks == ["B"]
    failed_for(boots, "file `/vmlinuz' not found", "boot failed slot=B", times=1)
    assert ready.slot == "A"
    assert any("slot A was booted" in problem for problem in node.status().problems)
