"""A board's journal holds what its console said, in order, and each of its boots."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError, HarnessError, ObserverError, UnsupportedError
from harness.journal.boots import begins
from harness.journal.journal import Source
from harness.lab.bench import LabBench
from harness.lab.target import LabTarget
from harness.lab.tests.support import FakeBoard
from harness.profile import Profile
from harness.qemu.spec import MachineSpec
from harness.target.protocols import Bench, Target

KEY = paramiko.ECDSAKey.generate()
BOOT = b"loader: boot slot=A\r\n"


def provision(image: Path, folder: Path, key: str) -> Path:
    made = folder / "made"
    made.write_text(f"{image.name} for {key.split()[0]}")
    return made


PROFILE = Profile(
    name="any", ready=r"ready", boot=r"boot slot=(?P<slot>[AB])", boot_text="boot slot=",
    host_key=r"host key (?P<fingerprint>SHA256:\S+)", provision=provision,
)  # fmt: skip


@pytest.fixture
def board() -> FakeBoard:
    return FakeBoard()


@pytest.fixture
def target(board: FakeBoard, tmp_path: Path) -> Iterator[LabTarget]:
    image = tmp_path / "image"
    image.write_text("bytes")
    made = LabTarget(board, PROFILE, KEY, tmp_path / "node")
    made.flash(image)
    yield made
    made.close()


def soon() -> Deadline:
    return Deadline.after(10)


def test_it_is_a_target_and_its_bench_a_bench(target: LabTarget, board: FakeBoard) -> None:
    one: Target = target
    bench: Bench = LabBench(board, PROFILE)
    assert (one.disk, bench.host_address) == ("/dev/mmcblk0", "192.0.2.1")


def test_every_line_is_in_the_journal_in_order(target: LabTarget, board: FakeBoard) -> None:
    target.power_on()
    for piece in (b"first\r\nsec", b"ond\r\n", b"third\r\n"):
        board.line.put(piece)
    target.wait_console("third", soon(), since=0)
    lines = [e.text for e in target.journal.events() if e.source is Source.CONSOLE]
    assert lines == ["first", "second", "third"]
    assert board.done == ["flash bytes", "on"]


def test_a_boot_that_nobody_asked_for_is_a_reset_before_its_first_line(
    target: LabTarget, board: FakeBoard
) -> None:
    target.power_on()
    board.line.put(BOOT + b"up\r\n")
    target.wait_console("up", soon(), since=0)
    assert [e.kind for e in target.journal.events() if begins(e)] == ["start"]
    since = target.journal.cursor
    # The text may come in any pieces.
    board.line.put(b"loader: boot s")
    board.line.put(b"lot=B\r\nup\r\n")
    event = target.wait_reset("the guest", soon(), since)
    target.wait_console("slot=B", soon(), since=event.index)
    assert [e.text for e in target.journal.events() if begins(e)][1:] == ["RESET"]


def test_the_reset_button_counts_once(target: LabTarget, board: FakeBoard) -> None:
    target.power_on()
    board.line.put(BOOT)
    target.wait_console("slot=A", soon(), since=0)
    since = target.journal.cursor
    target.reset()
    board.line.put(BOOT + b"up\r\n")
    target.wait_console("up", soon(), since=since)
    assert sum(begins(event) for event in target.journal.events(since)) == 1


def test_what_is_typed_reaches_the_board(target: LabTarget, board: FakeBoard) -> None:
    target.power_on()
    with target.expect(10) as console:
        console.sendline("ls")
        board.line.put(b"a b c\r\n# ")
        console.expect("# ")
    assert board.typed == b"ls\r"


def test_a_line_that_is_no_longer_read_ends_each_wait(target: LabTarget, board: FakeBoard) -> None:
    target.power_on()
    board.line.put(OSError("the adapter was pulled out"))
    with pytest.raises(ObserverError, match="adapter was pulled out"):
        target.wait_console("anything", soon(), since=0)


def test_off_is_off(target: LabTarget, board: FakeBoard, tmp_path: Path) -> None:
    target.power_on()
    with pytest.raises(HarnessError, match="already on"):
        target.power_on()
    target.power_cut()
    assert board.done[-1] == "off"
    assert not target.running
    with pytest.raises(HarnessError, match="is off"):
        target.address(22)
    with pytest.raises(HarnessError, match="is off"):
        _ = target.channel
    target.close()
    events = json.loads((tmp_path / "node" / "timeline.json").read_text())["events"]
    assert {"start", "exit"} <= {event["kind"] for event in events}


def test_no_command_before_a_login_nor_without_the_host_key(target: LabTarget) -> None:
    target.power_on()
    with pytest.raises(ChannelError, match="not opened"):
        target.channel.exec(["true"], soon())
    with pytest.raises(ChannelError, match="has not said the server's host key"):
        target.channel.wait_up(Deadline.after(0.3))


def test_a_forwarded_board_has_no_other_port(target: LabTarget, board: FakeBoard) -> None:
    target.power_on()
    assert target.address(22) == "127.0.0.1:9"
    with pytest.raises(UnsupportedError, match="only port 22"):
        target.address(6443)


def test_one_board_is_one_node_and_only_what_it_is(board: FakeBoard, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.touch()
    spec = MachineSpec.model_validate(
        {"arch": "aarch64", "image": image, "watchdog_device": "i6300esb"}
    )
    bench = LabBench(board, PROFILE)
    with pytest.raises(UnsupportedError, match=r"bench-3 has no cpus 8, seed$"):
        bench.target(spec.model_copy(update={"seed": image, "cpus": 8}), tmp_path / "x", "x")
    first = bench.target(spec, tmp_path / "one", "one")
    assert board.done == ["flash disk.img for ecdsa-sha2-nistp256"]
    with pytest.raises(UnsupportedError, match="one board"):
        bench.target(spec, tmp_path / "two", "two")
    first.close()
    bench.target(spec, tmp_path / "three", "three").close()
