"""The shape of all faults: what the journal says of one, and that it has to happen."""

from __future__ import annotations

import pytest

from harness.abilities import Ability
from harness.deadline import Deadline
from harness.errors import DeadlineError, HarnessError
from harness.faults.fault import Fault, NeverFiredError
from harness.journal.journal import Journal, Source


class Counted(Fault):
    """Fires when the test says so."""

    ability = Ability.LINK

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, "a cable is gone")
        self.seen = 0
        self.armed = False

    def arm(self) -> None:
        self.armed = True

    def lift(self) -> None:
        self.armed = False

    def look(self) -> tuple[int, str]:
        return self.seen, f"{self.seen} carriers lost"


def told(journal: Journal) -> list[tuple[str, str]]:
    return [(e.kind, e.text) for e in journal.events() if e.source is Source.FAULT]


def test_a_fault_says_when_it_was_armed_fired_and_lifted() -> None:
    journal = Journal()
    with Counted(journal) as fault:
        assert not fault.fired
        fault.seen = 2
        assert fault.fired
        fault.seen = 3
    assert not fault.armed
    assert told(journal) == [
        ("armed", "link: a cable is gone"),
        ("fired", "link: a cable is gone: 2 carriers lost"),
        ("lifted", "link: a cable is gone"),
    ]
    last = journal.events()[-1]
    assert last.data == {"ability": "link", "count": 3}


def test_a_fault_that_never_fired_is_an_error_that_names_it() -> None:
    fault = Counted(Journal())
    with (
        pytest.raises(NeverFiredError, match="link: a cable is gone never fired: 0 carriers lost"),
        fault,
    ):
        pass
    assert not fault.armed


def test_one_that_shows_only_once_it_is_lifted_has_fired() -> None:
    class Late(Counted):
        def lift(self) -> None:
            super().lift()
            self.seen = 1

    with Late(Journal()) as fault:
        assert not fault.fired
    assert fault.count == 1


def test_the_scenarios_own_error_goes_first() -> None:
    class Broken(Counted):
        def lift(self) -> None:
            super().lift()
            raise HarnessError("it cannot be lifted")

    with pytest.raises(ValueError, match="the scenario's"), Broken(Journal()) as fault:
        raise ValueError("the scenario's")
    assert not fault.armed


def test_what_could_not_be_armed_is_lifted() -> None:
    class Stuck(Counted):
        def arm(self) -> None:
            super().arm()
            raise HarnessError("there is no cable")

    fault = Stuck(Journal())
    with pytest.raises(HarnessError, match="there is no cable"), fault:
        pass
    assert not fault.armed


def test_a_wait_for_a_fault_has_a_deadline() -> None:
    fault = Counted(Journal())
    with fault:
        with pytest.raises(DeadlineError, match="a cable is gone did not fire within 0 s"):
            fault.wait_fired(Deadline.after(0.3))
        fault.seen = 1
        fault.wait_fired(Deadline.after(0.3))
