"""``--backend lab``: the board that labgrid's file ``--lg-env`` names, and what it cannot do.

labgrid is imported where it is asked for, and nowhere else.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.pytest_plugin.options import profile_of
from harness.pytest_plugin.scenario import LAB

if TYPE_CHECKING:
    from harness.lab.bench import LabBench

_BENCH = pytest.StashKey["LabBench"]()


def is_lab(config: pytest.Config) -> bool:
    """Whether scenarios run on a board."""
    return bool(config.getoption("--backend") == LAB)


def bench_of(config: pytest.Config) -> LabBench:
    """The lab's board. Raises UsageError where the file or labgrid is missing or wrong."""
    if _BENCH not in config.stash:
        try:
            from harness.lab.bench import LabBench
            from harness.lab.grid import GridBoard
        except ImportError as error:
            raise pytest.UsageError(
                f"--backend lab needs labgrid, which cannot be imported: {error}; "
                "install labgrid and paramiko beside the harness"
            ) from None
        try:
            board = GridBoard(config.rootpath / config.getoption("--lg-env"))
            config.stash[_BENCH] = LabBench(board, profile_of(config))
        except HarnessError as error:
            raise pytest.UsageError(_told(error)) from None
    return config.stash[_BENCH]


def _told(error: HarnessError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


def lab_words(config: pytest.Config) -> str:
    """What a command needs besides to run a test on this board, for a shell."""
    file = shlex.quote(str(config.getoption("--lg-env")))
    return f" --backend lab --lg-env {file}" if is_lab(config) else ""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that do not fit each other."""
    file = config.getoption("--lg-env")
    if not is_lab(config):
        if file is not None:
            raise pytest.UsageError("--lg-env is for a board: add --backend lab")
        return
    if file is None:
        raise pytest.UsageError("--backend lab needs --lg-env FILE, labgrid's environment file")
    if not (config.rootpath / file).is_file():
        raise pytest.UsageError(f"--lg-env {file}: there is no such file")
    if getattr(config.option, "numprocesses", None) not in (None, 0):
        raise pytest.UsageError("a board runs one scenario at a time: use -n 0 with --backend lab")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the board back."""
    if _BENCH in config.stash:
        config.stash[_BENCH].close()


def board_lacks(item: pytest.Item) -> list[str]:
    """What a scenario needs and the board or its rig does not have, by name."""
    bench = bench_of(item.config)
    missing = {
        str(name) for mark in item.iter_markers("needs") for name in mark.args
    } - bench.abilities
    fields: dict[str, object] = {}
    for mark in reversed(list(item.iter_markers("machine"))):
        fields.update(mark.kwargs)
    return [*sorted(missing), *bench.refused(fields)]
