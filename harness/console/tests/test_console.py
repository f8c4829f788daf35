"""The console is recorded whole, and its lines are found however they arrive."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pexpect
import pytest

from harness.console.expect import ConsoleExpect
from harness.console.recorder import Recorder, clean
from harness.errors import GuestFailureError
from harness.journal.journal import Journal, Source
from harness.journal.patterns import Pattern, classify

STREAM = (
    b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: starting Boot0001\r\n"
    b"[    0.000000] Linux version 6.12\r\n"
    b"\x1b[1;32mkubesolo:\x1b[0m stage 20-data\r\n"
    b"caf\xc3\xa9 \xff\r\n"
)
LINES = [
    "BdsDxe: starting Boot0001",
    "[    0.000000] Linux version 6.12",
    "kubesolo: stage 20-data",
    "café \ufffd",
]


def console_lines(journal: Journal) -> list[str]:
    return [event.text for event in journal.events() if event.kind == "line" and event.text]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_lines_are_the_same_however_the_bytes_are_split(tmp_path: Path, size: int) -> None:
    journal = Journal()
    recorder = Recorder(tmp_path, journal)
    for start in range(0, len(STREAM), size):
        recorder.feed(STREAM[start : start + size])
    recorder.close()
    assert console_lines(journal) == LINES
    assert (tmp_path / "console.raw").read_bytes() == STREAM
    log = (tmp_path / "console.log").read_text().splitlines()
    assert [entry.partition("] ")[2] for entry in log if entry.partition("] ")[2]] == LINES
    assert all(re.match(r"\[ *\d+\.\d{3}\] ", entry) for entry in log)


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b"plain\r", ["plain"]),
        (b"", [""]),
        (b"\x1b[31mred\x1b[0m text", ["red text"]),
        (b"\x1b]0;title\x07shown", ["shown"]),
        (b"\x1b(B\x1b)0text", ["text"]),
        (b"\x1b[6nprompt # ", ["prompt #"]),
        (b"\x1b[4;2Hfirst entry\x1b[5;2Hsecond entry", ["first entry", "second entry"]),
        (b"tab\tkept\x08\x07", ["tab\tkept"]),
    ],
)
def test_control_sequences_are_removed(raw: bytes, texts: list[str]) -> None:
    assert clean(raw) == texts


def test_an_unfinished_line_is_recorded_at_the_end(tmp_path: Path) -> None:
    journal = Journal()
    recorder = Recorder(tmp_path, journal)
    recorder.feed(b"login: ")
    assert console_lines(journal) == []
    recorder.close()
    assert console_lines(journal) == ["login:"]


def test_a_line_without_end_does_not_grow_for_ever(tmp_path: Path) -> None:
    journal = Journal()
    recorder = Recorder(tmp_path, journal)
    for _ in range(40):
        recorder.feed(b"x" * 1000)
    assert len(console_lines(journal)) == 4
    recorder.close()


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("[ 3.1] Kernel panic - not syncing: VFS: Unable to mount root fs", Pattern.PANIC),
        ("[ 3.1] Kernel panic - not syncing: Attempted to kill init!", Pattern.INIT_EXITED),
        ("[ 9.9] kernel BUG at mm/slub.c:1!", Pattern.KERNEL_BUG),
        ("[ 9.9] BUG: kernel NULL pointer dereference", Pattern.KERNEL_BUG),
        ("[ 9.9] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", Pattern.SOFT_LOCKUP),
        ("[ 9.9] Oops: Oops: 0002 [#1] PREEMPT SMP", Pattern.OOPS),
        ("[ 9.9] Internal error: Oops: 96000004 [#1] SMP", Pattern.OOPS),
        ("[ 9.9] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", Pattern.RCU_STALL),
        ("[ 9.9] rcu: INFO: rcu_preempt self-detected stall on CPU", Pattern.RCU_STALL),
        ("[ 9.9] INFO: task sync:1 blocked for more than 120 seconds.", Pattern.HUNG_TASK),
        ("[ 9.9] Out of memory: Killed process 12 (python3)", Pattern.OOM_KILL),
        ("[ 9.9] SQUASHFS error: zstd decompression failed", Pattern.SQUASHFS),
        ("[ 9.9] EXT4-fs error (device vda4): ext4_lookup", Pattern.EXT4),
        ("[ 9.9] I/O error, dev vda, sector 12", Pattern.DISK_IO),
        ("error: file `/vmlinuz' not found.", Pattern.GRUB),
        ("error: ../../grub-core/fs/fshelp.c:257:file `/vmlinuz' not found.", Pattern.GRUB),
        ("error: you need to load the kernel first.", Pattern.GRUB),
        ("error: bad shim signature.", Pattern.GRUB),
        ("grub rescue>", Pattern.GRUB),
        ("BdsDxe: No bootable option or device was found.", Pattern.FIRMWARE),
    ],
)
def test_failures_are_recognised(line: str, pattern: Pattern) -> None:
    assert classify(line) is pattern


@pytest.mark.parametrize(
    "line",
    [
        "[ 0.1] Command line: panic=5 oops=panic kubesolo.slot=A",
        "[ 0.1] debug: unmapping init memory",
        "[ 0.1] EXT4-fs (vda4): mounted filesystem with ordered data mode",
        "[ 0.1] EXT4-fs (vda4): recovery complete",
        "error: the server cannot be reached",
        "kubesolo: rollback to slot=A",
        "kubesolo: environment unreadable",
        "GRUB loading.",
        "DEBUG: nothing",
    ],
)
def test_ordinary_lines_are_no_failures(line: str) -> None:
    assert classify(line) is None


def test_a_failure_split_over_reads_is_found(tmp_path: Path) -> None:
    journal = Journal()
    recorder = Recorder(tmp_path, journal)
    recorder.feed(b"[ 1.0] Kernel pan")
    recorder.feed(b"ic - not syncing: x\r\n")
    recorder.close()
    found = [event for event in journal.events() if event.kind == "failure"]
    assert [event.data["pattern"] for event in found] == ["PANIC"]


@pytest.fixture
def line_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


def test_expect_sees_the_past_from_its_position_and_the_future(
    tmp_path: Path, line_pair: tuple[socket.socket, socket.socket]
) -> None:
    recorder = Recorder(tmp_path, Journal())
    recorder.feed(b"old menu\r\n")
    position = recorder.position
    recorder.feed(b"new me")
    with ConsoleExpect(recorder, line_pair[0], since=position, timeout=10) as session:
        recorder.feed(b"nu\r\n")
        session.expect(rb"(\w+) menu")
        assert session.after == b"new menu"
        session.sendline("boot")
        assert line_pair[1].recv(100) == b"boot\r"
        with pytest.raises(pexpect.TIMEOUT):
            session.expect(b"never", timeout=0.05)
        recorder.end()
        with pytest.raises(pexpect.EOF):
            session.expect(b"never")
    recorder.feed(b"not listened to any more")
    recorder.close()
    for end in line_pair:
        end.close()


@pytest.mark.parametrize(("stamp", "believed"), [(0.5, True), (65.108352, False)])
def test_a_stall_of_a_clock_that_ran_ahead_is_a_remark(
    tmp_path: Path, stamp: float, believed: bool
) -> None:
    journal = Journal()
    recorder = Recorder(tmp_path, journal)
    journal.append(Source.HARNESS, "start")
    stall = f"[{stamp:12.6f}] rcu: INFO: rcu_preempt self-detected stall on CPU"
    recorder.feed(f"{stall}\n".encode())
    recorder.close()
    (failure,) = (event for event in journal.events() if event.kind == "failure")
    assert (failure.text, failure.data["pattern"]) == (stall, "RCU_STALL")
    if believed:
        assert failure.data["disbelieved"] == ""
        with pytest.raises(GuestFailureError, match="RCU_STALL"):
            journal.check("the end")
    else:
        assert failure.data["disbelieved"] == "the guest's clock had gained 65 s on the host's"
        journal.check("the end")
