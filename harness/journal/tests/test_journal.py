"""A wait loses no event and ends with the first thing that decides it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import (
    DeadlineError,
    GuestFailureError,
    MachineExitedError,
    MissingFailureError,
)
from harness.journal.journal import Event, Journal, Source
from harness.journal.patterns import Pattern

LONG = 20.0


def is_line(event: Event) -> bool:
    return event.kind == "line"


def say(journal: Journal, text: str) -> Event:
    return journal.append(Source.CONSOLE, "line", text)


def test_a_wait_sees_what_happened_since_its_cursor() -> None:
    journal = Journal()
    say(journal, "before")
    cursor = journal.cursor
    say(journal, "between")
    assert journal.wait(is_line, "a line", Deadline.after(LONG), since=cursor).text == "between"


def test_a_wait_without_a_cursor_ignores_the_past() -> None:
    journal = Journal()
    say(journal, "before")
    with pytest.raises(DeadlineError):
        journal.wait(is_line, "a line", Deadline.after(0.01))


def test_a_wait_is_woken_from_another_thread() -> None:
    journal = Journal()
    thread = threading.Timer(0.05, say, [journal, "late"])
    thread.start()
    assert journal.wait(is_line, "a line", Deadline.after(LONG)).text == "late"
    thread.join()


def test_no_event_of_many_threads_is_lost() -> None:
    journal = Journal()
    threads = [
        threading.Thread(target=lambda n=n: [say(journal, f"{n}-{i}") for i in range(300)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    position = 0
    seen: list[str] = []
    while len(seen) < 1200:
        event = journal.wait(is_line, "a line", Deadline.after(LONG), since=position)
        position = event.index + 1
        seen.append(event.text)
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(f"{n}-{i}" for n in range(4) for i in range(300))
    assert [event.index for event in journal.events()] == list(range(1200))


def test_a_panic_ends_a_wait_long_before_its_deadline() -> None:
    journal = Journal()
    journal.reproduce = "./noxw -s scenarios -- x"
    for number in range(30):
        say(journal, f"line {number}")
    journal.failure(Pattern.PANIC, "Kernel panic - not syncing: VFS")
    with journal.step("boot"), pytest.raises(GuestFailureError) as caught:
        journal.wait(is_line, "the prompt", Deadline.after(60))
    message = str(caught.value)
    for part in ("the prompt", "'boot'", "PANIC", "not syncing: VFS", "line 29", "x"):
        assert part in message
    assert "line 9\n" not in message  # the last 20 lines alone
    assert caught.value.hint == "run again: ./noxw -s scenarios -- x"


def test_a_failure_between_two_waits_ends_the_second_once() -> None:
    journal = Journal()
    cursor = journal.cursor
    journal.failure(Pattern.OOPS, "Oops: 0002")
    say(journal, "ready")
    with pytest.raises(GuestFailureError):
        journal.wait(is_line, "ready", Deadline.after(LONG), since=cursor)
    assert journal.wait(is_line, "ready", Deadline.after(LONG), since=cursor).text == "ready"


def test_what_came_before_the_failure_counts() -> None:
    journal = Journal()
    say(journal, "ready")
    journal.failure(Pattern.OOPS, "Oops: 0002")
    assert journal.wait(is_line, "ready", Deadline.after(LONG), since=0).text == "ready"
    with pytest.raises(GuestFailureError):
        journal.check("anything")


def test_only_the_named_failure_is_expected_and_only_in_its_scope() -> None:
    journal = Journal()
    with journal.expecting(Pattern.PANIC):
        journal.failure(Pattern.PANIC, "Kernel panic - not syncing")
        say(journal, "next boot")
    journal.wait(is_line, "the next boot", Deadline.after(LONG), since=0)
    with journal.tolerating(Pattern.PANIC):
        journal.failure(Pattern.EXT4, "EXT4-fs error")
        with pytest.raises(GuestFailureError, match="EXT4"):
            journal.check("the next boot")
    journal.failure(Pattern.PANIC, "Kernel panic - not syncing")
    with pytest.raises(GuestFailureError, match="PANIC"):
        journal.check("the next boot")


def test_a_failure_that_did_not_happen_ends_nothing_and_is_not_the_expected_one() -> None:
    journal = Journal()
    journal.failure(Pattern.RCU_STALL, "rcu: INFO: stall", disbelieved="the clock leapt")
    say(journal, "ready")
    assert journal.wait(is_line, "ready", Deadline.after(LONG), since=0).text == "ready"
    journal.check("the scenario's end")
    with (
        pytest.raises(MissingFailureError, match="expected RCU_STALL: no failure came"),
        journal.expecting(Pattern.RCU_STALL),
    ):
        journal.failure(Pattern.RCU_STALL, "rcu: INFO: stall", disbelieved="the clock leapt")


def test_an_expected_failure_that_does_not_come_is_missed() -> None:
    journal = Journal()
    journal.reproduce = "python -m pytest x"
    journal.failure(Pattern.PANIC, "Kernel panic - not syncing: before the scope")
    with pytest.raises(GuestFailureError):
        journal.check("the scope")
    say(journal, "the last line")
    with (
        pytest.raises(MissingFailureError, match="expected PANIC: no failure came") as caught,
        journal.expecting(Pattern.PANIC),
    ):
        pass
    assert "the last line" in str(caught.value)
    assert caught.value.hint == "run again: python -m pytest x"


def test_what_came_instead_of_an_expected_failure_is_named() -> None:
    journal = Journal()

    def fail() -> None:
        journal.failure(Pattern.PANIC, "Kernel panic - not syncing: VFS")
        journal.failure(Pattern.INIT_EXITED, "Attempted to kill init!")
        journal.failure(Pattern.INIT_EXITED, "Attempted to kill init!")
        journal.failure(Pattern.GRUB, "error: file `/vmlinuz' not found.")

    with (
        pytest.raises(MissingFailureError) as caught,
        journal.tolerating(Pattern.GRUB),
        journal.expecting(Pattern.PANIC, Pattern.INIT_EXITED, times=2),
    ):
        fail()
    message = str(caught.value)
    assert message.startswith(
        "expected PANIC, INIT_EXITED, 2 times each: PANIC 1 times, INIT_EXITED 2 times, GRUB 1"
    )
    assert "GRUB: error: file `/vmlinuz' not found." in message


def test_an_expected_failure_may_come_more_often_and_is_not_missed_after_an_error() -> None:
    journal = Journal()
    with journal.expecting(Pattern.PANIC):
        for _ in range(2):
            journal.failure(Pattern.PANIC, "Kernel panic - not syncing")
    with journal.tolerating(Pattern.PANIC):
        pass
    # The error that ended the scope says more.
    with pytest.raises(KeyError), journal.expecting(Pattern.PANIC):
        raise KeyError


def test_the_machines_end_ends_a_wait() -> None:
    journal = Journal()
    journal.append(Source.HARNESS, "start")
    threading.Timer(
        0.05, lambda: journal.append(Source.HARNESS, "exit", "QEMU 1 ended with status -9")
    ).start()
    with pytest.raises(MachineExitedError, match="status -9"):
        journal.wait(is_line, "a line", Deadline.after(60))


def test_a_dead_machine_is_not_waited_for_until_it_starts_again() -> None:
    journal = Journal()
    journal.append(Source.HARNESS, "exit", "gone")
    with pytest.raises(MachineExitedError):
        journal.wait(is_line, "a line", Deadline.after(60))
    journal.append(Source.HARNESS, "start")
    say(journal, "back")
    assert journal.wait(is_line, "a line", Deadline.after(LONG), since=0).text == "back"


def test_a_line_before_the_exit_is_still_found() -> None:
    journal = Journal()
    say(journal, "last words")
    journal.append(Source.HARNESS, "exit", "gone")
    assert journal.wait(is_line, "a line", Deadline.after(LONG), since=0).text == "last words"


def test_guest_seconds_are_those_between_start_and_exit() -> None:
    journal = Journal()
    assert journal.guest_seconds() == 0
    start = journal.append(Source.HARNESS, "start")
    end = journal.append(Source.HARNESS, "exit")
    assert journal.guest_seconds() == pytest.approx(end.time - start.time)


def test_the_processors_time_is_that_of_all_runs() -> None:
    journal = Journal()
    for seconds in (1.5, 2.25):
        journal.append(Source.HARNESS, "start")
        journal.append(Source.HARNESS, "exit", cpu_seconds=seconds)
    assert journal.cpu_seconds() == 3.75


def test_the_timeline_file_holds_every_event_in_order(tmp_path: Path) -> None:
    journal = Journal("node", "aarch64")
    with journal.step("outer"), journal.step("inner"):
        journal.append(Source.QMP, "event", "RESET", guest=True)
    journal.save(tmp_path / "timeline.json")
    document = json.loads((tmp_path / "timeline.json").read_text())
    assert (document["schema"], document["machine"], document["arch"]) == (1, "node", "aarch64")
    events = document["events"]
    assert [(e["kind"], e["text"], e["data"].get("phase")) for e in events] == [
        ("step", "outer", "begin"),
        ("step", "inner", "begin"),
        ("event", "RESET", None),
        ("step", "inner", "end"),
        ("step", "outer", "end"),
    ]
    assert [e["data"].get("depth") for e in events] == [0, 1, None, 1, 0]
    assert events[2]["data"] == {"guest": True}
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)


def test_an_end_that_the_next_start_follows_ends_no_wait() -> None:
    """As where a board's firmware boots anew."""
    journal = Journal()
    journal.append(Source.HARNESS, "exit", "QEMU 1 ended with status 0", again=True)
    threading.Timer(0.05, lambda: journal.append(Source.CONSOLE, "line", "booted")).start()
    event = journal.wait(lambda e: e.text == "booted", "the boot", Deadline.after(5))
    assert event.kind == "line"
