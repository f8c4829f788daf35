"""What the console tells about boots, and the documents that scenarios read."""

from __future__ import annotations

import pytest

from harness.journal.boots import Boots, Ready
from harness.journal.journal import Journal, Source
from harness.journal.patterns import Pattern
from harness.profile import LINUX
from harness.target.session import directory_name
from harness.target.view import View
from scenarios.profile import KUBESOLO


def test_boots_and_rollbacks_are_read_in_order() -> None:
    journal = Journal()
    for text in (
        "kubesolo: boot slot=B counter=2 success=0",
        "kubesolo: stage 00-mount",
        "  kubesolo: boot slot=B counter=1 success=0",
        "kubesolo: rollback to slot=A",
        "kubesolo: boot slot=A counter=0 success=1",
        "kubesolo: boot slot=C counter=0 success=1",
    ):
        journal.append(Source.CONSOLE, "line", text)
    journal.append(Source.HARNESS, "note", "kubesolo: boot slot=A counter=0 success=1")
    boots = Boots(journal.events, KUBESOLO)
    assert boots.slots == ["B", "B", "A"]
    assert boots.counters == [2, 1, 0]
    assert boots.successes == [False, False, True]
    assert boots.rollbacks == ["A"]
    assert len(boots) == 3
    journal.append(Source.CONSOLE, "line", "kubesolo: boot slot=A counter=0 success=1")
    assert boots.slots == ["B", "B", "A", "A"]


def test_each_boot_has_the_causes_of_its_own_failure() -> None:
    journal = Journal()
    boots = Boots(journal.events, KUBESOLO)
    journal.append(Source.CONSOLE, "line", "kubesolo: boot failed: before the first decision")
    with journal.tolerating(Pattern.INIT_EXITED):
        journal.append(Source.CONSOLE, "line", "kubesolo: boot slot=B counter=2 success=0")
        journal.append(Source.CONSOLE, "line", "[ 3.1] Attempted to kill init!")
        journal.failure(Pattern.INIT_EXITED, "[ 3.1] Attempted to kill init!")
        journal.failure(Pattern.RCU_STALL, "rcu: INFO: stall", disbelieved="the clock leapt")
    for text in (
        "kubesolo: boot slot=B counter=1 success=0",
        "kubesolo: stage initramfs slot=B confirmed=0",
        "kubesolo: boot slot=B counter=0 success=0",
        "kubesolo-update: unhealthy version=1 slot=B cause=health failures=1 reason=disk_writable",
        "kubesolo: the agent ended without a verdict (1): this try is given up",
        "kubesolo: rollback to slot=A",
        "kubesolo: boot slot=A counter=0 success=1",
        "kubesolo-update: rolled back version=1 reason=rolled back: 3 failed boots of 1",
    ):
        if "counter=0 success=0" in text:
            journal.append(Source.QMP, "event", "WATCHDOG", action="reset")
            journal.append(Source.QMP, "event", "RESET", guest=True)
        journal.append(Source.CONSOLE, "line", text)
    assert boots.causes == [
        ["[ 3.1] Attempted to kill init!"],
        ["WATCHDOG"],
        [
            "kubesolo-update: unhealthy version=1 slot=B cause=health failures=1 "
            "reason=disk_writable",
            "kubesolo: the agent ended without a verdict (1): this try is given up",
        ],
        [],
    ]
    assert boots.saying(r"kubesolo: stage init") == [False, True, False, False]


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        (
            "kubesolo-update: ready version=0.1.0 slot=A confirmed=1",
            Ready("0.1.0", "A", True),
        ),
        (
            "[  9.1] kubesolo-update: ready version=0.2.0-rc1 slot=B confirmed=0",
            Ready("0.2.0-rc1", "B", False),
        ),
        ("kubesolo-update: unhealthy version=0.1.0 slot=A", None),
        ("kubesolo-update: ready", None),
    ],
)
def test_the_ready_line(text: str, ready: Ready | None) -> None:
    found = Ready.parse(text, KUBESOLO.ready)
    assert found == ready
    assert found is None or Ready.parse(str(found), KUBESOLO.ready) == ready


def test_without_a_boot_line_each_start_and_reset_is_a_boot() -> None:
    journal = Journal()
    boots = Boots(journal.events, LINUX)
    journal.append(Source.HARNESS, "start")
    journal.append(Source.CONSOLE, "line", "kubesolo: boot slot=B counter=2 success=0")
    journal.append(Source.QMP, "event", "RESET", guest=True)
    journal.append(Source.HARNESS, "restored")
    assert len(boots) == 3
    assert boots.slots == ["", "", ""]
    assert boots.successes == [True, True, True]


def test_what_a_ready_line_does_not_say_is_empty() -> None:
    assert Ready.parse("up", "^up$") == Ready("", "", True)
    assert Ready.parse("up at last", "^up$") is None
    assert Ready.parse("up", None) is None


def test_a_document_reads_like_a_sentence() -> None:
    view = View.parse('{"update": {"phase": "idle", "slots": [{"slot": "A"}]}, "n": null}')
    assert view.update.phase == "idle"
    assert view.update.slots[0].slot == "A"
    assert view["update"]["phase"] == "idle"
    assert view.n is None
    assert "update" in view
    assert "other" not in view
    assert view.update == {"phase": "idle", "slots": [{"slot": "A"}]}
    assert list(view) == ["update", "n"]


def test_a_missing_key_names_those_there_are() -> None:
    view = View.parse('{"phase": "idle"}')
    with pytest.raises(AttributeError, match=r"no 'fase' among \['phase'\]"):
        _ = view.fase
    with pytest.raises(KeyError, match="phase"):
        view["fase"]


@pytest.mark.parametrize("text", ["[]", "1", "{", ""])
def test_anything_but_an_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        View.parse(text)


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("scenarios/boot/test_a.py::test_b[x86_64]", "scenarios-boot-test_a-test_b[x86_64]"),
        ("test_a.py::test_b[a b/c-aarch64]", "test_a-test_b[a-b-c-aarch64]"),
    ],
)
def test_a_test_has_a_directory_of_its_own(identity: str, name: str) -> None:
    assert directory_name(identity) == name
