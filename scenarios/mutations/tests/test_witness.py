"""How a scenario's failure is told: by its own statements, and not where it is set-up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import CommandError, StateError
from scenarios.mutations import witness
from scenarios.mutations.witness import NOTICED, statement_at
from scenarios.set_up import set_up

SOURCE = """\
def test(node):
    with node.expecting(
        1,
    ), node.boots(4) as boots:
        node.reboot()
    assert [text for text in boots] == [
        "killed", "sleep"
    ], "words"
    if boots: node.at("A")
"""


@pytest.mark.parametrize(
    ("line", "statement"),
    [
        (2, "with node.expecting(1), node.boots(4) as boots"),
        (4, "with node.expecting(1), node.boots(4) as boots"),
        (5, "node.reboot()"),
        (6, 'assert [text for text in boots] == ["killed", "sleep"], "words"'),
        (7, 'assert [text for text in boots] == ["killed", "sleep"], "words"'),
    ],
)
def test_a_statement_is_one_line(tmp_path: Path, line: int, statement: str) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(SOURCE)
    assert statement_at(str(file), line) == statement


def ask() -> None:
    raise CommandError("expected success: it exited with 1\nand said much")


@set_up
def prepare() -> None:
    ask()


def compare() -> None:
    raise AssertionError("assert [\n  'A'\n] == ['B']")


def lose() -> None:
    raise StateError("no snapshot")


def told(step: Callable[[], None]) -> tuple[str, str]:
    with pytest.raises((AssertionError, CommandError, StateError)) as caught:
        step()
    said = witness._failure(caught.value)
    return said["verdict"], said["error"]


def test_the_statements_that_led_to_it_are_named() -> None:
    verdict, error = told(ask)
    assert verdict == NOTICED
    statements, _, message = error.rpartition("): ")
    assert statements.startswith('step() > raise CommandError("expected success')
    assert message == "expected success: it exited with 1"
    assert told(compare)[1].endswith(": assert ['A'] == ['B']".replace("['A']", "[ 'A' ]"))


def test_neither_set_up_nor_another_error_is_a_demand() -> None:
    assert told(prepare)[0] == "the state it begins in could not be reached"
    assert told(lose)[0] == "it raised StateError"
