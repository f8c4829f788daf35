"""The harness's promises, kept with the image under test."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import ChannelError, CommandError, GuestFailureError, HarnessError
from harness.faults.clock import set_clock
from harness.faults.link import set_link
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
    nodes: NewNodes,
) -> None:
    boots, random = [], []
    for node in nodes("one", "two"):
        ready = node.at(State.READY)
        boots.append(node.succeed(IDENTITY).text)
        random.append(node.succeed(RANDOM).text)
        assert abs(float(node.succeed("date +%s").text) - time.time()) < 5
        assert ready.slot == "A"
        assert ready.confirmed
        node.machine.power_cut()
    assert boots[0] == boots[1]
    assert random[0] != random[1]


@scenario(backend={"qemu"})
def test_a_panic_ends_a_wait_at_once_and_is_allowed_where_it_is_expected(node: Node) -> None:
    node.at(State.READY)
    assert node.boots_begun == 1
    begun = time.monotonic()
    with pytest.raises(GuestFailureError, match="PANIC") as caught:
        node.run("echo c > /proc/sysrq-trigger", seconds=300)
    assert time.monotonic() - begun < 60
    assert "run again: ./noxw -s scenarios -- 'harness/target/" in str(caught.value)
    # It reboots by itself.
    with node.expect_boots(1) as boots:
        pass
    assert boots.slots == ["A"]
    node.wait_ready()
    with node.expecting(Pattern.PANIC), node.expect_boots(1) as boots:
        node.start("echo c > /proc/sysrq-trigger")
    assert boots.slots == ["A"]
    node.wait_ready()
    assert node.succeed("true").exit == 0
    assert node.boots_begun == 3


@scenario(backend={"qemu"})
def test_a_failure_after_the_last_wait_fails_the_scenario(node: Node, session: Session) -> None:
    node.at(State.READY)
    line = "<0>Kernel panic - not syncing: as told by a test"
    node.start(f"echo '{line}' > /dev/kmsg; busybox poweroff -nf")
    node.machine.wait_off(node.machine.deadline(60))
    with pytest.raises(GuestFailureError, match=r"the scenario's end: PANIC: .*told by a test"):
        session.end()
    session.end()  # It is said once.


@scenario(backend={"qemu"})
def test_a_reboot_is_another_boot_with_the_channel_open_again(node: Node) -> None:
    node.at(State.READY)
    before = node.succeed(IDENTITY).text
    with node.expect_boots(1) as boots:
        node.reboot()
    with pytest.raises(ChannelError, match="not opened"):
        node.run("true")
    assert node.wait_ready().slot == boots.slots[0]
    assert node.succeed(IDENTITY).text != before


SECOND_CARD = ("-netdev", "user,id=net1", "-device", "virtio-net-pci,netdev=net1,romfile=")


@scenario(backend={"qemu"}, extra=SECOND_CARD)
def test_the_network_cable(node: Node) -> None:
    """Whatever other interfaces there are, whose carrier stays: here a card, with pods a bridge."""
    node.boot()
    node.succeed("for i in /sys/class/net/*; do ip link set ${i##*/} up || exit; done")
    set_link(node.machine, up=False)
    set_link(node.machine, up=True)
    fired = [event.text for event in node.journal.events() if event.source is Source.FAULT]
    assert fired == ["network link down", "network link up"]


# Answers one connection, on every address.
GREET = """
import socket
with socket.create_server(("", 8123)) as server:
    server.accept()[0].sendall(b"hello")
"""


def greeting(node: Node) -> bytes:
    """What a server on the node says to this host."""
    serving = node.start(["python3", "-c", GREET])
    node.succeed("until grep -q '00000000:1FBB ' /proc/net/tcp; do sleep 0.1; done")
    host, _, port = node.address(8123).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        said = connection.recv(100)
    serving.wait(node.machine.deadline(60))
    return said


@scenario(backend={"qemu"})
def test_a_power_cut_loses_what_was_not_flushed_and_nothing_else(node: Node) -> None:
    """What the node serves is reached from the host, before and after."""
    node.at(State.READY)
    assert greeting(node) == b"hello"
    known = node.address(8123)
    assert node.address(8123) == known
    # By itself ext4 writes all every five seconds, which a slow host may take until the cut.
    node.succeed("mount -o remount,commit=600 /mnt/data")
    node.succeed("echo kept > /var/lib/kubesolo/flushed && sync")
    node.succeed("echo lost > /var/lib/kubesolo/cached")
    node.power_cut()
    assert not node.machine.running
    assert node.journal.last(lambda event: event.source is Source.FAULT) is not None
    with pytest.raises(HarnessError, match="is off"):
        node.address(8123)
    with node.expect_boots(1) as boots:
        node.boot()
    assert len(boots) == 1
    assert node.succeed("cat /var/lib/kubesolo/flushed").text == "kept"
    assert node.run("cat /var/lib/kubesolo/cached").text != "lost"
    assert greeting(node) == b"hello"


@scenario(backend={"qemu"})
def test_the_clock(node: Node) -> None:
    node.at(State.READY)
    set_clock(node.machine, "2001-02-03 04:05:06")
    assert node.succeed("date -u +%Y").text == "2001"


@scenario(backend={"qemu"})
def test_commands_say_what_they_did(node: Node) -> None:
    node.at(State.READY)
    assert node.succeed(["echo", "a b"]).text == "a b"
    assert node.fail("exit 3", exit=3).exit == 3
    with pytest.raises(CommandError, match=r"(?s)exited with 4.*reason"):
        node.succeed("echo reason >&2; exit 4")
    with pytest.raises(CommandError, match="expected exit status 5"):
        node.fail("exit 6", exit=5)
    with pytest.raises(CommandError, match="expected a failure"):
        node.fail("true")
    node.put("content\n", "/run/file", mode=0o640)
    assert node.get("/run/file") == b"content\n"
    assert node.succeed("stat -c %a /run/file").text == "640"


@scenario(backend={"qemu"}, smbios=())
def test_a_machine_that_does_not_offer_the_channel_gets_none(node: Node) -> None:
    node.power_on()
    node.wait_console(r"kubesolo-update: ready", seconds=120, since=0)
    assert not node.machine.channel.up


@scenario(backend={"qemu"})
def test_evidence_lies_in_the_artefacts(node: Node) -> None:
    node.at(State.READY)
    node.run("true")
    directory: Path = node.machine.artefacts
    for name in ("console.log", "console.raw", "qmp.log", "command"):
        assert (directory / name).exists()
    assert "migrate-incoming" in (directory / "qmp.log").read_text()
