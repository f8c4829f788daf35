"""What a run ends with: results, times and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from harness.pytest_plugin.run import RUN
from harness.pytest_plugin.tier import record
from harness.report.data import read_run, read_scenarios
from harness.report.history import HISTORY_FILE, Record, append
from harness.report.html import write_report

RESULT = "scenario"  # the user property that carries a scenario's result to the controller


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of the scenarios' time was the harness's own, and where the report lies."""
    results: dict[str, dict[str, Any]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == RESULT:
                    results[value["test"]] = value
    config = terminalreporter.config
    run = config.stash[RUN]
    if document := run.end(_skipped(terminalreporter)):
        config.hook.pytest_harness_run_ends(
            config=config, run=document, stats=terminalreporter.stats
        )
    if not results:
        return
    commit = document.get("commit") if document else run.commit
    terminalreporter.section("scenarios")
    terminalreporter.write_line(f"run {run.id} of commit {commit or 'unknown'}")
    for line in summary(list(results.values())):
        terminalreporter.write_line(line)
    for result in results.values():
        if result["outcome"] == "failed":
            terminalreporter.write_line(f"failed: {result['test']}; {result['artefacts']}")
            terminalreporter.write_line(f"  run again: {result['reproduce']}")
            if "packed" in result:
                terminalreporter.write_line(f"  {result['packed']}")
    if recorded := record(config, list(results.values())):
        terminalreporter.write_line(f"CPU-seconds of what passed: {recorded}")
    # With workers, the controller alone comes here.
    evidence = config.rootpath / config.getoption("--artefacts")
    history = config.rootpath / (config.getoption("--history") or evidence / HISTORY_FILE)
    try:
        if (done := read_run(evidence)) and (scenarios := read_scenarios(evidence)):
            append(history, Record.of(done, scenarios))
    except OSError as error:
        terminalreporter.write_line(f"the run could not be added to {history}: {error}")
    try:
        path = write_report(evidence, evidence / "report.html", history=history)
    except OSError as error:
        terminalreporter.write_line(f"the report could not be written: {error}")
    else:
        terminalreporter.write_line(f"report: {path}")


def _skipped(terminalreporter: pytest.TerminalReporter) -> dict[str, str]:
    """Node id to reason."""
    found = {}
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        found[str(report.nodeid)] = str(reason).removeprefix("Skipped: ")
    return found


def summary(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the scenarios took, and how slow the host was, which two runs are compared by.

    ``results`` are what result.json holds, at least one.
    """
    worst = max(results, key=lambda result: float(result["overhead_seconds"]))
    total, guest, cpu, overhead = (
        sum(float(result[name]) for result in results)
        for name in ("seconds", "guest_seconds", "cpu_seconds", "overhead_seconds")
    )
    yield (
        f"{len(results)} scenarios, {total:.1f} s, of which guests {guest:.1f} s with {cpu:.1f} s "
        f"of processors; overhead of each {overhead / len(results) * 1000:.0f} ms on average, at "
        f"most {float(worst['overhead_seconds']) * 1000:.0f} ms ({worst['test']})"
    )
    scales = {(str(r["arch"]), str(r["accelerator"])): float(r["host_scale"]) for r in results}
    said = ", ".join(f"{arch} {by} {scale:.2f}" for (arch, by), scale in sorted(scales.items()))
    yield f"a kernel's start here in times of the reference, which deadlines are scaled by: {said}"
