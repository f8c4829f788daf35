"""A damaged boot environment: the node boots, says so, and repairs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.agent.tests.support_environments import samples
from scenarios.releases import Releases
from scenarios.steps import (
    Update,
    boot_environment,
    failed_for,
    put_boot_environment,
    read_data,
    write_boot_environment,
    write_data,
)

Begin = Callable[..., Update]


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
    failed_for(boots, "file `/kernel.env' not found", "boot failed slot=B", times=1)
    assert ready.slot == "A"
    assert any("slot A was booted" in problem for problem in node.status().problems)


# Blocks of the table that GRUB and the agent could take for different things; a unit test gives all
# of them to grub-editenv.
ODD = (
    "padded with zeros",
    "1025 bytes, the last a newline",
    "2048 bytes",
    "values beyond 1024 bytes",
    "a Latin-1 byte in a foreign value",
    "a blank in a name",
    "a zero byte in a name",
)
UNREADABLE = "a line without an equals sign before one of ours"


@scenario()
def test_the_agent_finds_in_a_block_what_the_boot_loader_finds(node: Node) -> None:
    table = samples()
    node.at(State.READY, slot="A")
    for name in ODD:
        sample = table[name]
        put_boot_environment(node, sample.data)
        with node.expect_boots(1) as boots:
            node.reboot()
            ready = node.wait_ready()
        (boot,) = boots.all
        status = node.status()
        said = status.environment
        found = (said.active_slot, said.boot_counter, said.boot_success)
        assert (boot.slot, boot.counter, boot.success) == found == ("A", 2, True), name
        assert (ready.confirmed, status.confirmed) == (True, True), name
        assert any("next write repairs it" in text for text in status.problems) is sample.odd, name
        assert boot_environment(node) == sample.data, name
    put_boot_environment(node, table[UNREADABLE].data)
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    node.wait_console(r"kubesolo: environment unreadable \(invalid\)", since=since)
    problems = node.status().problems
    assert any("the boot environment has active_slot=" in text for text in problems), problems


@scenario()
def test_a_foreign_latin_1_variable_leaves_a_trial_its_three_tries(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    begin_after(
        Update.stage, releases.read_only_data, healthcheck_deadline="3", auto_rollback_after="0"
    )
    block = boot_environment(node).rstrip(b"#") + b"title=K\xf6ln\n"
    put_boot_environment(node, block.ljust(1024, b"#"))
    with node.expect_boots(4) as boots:
        node.reboot()
    ready = node.wait_ready()
    failed_for(boots, r"unhealthy version=\S+ slot=B .* reason=disk_writable: ")
    assert boots.slots == ["B", "B", "B", "A"]
    assert boots.counters[:3] == [2, 1, 0]
    assert boots.rollbacks == ["A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert b"\ntitle=K\xf6ln\n" in boot_environment(node)


@scenario()
def test_a_block_that_cannot_be_saved_delays_a_trial_and_does_not_end_it(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    """GRUB reads a block that is padded with zeros, and refuses to write it: it boots the slot that
    is known to work. The agent repairs the block, and the next boot is the trial's first."""
    begin_after(Update.stage, releases.good)
    whole = boot_environment(node)
    put_boot_environment(node, whole.rstrip(b"#").ljust(1024, b"\0"))
    with node.tolerating(Pattern.GRUB), node.expect_boots(1) as boots:
        since = node.journal.cursor
        node.reboot()
        node.wait_ready()
    node.wait_console("cannot save the environment, not trying slot=B", since=since)
    assert boots.slots == ["A"]
    assert boot_environment(node) == whole
    with node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready()
    assert (boots.slots, boots.counters) == (["B"], [2])
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
