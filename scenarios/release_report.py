"""``report.json`` beside the evidence: how each scenario of a run ended, for who makes a release.

Its format is ``product.publish.matrix.MatrixReport``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.pytest_plugin.lab import bench_of, is_lab
from harness.qemu.arch import Arch
from product.publish.matrix import REPORT, MatrixReport
from scenarios.signoff import NAME, Signoff

_DIRTY = "-dirty"
_MOST = 300


def pytest_harness_run_begins(config: pytest.Config, folder: Path) -> None:
    """Until a run ends there is none that a release could be made by."""
    with contextlib.suppress(OSError):
        (folder / REPORT).unlink(missing_ok=True)


def pytest_harness_run_ends(
    config: pytest.Config, run: Mapping[str, Any], stats: Mapping[str, Iterable[Any]]
) -> None:
    """Write it down."""
    write_release_report(config, run, stats)


def write_release_report(
    config: pytest.Config, run: Mapping[str, Any], stats: Mapping[str, Iterable[Any]]
) -> Path | None:
    """Write it for the run that ``run`` (``run.json``) describes; None where it cannot be.

    ``stats`` are the terminal reporter's: reports by how they count.
    """
    commit, dirty = _commit(str(run.get("commit") or ""), config.rootpath)
    selected = [str(test) for test in run["selected"]]
    ends = _ends(stats)
    skipped = {test: why for test, why in run["skipped"].items() if test not in ends}
    started = {test for test in selected if test in ends or test in skipped}
    missing = {test: "the run ended before it" for test in selected if test not in started}
    report = MatrixReport(
        id=str(run["id"]),
        commit=commit,
        dirty=dirty,
        started=run["started"],
        ended=run["ended"],
        host=f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        tier=str(run["tier"]),
        architectures=_architectures(config),
        paths=tuple(_path(word, config) for word in config.args),
        passed=tuple(sorted(test for test in selected if test in ends and ends[test] is None)),
        failed={test: why for test, why in ends.items() if why is not None},
        skipped=skipped,
        not_run={**missing, **run["left_out"]},
        properties=_properties(stats, selected),
    )
    folder = config.rootpath / config.getoption("--artefacts")
    name, text = REPORT, report.dump()
    if is_lab(config):
        # No release is made by what a board lacks abilities for.
        board = bench_of(config)
        abilities = tuple(sorted(board.abilities))
        name, text = NAME, Signoff(board=board.name, abilities=abilities, run=report).dump()
    path = Path(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{name}.part")
        partial.write_text(text)
        partial.replace(path)
    except OSError:
        return None
    return path


def _architectures(config: pytest.Config) -> tuple[str, ...]:
    """What was to run: what was asked for, or the board's."""
    if is_lab(config):
        return (str(bench_of(config).arch),)
    option = str(config.getoption("--arch"))
    return tuple(Arch) if option == "all" else (option,)


def _ends(stats: Mapping[str, Iterable[Any]]) -> dict[str, str | None]:
    """Node id to None where it passed, else to the last line of why not."""
    found: dict[str, str | None] = {}
    for report in stats.get("passed", ()):
        found.setdefault(str(report.nodeid), None)
    # A test that passed and could not be taken down is under both; an unexpected pass is neither.
    for kind in ("failed", "error", "xpassed", "xfailed"):
        for report in stats.get(kind, ()):
            if hasattr(report, "nodeid"):
                lines = str(getattr(report, "longreprtext", "") or kind).strip().splitlines()
                found[str(report.nodeid)] = (lines[-1] if lines else kind)[:_MOST]
    return found


def _properties(
    stats: Mapping[str, Iterable[Any]], selected: list[str]
) -> dict[str, dict[str, str]]:
    """What scenarios recorded of themselves as text."""
    found: dict[str, dict[str, str]] = {}
    for reports in stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if isinstance(value, str) and report.nodeid in selected:
                    found.setdefault(str(report.nodeid), {})[str(name)] = value
    return found


def _path(word: str, config: pytest.Config) -> str:
    """A path of the command line, below the checkout; a node id stays one and covers no file."""
    name, colons, test = word.partition("::")
    path = Path(os.path.abspath(config.invocation_params.dir / name))
    below = path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else path
    return f"{below.as_posix()}{colons}{test}"


def _commit(began: str, root: Path) -> tuple[str | None, bool]:
    """The commit that the run began with, and whether the checkout was another at any time."""
    try:
        now, status = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None, True
    commit = began.removesuffix(_DIRTY)
    dirty = began.endswith(_DIRTY) or bool(status) or now != commit
    return commit or None, dirty
