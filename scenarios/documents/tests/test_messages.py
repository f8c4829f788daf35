"""docs/troubleshooting.md has every message of the product, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.documents import messages
from scenarios.documents.pages import ROOT

TEXT = (ROOT / "docs/troubleshooting.md").read_text()


def same(found: list[str], said: set[str]) -> None:
    assert len(found) == len(set(found))
    assert said - set(found) == set(), "the product says what the page lacks"
    assert set(found) - said == set(), "the page has what the product does not say"


def test_every_error_code_has_a_row() -> None:
    same(messages.rows(TEXT, "Errors of kubesolo-update"), messages.error_codes())


def test_every_gate_has_a_row_in_the_order_in_which_they_are_asked() -> None:
    assert messages.rows(TEXT, "Gates") == messages.gate_names()


@pytest.mark.parametrize(("kind", "heading"), [("fail", "Boot failures"), ("problem", "Problems")])
def test_every_message_of_the_boot_has_a_row(kind: str, heading: str) -> None:
    same(messages.rows(TEXT, heading), messages.boot_messages(kind))


def test_every_message_of_the_boot_loader_has_a_row() -> None:
    same(messages.rows(TEXT, "Boot loader"), messages.loader_messages())


def test_every_way_to_give_a_code_is_seen(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "class A(E):\n    code = 'by-class'\n"
        "raise E('x', code='by-call')\n"
        "raise E('x', code='by-if' if a else 'by-else')\n"
        "codes = {5: 'by-table'}\n"
        "code = codes.get(3, 'by-default')\n"
        "raise Flaw('by-flaw', 'text')\n"
        "reason = f'by-reason: {error}'\n"
        "code = 3\n"
        "other = 'no-code'\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").write_text("raise E(code='of-a-test')\n")
    found = messages.error_codes(tmp_path) - {"bad-version"}
    ways = ("class", "call", "if", "else", "table", "default", "flaw", "reason")
    assert found == {f"by-{way}" for way in ways}


def test_a_message_ends_at_its_own_quote_and_names_no_values(tmp_path: Path) -> None:
    boot = tmp_path / "images/boot"
    stages = tmp_path / "images/overlay/usr/lib/kubesolo/stages"
    runit = tmp_path / "images/overlay/etc/runit"
    for folder in (
        boot,
        stages,
        runit,
        tmp_path / "images/payload",
        tmp_path / "images/extensions",
    ):
        folder.mkdir(parents=True)
    (runit / "1").write_text("")
    (boot / "init").write_text(
        '[ -s "$a" ] || fail "slot $slot (${b#x}) is \'$1\'"\n'
        '    *) fail "in a case" ;;\n'
        'if true; then fail "in a line"; fi\n'
        '# what would fail "in a comment" is none\n'
    )
    (stages / "10-x").write_text("    problem \"it: $(grep -v \"^a\" b | tr '\\n' ' '); $*\"\n")
    assert messages.boot_messages("fail", tmp_path) == {
        "slot ... (...) is '...'",
        "in a case",
        "in a line",
    }
    assert messages.boot_messages("problem", tmp_path) == {"it: ...; ..."}


def test_a_heading_that_is_gone_is_no_empty_table() -> None:
    with pytest.raises(KeyError):
        messages.rows(TEXT, "No such heading")
