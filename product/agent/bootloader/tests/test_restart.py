"""The two ends of a try: early boot of the known-good slot, and the end of a planned stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.bootloader.restart import main
from product.agent.bootloader.tests.loaders import Tryboot
from product.agent.system.paths import Paths


class Restarted(BaseException):
    """Nothing runs after it."""


class Board:
    """A node whose early boot found slot A on ``loader``'s disk."""

    def __init__(self, base: Path) -> None:
        self.loader = Tryboot(base / "esp")
        self.paths = Paths(str(base))
        Path(self.paths.run).mkdir(parents=True)
        self.early("slot=A\nKSOLOEFI=/dev/mmcblk0p1\n")
        self.arguments: list[str] = []

    def early(self, text: str) -> None:
        Path(self.paths.early).write_text(text)

    def run(self, command: str) -> int | None:
        """The status; None where it restarted the machine."""

        def restart(argument: str) -> None:
            self.arguments.append(argument)
            raise Restarted

        try:
            return main([command], paths=self.paths, restart=restart, environment=self.loader.env)
        except Restarted:
            return None


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_confirmed_system_restarts_by_itself(board: Board) -> None:
    board.loader.put("A", "3", "1")
    assert board.run("stop") == 0
    assert board.run("settle") == 0
    assert board.arguments == []


def test_each_try_carries_the_flag(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    board.loader.put("B", "3", "0")
    assert board.run("stop") is None
    assert board.run("settle") is None
    assert board.run("settle") is None
    assert board.arguments == ["0 tryboot"] * 3
    assert "kubesolo: trying slot=B, 0 tries left after this one" in capsys.readouterr().out
    assert board.run("settle") == 0
    assert "kubesolo: rollback to slot=A" in capsys.readouterr().out
    assert board.run("settle") == 0
    assert board.arguments == ["0 tryboot"] * 3


def test_a_slot_that_has_the_default_is_left_without_the_flag(board: Board) -> None:
    board.loader.path.write_bytes(
        b"[all]\ntryboot_a_b=1\nboot_partition=5\n[tryboot]\nboot_partition=5\n"
        b"# kubesolo active_slot=A boot_counter=0 boot_success=0 tried=1\n".ljust(480, b"\n")
    )
    assert board.run("settle") is None
    assert board.arguments == [""]


def test_what_cannot_be_counted_is_not_tried(
    board: Board, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    board.loader.put("B", "3", "0")
    monkeypatch.setattr("os.pwrite", fail)
    assert board.run("settle") == 1
    assert board.run("stop") == 1
    assert board.arguments == []
    assert "problem: no slot is tried: cannot write" in capsys.readouterr().out
    assert Path(board.paths.problems).read_text().count("no slot is tried: cannot write") == 2


@pytest.mark.parametrize("early", ["", "slot=C\nKSOLOEFI=/dev/x\n", "slot=A\n", "\0"])
def test_without_early_boots_record_nothing_is_tried(board: Board, early: str) -> None:
    board.loader.put("B", "3", "0")
    board.early(early)
    assert board.run("settle") == 1
    assert board.run("stop") == 1
    assert board.arguments == []


def test_another_word_is_refused(board: Board) -> None:
    assert board.run("go") == 2
