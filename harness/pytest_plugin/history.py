"""``--harness-history FILE``: a line of JSON for each test, written the moment that it has ended.

For the command line's ``flakes``. A line has ``time`` (of its end, seconds since the epoch),
``test`` (node id), ``outcome`` (passed, failed, skipped), ``seconds``, ``evidence`` (the run's
folder), of a scenario ``cpu_seconds``, and of a failure ``failure``, its first lines.
What any phase of a test says counts: one that failed and was tried again has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness.pytest_plugin.summary import RESULT

_LINES = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the lines go; for the command line alone."""
    parser.getgroup("harness").addoption("--harness-history", type=Path, help=argparse.SUPPRESS)


def pytest_configure(config: pytest.Config) -> None:
    """Only who hears of all tests writes: no worker."""
    path = config.getoption("--harness-history")
    if path is not None and not hasattr(config, "workerinput"):
        evidence = config.rootpath / config.getoption("--artefacts")
        config.pluginmanager.register(_History(path, evidence), "harness-history")


class _History:
    """Puts the phases of each test together. Those that some plugin runs again have no line of
    their own: the test's only line says failed."""

    def __init__(self, path: Path, evidence: Path) -> None:
        self._path = path
        self._evidence = str(evidence)
        self._open: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        line = self._open.setdefault(
            report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0}
        )
        line["seconds"] = round(line["seconds"] + report.duration, 3)
        for name, value in report.user_properties:
            if name == RESULT and isinstance(value, dict):
                line["cpu_seconds"] = value["cpu_seconds"]
        # A plugin that tries again says "rerun".
        if report.outcome not in ("passed", "skipped"):
            line["outcome"] = "failed"
            line.setdefault("failure", str(report.longreprtext).splitlines()[:_LINES])
        elif report.outcome == "skipped" and line["outcome"] == "passed":
            line["outcome"] = "skipped"
        # A worker that dies has one report, of no phase.
        if report.when not in ("setup", "call"):
            self._write(self._open.pop(report.nodeid))

    def pytest_sessionfinish(self) -> None:
        """What failed and was never ended has failed all the same."""
        for line in self._open.values():
            if line["outcome"] == "failed":
                self._write(line)
        self._open.clear()

    def _write(self, line: dict[str, Any]) -> None:
        text = (
            json.dumps({"time": round(time.time(), 3), **line, "evidence": self._evidence}) + "\n"
        )
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
