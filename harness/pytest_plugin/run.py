"""One run of scenarios: its identity, what was selected, and what became of the rest.

``run.json`` beside the evidence: ``id`` (a UTC time and random digits), ``commit`` (with
``-dirty`` where files differ from it; null outside git), ``started``, ``tier``, ``arch``,
``selected`` (node ids), ``core`` (those of them in the core), ``left_out`` and ``skipped`` (node id
to reason). The report on a run holds that run alone: evidence carries the run's id.
"""

from __future__ import annotations

import datetime
import json
import secrets
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from harness.cli.pytest import commit

RUN_FILE = "run.json"
RUN = pytest.StashKey["Run"]()
# What workers are told by the process that started them.
_ID, _STARTED = "harness_run_id", "harness_run_started"


class Run:
    """The identity of a run, the same in all of its workers."""

    def __init__(self, config: pytest.Config) -> None:
        told: dict[str, Any] | None = getattr(config, "workerinput", None)
        now = datetime.datetime.now(datetime.UTC)
        if told is None:
            self.id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
            self.started = now.isoformat(timespec="seconds")
        else:
            self.id, self.started = told[_ID], told[_STARTED]
        # The first worker collects what all the others do.
        self.writes = told is None or told.get("workerid") == "gw0"
        self.left_out: dict[str, str] = {}
        self.core: list[str] = []  # node ids that were collected and are in the core
        self._config = config

    @cached_property
    def commit(self) -> str | None:
        """The project's commit, looked up when it is first asked for."""
        return commit(self._config.rootpath)

    @property
    def file(self) -> Path:
        """Where it is written down."""
        folder = self._config.rootpath / self._config.getoption("--artefacts")
        return Path(folder) / RUN_FILE

    def leave_out(self, items: list[pytest.Item], why: str) -> None:
        """Remember that ``items`` do not run in this run."""
        for item in items:
            if item.get_closest_marker("scenario"):
                self.left_out.setdefault(item.nodeid, why)

    def write(self, selected: list[str]) -> None:
        """Write it down as it begins. An artefacts folder that cannot be written is no error yet:
        the first scenario will say so."""
        document = {
            "schema": 1,
            "id": self.id,
            "commit": self.commit,
            "started": self.started,
            "tier": self._config.getoption("--tier"),
            "arch": str(self._config.getoption("--arch")),
            "selected": selected,
            "core": [test for test in selected if test in set(self.core)],
            "left_out": self.left_out,
            "skipped": {},
        }
        self._config.hook.pytest_harness_run_begins(config=self._config, folder=self.file.parent)
        _write(self.file, document)

    def end(self, skipped: dict[str, str]) -> dict[str, Any] | None:
        """Add what was skipped and when the run ended; what is written down of the run."""
        try:
            document = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return None
        if document.get("id") != self.id:
            return None
        ended = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        whole: dict[str, Any] = {**document, "skipped": skipped, "ended": ended}
        _write(self.file, whole)
        return whole


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(path)
    except OSError:
        return


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the run its identity."""
    config.stash[RUN] = Run(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the identity to a worker of pytest-xdist."""
    run = node.config.stash[RUN]
    node.workerinput.update({_ID: run.id, _STARTED: run.started})


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Whoever deselects without a reason of ours did so for an option."""
    if items:
        items[0].config.stash[RUN].leave_out(items, "deselected by -k, -m or --deselect")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down what is about to run."""
    run = session.config.stash[RUN]
    selected = [i.nodeid for i in session.items if i.get_closest_marker("scenario")]
    if run.writes and (selected or run.left_out) and not session.config.option.collectonly:
        run.write(selected)
