"""Every reader takes what it begins with, and what once broke it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import scenarios.fuzz.__main__ as command
from scenarios.fuzz.__main__ import KEPT, Ended, FuzzError, _chosen, _repeat, seeds
from scenarios.fuzz.targets import PLANTED, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_ends_well(name: str) -> None:
    target = TARGETS[name]
    for data in (b"", b"\0", b"\xff" * 600, *seeds(target)):
        target.run(data)
    assert all(len(seed) <= target.longest for seed in target.seeds)


def test_what_is_kept_is_of_a_target() -> None:
    assert {path.name for path in KEPT.glob("*")} <= set(TARGETS)


def test_one_input_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "input").write_bytes(b"1.2.3")
    _repeat(_chosen(["version"]), tmp_path / "input")
    assert "version ends well with" in capsys.readouterr().out
    (tmp_path / "input").write_bytes(b"KSOL")
    with pytest.raises(RuntimeError, match="planted"):
        _repeat([PLANTED], tmp_path / "input")


@pytest.mark.parametrize(("fault", "status"), [("", 0), ("ValueError: no", 1)])
def test_a_session_fails_where_a_reader_does(
    monkeypatch: pytest.MonkeyPatch, fault: str, status: int
) -> None:
    def ended(*arguments: object) -> Ended:
        return Ended(5, 7, 0.1, fault, Path("input") if fault else None)

    monkeypatch.setattr(command, "fuzz", ended)
    monkeypatch.setattr(command, "_require_atheris", lambda: None)
    monkeypatch.setattr(command, "_require_the_planted_fault", lambda: None)
    monkeypatch.setattr(sys, "argv", ["fuzz", "-k", "version"])
    with pytest.raises(SystemExit) as stopped:
        command.entry()
    assert stopped.value.code == status


def test_wrong_usage_is_said(tmp_path: Path) -> None:
    with pytest.raises(FuzzError, match=r"no target's name contains nothing-like-it"):
        _chosen(["nothing-like-it"])
    with pytest.raises(FuzzError, match=r"--input is for one target"):
        _repeat(list(TARGETS.values()), tmp_path)
    with pytest.raises(FuzzError, match=r"cannot read .*: No such file"):
        _repeat(_chosen(["version"]), tmp_path / "none")
