"""What ``--junitxml`` says of a scenario: flat properties, and links to its evidence.

Each testcase of a scenario has properties of one text each: ``test``, ``arch``, ``backend``,
``accelerator``, ``tier``, ``run``, ``commit``, ``outcome``, ``reproduce``, figures in seconds
(``seconds``, ``guest_seconds``, ``cpu_seconds``, ``making_seconds``, ``turn_seconds``,
``overhead_seconds``, and ``slot_a_seconds`` for each slot that ran) and links (``evidence``,
``console``, ``timeline``, ``report``; ``console_NAME`` of several machines). Links are relative to
the XML file's folder, as in HTML.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from _pytest.junitxml import xml_key

from harness.pytest_plugin.run import RUN
from harness.pytest_plugin.summary import RESULT
from harness.report.data import QEMU, RunRecord, Scenario, anchor, read_run
from harness.report.layout import clean

_TEXTS = ("test", "arch", "accelerator", "host_scale", "outcome", "reproduce")
_SECONDS = ("seconds", "guest_seconds", "cpu_seconds", "making_seconds", "turn_seconds",
            "overhead_seconds")  # fmt: skip
_REPORT = "report.html"


class _Flattening:
    """Shows each scenario's result flat to whoever writes it down; ours keep it whole."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> Generator[None, object, object]:
        whole = list(getattr(report, "user_properties", ()))
        if not any(name == RESULT for name, _ in whole):
            return (yield)
        report.user_properties = list(_flattened(self._config, whole))
        try:
            return (yield)
        finally:
            report.user_properties = whole


def pytest_configure(config: pytest.Config) -> None:
    """Only who writes XML flattens: a worker hands results on as they are."""
    if getattr(config.option, "xmlpath", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Flattening(config), "harness-junit")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say of the whole suite which run it was and where its report lies."""
    xml = session.config.stash.get(xml_key, None)
    run = session.config.stash.get(RUN, None)
    evidence = session.config.rootpath / session.config.getoption("--artefacts")
    if xml is None or run is None or read_run(evidence) is None:
        return
    for name, value in {
        "run": run.id,
        "commit": run.commit or "unknown",
        "report": _link(evidence / _REPORT, session.config),
    }.items():
        xml.add_global_property(name, value)


def _flattened(config: pytest.Config, whole: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, value in whole:
        if name == RESULT and isinstance(value, Mapping):
            yield from properties(config, value)
        else:
            yield name, clean(str(value))


def properties(config: pytest.Config, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The properties of one scenario's result, in their order."""
    run = config.stash[RUN]
    evidence = Path(str(result.get("artefacts", "")))
    test = str(result.get("test", ""))
    record = read_run(evidence.parent)
    for name in _TEXTS:
        if result.get(name) is not None:
            yield name, clean(str(result[name]))
    yield "backend", clean(str(result.get("backend") or QEMU))
    yield "tier", _tier(record, test)
    yield "run", run.id
    yield "commit", run.commit or "unknown"
    for name in _SECONDS:
        if isinstance(result.get(name), int | float):
            yield name, f"{result[name]:.3f}"
    yield from _slots(evidence)
    yield "evidence", _link(evidence, config) + "/"
    nodes = [str(node) for node in result.get("nodes", ())]
    for node in nodes:
        which = f"_{node}" if len(nodes) > 1 else ""
        for kind, file in (("console", "console.log"), ("timeline", "timeline.json")):
            if (evidence / node / file).is_file():
                yield f"{kind}{which}", _link(evidence / node / file, config)
    yield "report", f"{_link(evidence.parent / _REPORT, config)}#{quote(anchor(test))}"


def _tier(record: RunRecord | None, test: str) -> str:
    return record.tier_of(test) if record is not None else ""


def _slots(evidence: Path) -> Iterator[tuple[str, str]]:
    """Seconds from each slot, of all machines of the scenario together."""
    found: dict[str, float] = {}
    try:
        machines = Scenario.read(evidence).machines
    except OSError:
        return
    for machine in machines:
        if machine.story is not None and not machine.making:
            for slot, seconds in machine.story.slot_seconds().items():
                found[slot] = found.get(slot, 0.0) + seconds
    for slot, seconds in sorted(found.items()):
        yield f"slot_{clean(slot).lower()}_seconds", f"{seconds:.3f}"


def _link(path: Path, config: pytest.Config) -> str:
    folder = Path(os.path.abspath(config.invocation_params.dir / config.option.xmlpath)).parent
    return quote(os.path.relpath(path, folder))
