"""``flakes``: how often scenarios fail that should not, measured under load.

A run is one scenario, once. Runs come in rounds: pytest with each scenario once, those with the
fewest runs so far. Each run's line is in the campaign's file the moment that it has ended. The
file lies in the harness's cache, ``flakes/DATE.jsonl``: first a line of conditions (``schema``,
``begun``, ``commit``, ``tests``, ``load``, ``workers``), then one for each run
(harness.pytest_plugin.history). No run is repeated for its result: what failed once has failed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import pytest
from harness.cli.options import ProfileOption
from harness.cli.rates import CONFIDENCE, upper_bound
from harness.cli.scenarios import table
from harness.errors import HarnessError
from harness.profile import chosen
from harness.qemu.arch import Arch

# As far as machines give way (MachineSpec.nice), so does the load: it takes as much as one of them.
_NICE = 10
# Seconds between two looks at which runs have ended.
_LOOK = 1.0
_SPIN = f"""
import os, signal
# A terminal's Ctrl-C ends who started it; this one follows.
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.nice({_NICE})
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


@dataclass
class Campaign:
    """Runs under the same conditions, as its file has them."""

    path: Path
    conditions: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Campaign | None:
        """None for a file that is no campaign's. A last line that was cut off is no run."""
        lines = []
        with contextlib.suppress(OSError):
            for text in path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    lines.append(json.loads(text))
        if not lines or "tests" not in lines[0]:
            return None
        return cls(path, lines[0], [line for line in lines[1:] if "outcome" in line])

    def renew(self) -> list[dict[str, Any]]:
        """Read what has come; returns that."""
        before = len(self.lines)
        again = Campaign.read(self.path)
        self.lines = [] if again is None else again.lines
        return self.lines[before:]

    @property
    def counted(self) -> list[dict[str, Any]]:
        """Runs that ended one way or the other: neither skipped nor cut off."""
        return [line for line in self.lines if line["outcome"] in ("passed", "failed")]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Runs that failed."""
        return [line for line in self.lines if line["outcome"] == "failed"]

    def document(self) -> dict[str, Any]:
        """What flakes.json holds."""
        runs = Counter(line["test"] for line in self.counted)
        failed = Counter(line["test"] for line in self.failed)
        return {
            "schema": 1,
            **{name: self.conditions.get(name) for name in _CONDITIONS},
            "begun": self.conditions.get("begun"),
            "history": str(self.path),
            "confidence": CONFIDENCE,
            "all": _rate(sum(failed.values()), sum(runs.values())),
            "scenarios": {test: _rate(failed[test], runs[test]) for test in sorted(runs)},
            "failures": self.failed,
        }


_CONDITIONS = ("commit", "tests", "load", "workers")


def flakes(
    runs: Annotated[
        int, typer.Option("-n", "--runs", min=1, help="runs of a scenario, all in all")
    ] = 200,
    at_most: Annotated[
        float, typer.Option(metavar="SECONDS", help="scenarios with so many recorded CPU-seconds")
    ] = 20.0,
    full: Annotated[
        bool, typer.Option("--full", help="scenarios of the full tier, too, not the core's alone")
    ] = False,
    arch: Annotated[
        Arch | None, typer.Option(help="those of one architecture [default: all]")
    ] = None,
    load: Annotated[
        int | None,
        typer.Option(min=0, help="busy processes beside [default: as many as processors]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="scenarios at once [default: one a processor]")
    ] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option("--in", help="look in this file or folder [pytest's testpaths]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the last campaign of these conditions")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="list the campaigns so far, and run nothing")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="folder for the result and for what failed runs leave")
    ] = Path("out/flakes"),
    profile: ProfileOption = None,
) -> None:
    """Repeat the core's quick scenarios under load and say how often they fail.

    A run that failed stays failed: then the exit status is 1.
    """
    place = chosen(profile).cache() / "harness" / "flakes"
    if history:
        _list(place)
        return
    processors = len(os.sched_getaffinity(0))
    conditions: dict[str, Any] = {
        "commit": pytest.commit(Path.cwd()),
        "tests": _choose(at_most, core=not full, arch=arch, folders=folder or ()),
        "load": processors if load is None else load,
        "workers": processors if workers is None else workers,
    }
    campaign = _resumed(place, conditions) if resume else _begun(place, conditions)
    typer.echo(
        f"{len(conditions['tests'])} scenarios, {runs} runs, {conditions['workers']} at once, "
        f"{conditions['load']} busy processes beside; history: {campaign.path}"
    )
    output.mkdir(parents=True, exist_ok=True)
    interrupted = False
    try:
        with _busy(conditions["load"]):
            _repeat(campaign, runs, output)
    except KeyboardInterrupt:
        interrupted = True
    _tell(campaign, output)
    if interrupted:
        typer.echo("interrupted: the same command with --resume goes on", err=True)
        raise typer.Exit(130)
    if campaign.failed:
        raise typer.Exit(1)


def _choose(at_most: float, *, core: bool, arch: Arch | None, folders: Sequence[Path]) -> list[str]:
    """Node ids of what is repeated. Raises HarnessError where there is none."""
    for path in folders:
        if not path.exists():
            raise HarnessError(f"there is no {path} to look for scenarios in")
    with tempfile.TemporaryDirectory(prefix="harness-flakes-") as scratch:
        file = Path(scratch) / "scenarios.json"
        words = [] if arch is None else ["--arch", arch.value]
        pytest.collect([*words, *map(str, folders)], file)
        rows = json.loads(file.read_bytes())
    found = [run for row in rows for run in row["runs"] if run["core"] or not core]
    quick = [run for run in found if (run["cpu_seconds"] or 0.0) <= at_most]
    if any(run["cpu_seconds"] is not None for run in found):
        unknown = [run for run in quick if run["cpu_seconds"] is None]
        quick = [run for run in quick if run["cpu_seconds"] is not None]
        if unknown:
            typer.echo(f"left out, because their CPU-seconds were not recorded: {len(unknown)}")
    if not quick:
        raise HarnessError(
            f"none of {len(found)} scenarios takes at most {at_most:g} recorded CPU-seconds",
            hint="raise --at-most, or record them: pytest --record-cpu",
        )
    return sorted(str(run["id"]) for run in quick)


def _begun(place: Path, conditions: dict[str, Any]) -> Campaign:
    place.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    path = place / f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}.jsonl"
    whole = {"schema": 1, "begun": now.isoformat(timespec="seconds"), **conditions}
    path.write_text(json.dumps(whole) + "\n")
    return Campaign(path, whole)


def _resumed(place: Path, conditions: dict[str, Any]) -> Campaign:
    """The last campaign of these conditions. Raises HarnessError where there is none."""
    for path in sorted(place.glob("*.jsonl"), reverse=True):
        campaign = Campaign.read(path)
        if campaign and all(campaign.conditions.get(n) == conditions[n] for n in _CONDITIONS):
            return campaign
    raise HarnessError(
        f"no campaign in {place} has the same commit, scenarios, load and workers",
        hint="begin one without --resume; --history lists those that there are",
    )


def _repeat(campaign: Campaign, runs: int, output: Path) -> None:
    """Rounds until there are ``runs``. Raises HarnessError where pytest cannot run them."""
    begun, number = time.monotonic(), 0
    before = len(campaign.counted)
    while (left := runs - len(campaign.counted)) > 0:
        number += 1
        evidence = output / f"{campaign.path.stem}-{number:04}"
        while evidence.exists():  # of a campaign that goes on
            number += 1
            evidence = output / f"{campaign.path.stem}-{number:04}"
        done = Counter(line["test"] for line in campaign.lines)
        tests = sorted(campaign.conditions["tests"], key=lambda test: done[test])[:left]
        new = _round(campaign, tests, evidence)
        counted = len(campaign.counted)
        if not any(line["outcome"] in ("passed", "failed") for line in new):
            raise HarnessError(
                f"no run of a round of {len(tests)} counts: {_words(evidence)}",
                hint="scenarios that are skipped cannot be repeated",
            )
        if not any(line["outcome"] == "failed" for line in new):
            shutil.rmtree(evidence, ignore_errors=True)
        minutes = (time.monotonic() - begun) / (counted - before) * (runs - counted) / 60
        failed = len(campaign.failed)
        typer.echo(f"{counted} of {runs} runs, {failed} failed, about {minutes:.0f} min left")


def _round(campaign: Campaign, tests: Sequence[str], evidence: Path) -> list[dict[str, Any]]:
    """Run each of ``tests`` once; returns their lines."""
    evidence.mkdir(parents=True)
    workers = min(int(campaign.conditions["workers"]), len(tests))
    words = [
        "-q", "-p", "no:cacheprovider", "-n", str(workers), "--artefacts", str(evidence.absolute()),
        "--harness-history", str(campaign.path), *tests,
    ]  # fmt: skip
    with (evidence / "pytest.log").open("wb") as log:
        process = subprocess.Popen(
            pytest.command(words), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        new: list[dict[str, Any]] = []
        try:
            while (status := process.poll()) is None:
                new += _told(campaign.renew())
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
        except KeyboardInterrupt:
            # A terminal's Ctrl-C has reached it, too: it ends its machines.
            process.wait()
            _told(campaign.renew())
            raise
    new += _told(campaign.renew())
    if status not in (0, 1):
        raise HarnessError(f"pytest ended with {status}:\n{_words(evidence)}")
    missing = set(tests) - {line["test"] for line in new}
    if missing or (status == 1 and not any(line["outcome"] == "failed" for line in new)):
        raise HarnessError(
            f"pytest ended with {status}, and said nothing of {', '.join(sorted(missing)) or 'why'}"
            f":\n{_words(evidence)}"
        )
    return new


def _told(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for line in lines:
        typer.echo(f"  {line['outcome']} in {line['seconds']:.0f} s: {line['test']}")
    return lines


def _words(evidence: Path) -> str:
    try:
        return "\n".join((evidence / "pytest.log").read_text(errors="replace").splitlines()[-20:])
    except OSError:
        return ""


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keep processors busy within this scope; they end with this process, however it ends."""
    command = [sys.executable, "-I", "-S", "-c", _SPIN]
    spinning = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait()


def _rate(failed: int, runs: int) -> dict[str, Any]:
    return {
        "runs": runs,
        "failed": failed,
        "rate": failed / runs if runs else None,
        "upper_bound": upper_bound(failed, runs),
    }


def _row(rate: dict[str, Any], name: str) -> tuple[str, ...]:
    shown = "-" if rate["rate"] is None else f"{rate['rate']:.2%}"
    return str(rate["runs"]), str(rate["failed"]), shown, f"{rate['upper_bound']:.2%}", name


def _tell(campaign: Campaign, output: Path) -> None:
    """Write flakes.json and print the table."""
    document = campaign.document()
    (output / "flakes.json").write_text(json.dumps(document, indent=1) + "\n")
    rows = [_row(rate, test) for test, rate in document["scenarios"].items()]
    rows.append(_row(document["all"], "all"))
    for row in table(rows, ("RUNS", "FAILED", "RATE", "AT MOST", "SCENARIO")):
        typer.echo(row)
    typer.echo(f"AT MOST: exact (Clopper-Pearson) upper bound, one-sided, {CONFIDENCE:.0%}")
    for line in campaign.failed:
        typer.echo(f"failed: {line['test']}; {line['evidence']}")
        for text in line.get("failure", ()):
            typer.echo(f"  {text}")
    typer.echo(f"{output / 'flakes.json'}; history: {campaign.path}")


def _list(place: Path) -> None:
    rows = []
    for path in sorted(place.glob("*.jsonl")):
        if (campaign := Campaign.read(path)) is not None:
            rate = campaign.document()["all"]
            of = campaign.conditions
            when, conditions = str(of.get("begun")), f"load {of['load']}, {of['workers']} at once"
            rows.append((*_row(rate, when), conditions, str(of["commit"])[:12], path.name))
    head = ("RUNS", "FAILED", "RATE", "AT MOST", "BEGUN", "CONDITIONS", "COMMIT", "FILE")
    for line in table(rows, head):
        typer.echo(line)
    typer.echo(f"{len(rows)} campaigns in {place}")
