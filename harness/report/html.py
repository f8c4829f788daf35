"""The HTML report over a directory of scenarios: one file, which links to the evidence beside it.

Links are relative: the report and the scenarios move together. It needs no network and no other
file. Its one script searches and filters; all is there without it. The page's policy admits that
script alone, by its digest, so that no line of a console can bring another.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import os
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from harness.report import timeline
from harness.report.compare import Comparison, choice
from harness.report.data import Machine, RunRecord, Scenario, read_run, read_scenarios
from harness.report.history import HISTORY_FILE, Record, read_history, with_run
from harness.report.markup import (
    attributes,
    boots,
    card,
    count,
    esc,
    names,
    outcome_chip,
    seconds_text,
    select,
)
from harness.report.trend import Trend

_JUNIT = "junit.xml"  # which pytest may have been told to leave among the scenarios
_DATE = "%Y-%m-%d %H:%M:%S"
_CONSOLE_LINES = 5000  # of each machine; a page must open on a phone
_TEMPLATES = Path(__file__).parent / "templates"
# The order in which a reader wants a machine's files; others follow by name.
_FIRST = ("console.log", "timeline.svg", "timeline.json", "qmp.log", "evidence.txt", "command")
_HIDDEN = ("console.raw",)  # console.log says the same and when


def write_report(
    scenarios_dir: Path, output: Path, *, history: Path | None = None, against: Path | None = None
) -> Path:
    """Write the report on ``scenarios_dir`` to ``output`` and return that. Raises OSError.

    Beside each timeline.json its picture is written as timeline.svg. ``history`` is the file of
    earlier runs (default: among the scenarios), ``against`` has the evidence of another run.
    """
    scenarios = read_scenarios(scenarios_dir)
    for scenario in scenarios:
        for machine in scenario.machines:
            if machine.timeline is not None:
                (machine.directory / "timeline.svg").write_text(_picture(scenario, machine))
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.part")
    run = read_run(scenarios_dir)
    records = read_history(history or scenarios_dir / HISTORY_FILE)
    trend = Trend(with_run(records, Record.of(run, scenarios) if run and scenarios else None))
    other = None
    if against is not None:
        other = Comparison(scenarios, read_scenarios(against), read_run(against))
    junit = scenarios_dir / _JUNIT
    partial.write_text(_Page(scenarios, run, output.parent, junit, trend, other).text())
    partial.replace(output)
    return output


def _picture(scenario: Scenario, machine: Machine, *, embedded: bool = False) -> str:
    assert machine.timeline is not None  # the callers' condition
    decided = scenario.deciding
    # A failure is told on the machine that shows it, or on all if none does.
    mine = not machine.making if decided is None else decided[0] is machine
    return timeline.svg(
        machine.timeline,
        title=scenario.test,
        outcome="" if machine.making else scenario.outcome,
        failure=scenario.failure if mine else "",
        embedded=embedded,
    )


def _covered(spans: Sequence[tuple[datetime.datetime, datetime.datetime]]) -> float:
    """Seconds that lie within any of the sorted spans; the evidence of several runs has gaps."""
    seconds = 0.0
    done: datetime.datetime | None = None
    for begin, end in spans:
        start = begin if done is None else max(begin, done)
        seconds += max(0.0, (end - start).total_seconds())
        done = end if done is None else max(done, end)
    return seconds


class _Page:
    """One report; ``base`` is the directory that links start from, ``junit`` may not exist."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        run: RunRecord | None,
        base: Path,
        junit: Path,
        trend: Trend,
        other: Comparison | None,
    ) -> None:
        self._trend = trend
        self._other = other
        self._scenarios = scenarios
        self._run = run
        self._not_run = run.not_run({one.test for one in scenarios}) if run else {}
        self._base = base
        self._junit = junit

    def text(self) -> str:
        """The whole file."""
        failed = sum(not one.passed for one in self._scenarios)
        title = f"{count(len(self._scenarios), 'scenario')}, {failed} not passed"
        body = [
            *self._summary(), *self._filter(), *self._failures(), *self._compared(),
            *self._table(), *self._trend.section(), *self._pictures(), *self._absent(),
        ]  # fmt: skip
        template = string.Template((_TEMPLATES / "report.html").read_text())
        style = (_TEMPLATES / "report.css").read_text() + timeline.style()
        script = (_TEMPLATES / "report.js").read_text()
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return template.substitute(
            title=esc(title), style=style, body="\n".join(body), script=script, digest=digest
        )

    # Parts

    def _summary(self) -> Iterable[str]:
        every = self._scenarios
        yield "<h1>Scenarios</h1>"
        if (run := self._run) is not None:
            ended = f", ended {run.ended}" if run.ended else ", which has not ended or was ended"
            yield (
                f"<p>Run <b>{esc(run.id)}</b> of commit <code>{esc(run.commit)}</code>, tier "
                f"{esc(run.tier)}, begun {esc(run.started)}{esc(ended)}: "
                f"{count(len(every), 'scenario')} ran, {len(self._not_run)} did not.</p>"
            )
        if not every:
            yield '<p class="soft">No scenario has left evidence here.</p>'
            return
        spans = sorted(span for one in every if (span := one.span))
        if spans:
            begin, end = spans[0][0], max(span[1] for span in spans)
            yield (
                f'<p class="soft">Machines ran between {begin:{_DATE}} and {end:{_DATE}} '
                f"{esc(begin.tzname() or '')}.</p>"
            )
        if self._junit.is_file():
            yield f"<p>{self._link(self._junit, 'JUnit results')}</p>"
        passed = sum(one.passed for one in every)
        complete = [one for one in every if one.complete]
        overhead = [one.overhead_seconds * 1000 for one in complete]
        yield '<div class="cards">'
        yield card("passed", str(passed), "ok" if passed else "")
        yield card("not passed", str(len(every) - passed), "bad" if passed < len(every) else "")
        yield card("wall time with machines", seconds_text(_covered(spans)))
        yield card("all scenarios together", seconds_text(sum(one.seconds for one in complete)))
        yield card("of which guests ran", seconds_text(sum(one.guest_seconds for one in complete)))
        if overhead:
            yield card(
                f"overhead a scenario (most {max(overhead):.0f} ms)",
                f"{sum(overhead) / len(overhead):.0f} ms",
            )
        yield "</div>"
        yield from self._architectures()

    def _architectures(self) -> Iterable[str]:
        groups: dict[tuple[str, str], list[Scenario]] = {}
        for one in self._scenarios:
            groups.setdefault((one.arch or "unknown", one.accelerator), []).append(one)
        heads = ["scenarios", "passed", "not passed", "seconds", "guest", "snapshots", "waiting"]
        yield '<div class="scroll"><table><tr><th>architecture</th><th>accelerator</th>'
        yield "".join(f'<th class="number">{head}</th>' for head in [*heads, "mean overhead"])
        yield "</tr>"
        for (arch, accelerator), group in sorted(groups.items()):
            passed = sum(one.passed for one in group)
            complete = [one for one in group if one.complete]
            figures = [str(len(group)), str(passed), str(len(group) - passed)]
            figures += [
                f"{sum(getattr(one, name) for one in complete):.1f}"
                for name in ("seconds", "guest_seconds", "making_seconds", "turn_seconds")
            ]
            mean = sum(one.overhead_seconds for one in complete) / max(1, len(complete))
            figures.append(f"{mean * 1000:.0f} ms" if complete else "")
            yield f"<tr><td>{esc(arch)}</td><td>{esc(accelerator)}</td>"
            yield "".join(f'<td class="number">{figure}</td>' for figure in figures) + "</tr>"
        yield "</table></div>"

    def _filter(self) -> Iterable[str]:
        """What the script works with; hidden where there is none."""
        every = self._scenarios
        if not every:
            return

        def values(name: str) -> list[str]:
            return sorted({str(getattr(one, name)) for one in every} - {""})

        faults = sorted({fault for one in every for fault in one.faults})
        yield '<form id="filter" role="search" hidden>'
        yield (
            '<label class="wide" for="search">Search<input id="search" type="search" '
            'placeholder="name, step, failure, console line" autocomplete="off"></label>'
        )
        yield select("outcome", "Outcome", "all", [("!passed", "not passed"), *values("outcome")])
        yield select("arch", "Architecture", "all", values("arch"))
        yield select("tier", "Tier", "all", values("tier"))
        yield select("backend", "Backend", "all", values("backend"))
        if self._other is not None:
            yield self._other.choice()
        elif kinds := sorted({change.kind for change in self._trend.changes}):
            yield choice(kinds)
        yield select("fault", "Fault", "all", [("*", "any fault"), ("-", "none"), *faults])
        yield select(
            "slowest", "Slowest", "all, failures first",
            [(str(number), f"the {number} slowest") for number in (5, 10, 20)],
        )  # fmt: skip
        yield '<button type="reset">Show all</button>'
        yield '<p class="soft wide" id="shown" role="status"></p></form>'

    def _compared(self) -> Iterable[str]:
        if self._other is not None:
            yield from self._other.section({one.test: self._anchor(one) for one in self._scenarios})

    def _kinds(self, one: Scenario) -> str:
        """What is different about a scenario: against the other run, else against those before."""
        if self._other is not None:
            return "|".join(self._other.kinds(one.test))
        return self._trend.kind(one.test)

    def _failures(self) -> Iterable[str]:
        failures = [one for one in self._scenarios if not one.passed]
        if failures:
            yield '<h2 data-over="failures">What did not pass</h2>'
        for one in failures:
            kind = "bad" if one.complete else "odd"
            head, _, rest = one.failure.strip().partition("\n")
            rest = rest.partition("console lines:\n")[0] if "console lines:\n" in rest else rest
            place = self._anchor(one)
            about = attributes({"id": place, "data-of": place, "data-under": "failures"})
            yield f'<section class="block {kind}"{about}>'
            yield f"<h3>{outcome_chip(one.outcome)} {esc(one.test)}</h3>"
            yield f'<p class="deciding">{esc(head)}</p>'
            if decided := one.deciding:
                machine, mark = decided
                yield (
                    f"<p>At {mark.time:.1f} s of <b>{esc(machine.directory.name)}</b>: "
                    f"{esc(mark.label)}.</p>"
                )
            if rest.strip() and not rest.startswith("last "):
                yield f"<pre>{esc(rest)}</pre>"
            if one.reproduce:
                yield f'<p class="name">run it again</p><pre>{esc(one.reproduce)}</pre>'
            for machine in one.machines:
                if machine.making and any(not other.making for other in one.machines):
                    continue
                tail = "\n".join(machine.console_tail) or "(the console is empty)"
                name = esc(machine.directory.name)
                yield f'<p class="name">last console lines of {name}</p><pre>{esc(tail)}</pre>'
            yield from self._evidence(one, opened=True)
            yield "</section>"

    def _table(self) -> Iterable[str]:
        if not self._scenarios:
            return
        yield "<h2>All scenarios</h2>"
        trend = "<th>trend</th>" if self._trend else ""
        yield '<div class="scroll"><table class="stacked" id="scenarios"><thead><tr>'
        yield "<th>outcome</th>"
        yield '<th>scenario</th><th>architecture</th><th class="number">seconds</th>'
        yield '<th class="number">guest</th><th class="number">overhead</th>'
        yield f"{trend}<th>boots (slot, counter)</th><th>began</th><th>evidence</th></tr></thead>"
        yield "<tbody>"
        for one in self._scenarios:
            group, name = names(one.test, one.arch)
            times = [f"{one.seconds:.1f}", f"{one.guest_seconds:.1f}"]
            times.append(f"{one.overhead_seconds * 1000:.0f} ms")
            if not one.complete:
                times = ["", "", ""]
            about = {
                "data-row": self._anchor(one), "data-outcome": one.outcome, "data-arch": one.arch,
                "data-tier": one.tier, "data-backend": one.backend,
                "data-fault": "|".join(one.faults), "data-seconds": f"{one.seconds:.3f}",
                "data-change": self._kinds(one),
            }  # fmt: skip
            yield f"<tr{attributes(about)}><td>{outcome_chip(one.outcome)}</td>"
            yield f'<td class="name-of"><a href="#{self._anchor(one)}">{esc(name)}</a>'
            yield f'<span class="group">{esc(group)}</span></td><td>{esc(one.arch)}</td>'
            labels = ("seconds", "guest", "overhead")
            yield "".join(
                f'<td class="number" data-label="{label}">{time}</td>'
                for label, time in zip(labels, times, strict=True)
            )
            if self._trend:
                yield f'<td data-label="trend">{self._trend.scenario(one.test)}</td>'
            yield f'<td class="boots">{boots(one)}</td>'
            began = f"{one.span[0]:{_DATE}}" if one.span else ""
            yield f'<td class="files soft">{began}</td>'
            yield f'<td class="files">{self._link(one.directory, "folder")}'
            for machine in one.machines:
                if not machine.making and (machine.directory / "console.log").exists():
                    yield f" · {self._link(machine.directory / 'console.log', 'console')}"
            yield "</td></tr>"
        yield "</tbody></table></div>"

    def _absent(self) -> Iterable[str]:
        """What did not run, a reason at a time."""
        reasons: dict[str, list[str]] = {}
        for test, why in self._not_run.items():
            reasons.setdefault(why, []).append(test)
        if reasons:
            yield "<h2>What did not run, and why</h2>"
        for why, tests in reasons.items():
            yield f"<details><summary>{esc(why)}: {len(tests)}</summary><ul>"
            yield "".join(f"<li>{esc(test)}</li>" for test in tests) + "</ul></details>"

    def _pictures(self) -> Iterable[str]:
        passed = [one for one in self._scenarios if one.passed]
        if passed:
            yield '<h2 data-over="passed">Timelines of what passed</h2>'
        for one in passed:
            about = attributes({"data-of": self._anchor(one), "data-under": "passed"})
            yield f"<details{about}><summary>{outcome_chip(one.outcome)} {esc(one.test)} "
            yield f'<span class="soft">{seconds_text(one.seconds)}</span> {boots(one)}</summary>'
            # A link to what is inside opens it; a link to the element itself would not.
            yield f'<div id="{self._anchor(one)}">'
            yield from self._evidence(one, opened=False)
            yield "</div>"
            yield "</details>"

    def _evidence(self, one: Scenario, *, opened: bool) -> Iterable[str]:
        """Pictures and links of each machine; those of snapshots' makers closed at the end."""
        if self._other is not None:
            yield from self._other.pictures(one.test)
        for machine in one.machines:
            name = esc(machine.directory.name)
            inner = [f'<p class="name">{name}</p><p>{self._files(machine)}</p>']
            if machine.timeline is not None:
                picture = _picture(one, machine, embedded=True)
                inner.append(f'<div class="picture" tabindex="0">{picture}</div>')
            else:
                inner.append(f'<p class="soft">No picture: {esc(machine.problem)}.</p>')
            inner += self._console(machine)
            if machine.making:
                yield f"<details><summary>{name}: the snapshot was made in this run</summary>"
                yield from [*inner, "</details>"]
            elif opened:
                yield "<details open><summary>timeline and evidence</summary>"
                yield from [*inner, "</details>"]
            else:
                yield from inner

    def _console(self, machine: Machine) -> Iterable[str]:
        """All of a console, for the search and for readers without the files."""
        lines = machine.story.console if machine.story is not None else []
        if not lines:
            return
        left_out = max(0, len(lines) - _CONSOLE_LINES)
        what = f"console, {count(len(lines), 'line')}"
        if left_out:
            what += f"; the first {left_out} are in console.log alone"
        yield f"<details><summary>{what}</summary>"
        yield f'<pre class="console" tabindex="0">{esc(chr(10).join(lines[left_out:]))}</pre>'
        yield "</details>"

    # Means

    def _files(self, machine: Machine) -> str:
        names = {path.name: path for path in machine.files if path.name not in _HIDDEN}
        order = [name for name in _FIRST if name in names]
        order += [name for name in names if name not in _FIRST]
        return " · ".join(self._link(names[name], name) for name in order)

    def _link(self, path: Path, label: str) -> str:
        target = quote(os.path.relpath(path, self._base))
        if path.is_dir():
            target += "/"
        return f'<a href="{html.escape(target)}">{esc(label)}</a>'

    def _anchor(self, one: Scenario) -> str:
        same = [other for other in self._scenarios if other.anchor == one.anchor]
        return one.anchor if one is same[0] else f"{one.anchor}-{same.index(one) + 1}"
