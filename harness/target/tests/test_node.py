"""The harness's promises, kept with the image under test."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import ChannelError, CommandError, GuestFailureError, HarnessError
from harness.faults.clock import ClockJump
from harness.faults.link import LinkDown
from harness.journal.journal import Source
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from harness.target.session import Session

NewNodes = Callable[..., list[Node]]

IDENTITY = "cat /proc/sys/kernel/random/boot_id"
RANDOM = "head -c 16 /dev/urandom | od -An -tx1"


@scenario(backend={"qemu"})
def test_forks_are_restored_and_yet_have_a_time_and_randomness_of_their_own(
    harness_nodes: NewNodes,
) -> None:
    boots, random = [], []
    for harness_node in harness_nodes("one", "two"):
        ready = harness_node.at(State.READY)
        boots.append(harness_node.succeed(IDENTITY).text)
        random.append(harness_node.succeed(RANDOM).text)
        assert abs(float(harness_node.succeed("date +%s").text) - time.time()) < 5
        assert ready.slot == "A"
        assert ready.confirmed
        harness_node.machine.power_cut()
    assert boots[0] == boots[1]
    assert random[0] != random[1]


@scenario(backend={"qemu"})
def test_a_panic_ends_a_wait_and_is_allowed_where_it_is_expected(harness_node: Node) -> None:
    harness_node.at(State.READY)
    assert harness_node.boots_begun == 1
    begun = time.monotonic()
    with pytest.raises(GuestFailureError, match="PANIC") as caught:
        harness_node.run("echo c > /proc/sysrq-trigger", seconds=300)
    assert time.monotonic() - begun < 60
    assert "run again: ./noxw -s scenarios -- 'harness/target/" in str(caught.value)
    # It reboots by itself.
    with harness_node.expect_boots(1) as boots:
        pass
    assert boots.slots == ["A"]
    harness_node.wait_ready()
    with harness_node.expecting(Pattern.PANIC), harness_node.expect_boots(1) as boots:
        harness_node.start("echo c > /proc/sysrq-trigger")
    assert boots.slots == ["A"]
    harness_node.wait_ready()
    assert harness_node.succeed("true").exit == 0
    assert harness_node.boots_begun == 3


@scenario(backend={"qemu"})
def test_a_failure_after_the_last_wait_fails_the_scenario(
    harness_node: Node, harness_session: Session
) -> None:
    harness_node.at(State.READY)
    line = "<0>Kernel panic - not syncing: as told by a test"
    harness_node.start(f"echo '{line}' > /dev/kmsg; busybox poweroff -nf")
    harness_node.machine.wait_off(harness_node.machine.deadline(60))
    with pytest.raises(GuestFailureError, match=r"the scenario's end: PANIC: .*told by a test"):
        harness_session.end()
    harness_session.end()  # It is said once.


@scenario(backend={"qemu"})
def test_a_reboot_is_another_boot_with_the_channel_open_again(harness_node: Node) -> None:
    harness_node.at(State.READY)
    before = harness_node.succeed(IDENTITY).text
    with harness_node.expect_boots(1) as boots:
        harness_node.reboot()
    with pytest.raises(ChannelError, match="not opened"):
        harness_node.run("true")
    assert harness_node.wait_ready().slot == boots.slots[0]
    assert harness_node.succeed(IDENTITY).text != before


SECOND_CARD = ("-netdev", "user,id=net1", "-device", "virtio-net-pci,netdev=net1,romfile=")


@scenario(backend={"qemu"}, extra=SECOND_CARD)
def test_the_network_cable(harness_node: Node) -> None:
    """Whatever other interfaces there are, whose carrier stays: here a card, with pods a bridge."""
    harness_node.boot()
    harness_node.succeed("for i in /sys/class/net/*; do ip link set ${i##*/} up || exit; done")
    with LinkDown(harness_node.machine) as fault:
        assert fault.fired
    said = [event.kind for event in harness_node.journal.events() if event.source is Source.FAULT]
    assert said == ["armed", "fired", "lifted"]


# Answers one connection, on every address.
GREET = """
import socket
with socket.create_server(("", 8123)) as server:
    server.accept()[0].sendall(b"hello")
"""


def greeting(harness_node: Node) -> bytes:
    """What a server on the node says to this host."""
    serving = harness_node.start(["python3", "-c", GREET])
    harness_node.succeed("until grep -q '00000000:1FBB ' /proc/net/tcp; do sleep 0.1; done")
    host, _, port = harness_node.address(8123).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        said = connection.recv(100)
    serving.wait(harness_node.machine.deadline(60))
    return said


@scenario(backend={"qemu"})
def test_a_power_cut_loses_what_was_not_flushed_and_nothing_else(harness_node: Node) -> None:
    """What the node serves is reached from the host, before and after."""
    harness_node.at(State.READY)
    assert greeting(harness_node) == b"hello"
    known = harness_node.address(8123)
    assert harness_node.address(8123) == known
    # By itself ext4 writes all every five seconds, which a slow host may take until the cut.
    harness_node.succeed("mount -o remount,commit=600 /mnt/data")
    harness_node.succeed("echo kept > /var/lib/kubesolo/flushed && sync")
    harness_node.succeed("echo lost > /var/lib/kubesolo/cached")
    harness_node.power_cut()
    assert not harness_node.machine.running
    assert harness_node.journal.last(lambda event: event.source is Source.FAULT) is not None
    with pytest.raises(HarnessError, match="is off"):
        harness_node.address(8123)
    with harness_node.expect_boots(1) as boots:
        harness_node.boot()
    assert len(boots) == 1
    assert harness_node.succeed("cat /var/lib/kubesolo/flushed").text == "kept"
    assert harness_node.run("cat /var/lib/kubesolo/cached").text != "lost"
    assert greeting(harness_node) == b"hello"


@scenario(backend={"qemu"})
def test_the_clock(harness_node: Node) -> None:
    harness_node.at(State.READY)
    right = time.time()
    for days in (400, -400):
        with ClockJump(harness_node.target, days * 86400):
            shown = float(harness_node.succeed("date +%s").text)
            assert abs(shown - right - days * 86400) < 60
        assert abs(float(harness_node.succeed("date +%s").text) - time.time()) < 60


@scenario(backend={"qemu"})
def test_commands_say_what_they_did(harness_node: Node) -> None:
    harness_node.at(State.READY)
    assert harness_node.succeed(["echo", "a b"]).text == "a b"
    assert harness_node.fail("exit 3", exit=3).exit == 3
    with pytest.raises(CommandError, match=r"(?s)exited with 4.*reason"):
        harness_node.succeed("echo reason >&2; exit 4")
    with pytest.raises(CommandError, match="expected exit status 5"):
        harness_node.fail("exit 6", exit=5)
    with pytest.raises(CommandError, match="expected a failure"):
        harness_node.fail("true")
    harness_node.put("content\n", "/run/file", mode=0o640)
    assert harness_node.get("/run/file") == b"content\n"
    assert harness_node.succeed("stat -c %a /run/file").text == "640"


@scenario(backend={"qemu"}, smbios=())
def test_a_machine_that_does_not_offer_the_channel_gets_none(harness_node: Node) -> None:
    harness_node.power_on()
    harness_node.wait_console(r"kubesolo-update: ready", seconds=120, since=0)
    assert not harness_node.machine.channel.up


@scenario(backend={"qemu"})
def test_evidence_lies_in_the_artefacts(harness_node: Node) -> None:
    harness_node.at(State.READY)
    harness_node.run("true")
    directory: Path = harness_node.machine.artefacts
    for name in ("console.log", "console.raw", "qmp.log", "command"):
        assert (directory / name).exists()
    assert "migrate-incoming" in (directory / "qmp.log").read_text()
