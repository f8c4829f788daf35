"""Which failures a kernel's clock cannot have measured."""

from __future__ import annotations

import pytest

from harness.journal.clock import MARGIN, MEASURED, disbelieved, gained
from harness.journal.journal import Event, Source
from harness.journal.patterns import Pattern

# What happened: at which second of the host's clock, and a stamp of the guest's or what else.
Told = tuple[float, float | str]


def events(*told: Told) -> list[Event]:
    """A journal's events; a number is a console line with that stamp."""
    kinds = {
        "start": (Source.HARNESS, "start", ""),
        "restored": (Source.HARNESS, "restored", ""),
        "reset": (Source.QMP, "event", "RESET"),
        "board's reset": (Source.LAB, "event", "RESET"),
    }
    made = []
    for index, (time, what) in enumerate(told):
        if isinstance(what, float):
            words = (Source.CONSOLE, "line", f"[{what:12.6f}] rcu: said so")
        else:
            words = kinds.get(what, (Source.CONSOLE, "line", what))
        made.append(Event(index, 1000 + time, *words))
    return made


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        pytest.param([(0, "start"), (4, 2.0), (30, 28.0)], 0, id="a sane clock"),
        pytest.param([(0, "start"), (4, 2.0), (60, 28.0)], 0, id="lines that came late"),
        # As it was once: the stall was reported 10.4 s after the reboot.
        pytest.param([(0, "reset"), (10.4, 65.108352)], 54.708352, id="the first line leaps"),
        pytest.param([(0, "board's reset"), (10, 65.0)], 55, id="a board's reset"),
        pytest.param([(0, "start"), (4, 2.0), (5, 33.0), (9, 37.0)], 28, id="it leaps later"),
        pytest.param(
            [(0, "start"), (4, 90.0), (20, "reset"), (24, 3.0)], 0, id="the leap of another boot"
        ),
        pytest.param(
            [(0, "start"), (99, 95.0), (100, "reset"), (100.1, 96.0), (110, 6.0)], 0,
            id="a line from before the reset",
        ),
        pytest.param(
            [(0, "start"), (100, "reset"), (100.1, 96.0), (104, 3.0), (110, 70.0)], 60,
            id="a line from before the reset, and a leap",
        ),
        pytest.param([(0, "restored"), (1, 500.0), (30, 529.0)], 0, id="restored"),
        pytest.param([(0, "restored"), (1, 500.0), (5, 533.0)], 29, id="restored, then it leaps"),
        pytest.param(
            [(0, "start"), (4, 90.0), (100, 186.0), (260, 346.0)], 0, id="a leap long ago"
        ),
        pytest.param([(0, "start"), (5, "no stamp")], 0, id="no stamp"),
        pytest.param([(0, "start"), (5, "said [   90.000000] so")], 0, id="not the kernel's line"),
        pytest.param([], 0, id="nothing"),
    ],
)  # fmt: skip
def test_what_a_clock_gained(told: list[Told], seconds: float) -> None:
    assert gained(events(*told)) == pytest.approx(seconds)


@pytest.mark.parametrize("pattern", list(Pattern))
def test_only_what_the_kernel_measures_is_disbelieved(pattern: Pattern) -> None:
    leapt = events((0, "reset"), (10.4, 65.108352))
    assert (disbelieved(pattern, leapt) != "") == (pattern in MEASURED)
    assert disbelieved(pattern, events((0, "reset"), (70, 65.0))) == ""


def test_a_small_gain_changes_nothing_and_the_reason_has_the_seconds() -> None:
    before = events((0, "start"), (30, 30 + MARGIN - 0.1))
    after = events((0, "start"), (30, 30 + MARGIN + 0.1))
    assert disbelieved(Pattern.RCU_STALL, before) == ""
    said = disbelieved(Pattern.RCU_STALL, after)
    assert said == "the guest's clock had gained 8 s on the host's"
