"""The trend over runs as HTML: small pictures of bars, one bar a run, and what became different."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.report.data import INCOMPLETE, PASSED, anchor
from harness.report.history import (
    FASTER,
    NOW_PASSES,
    Change,
    Record,
    Result,
    changes,
    unsteady,
)
from harness.report.markup import count, esc, seconds_text

_STEP = 6  # px from one bar to the next
_HEIGHT = 22
_LEAST = 3  # px of the shortest bar
_GOOD = (NOW_PASSES, FASTER)


class Trend:
    """Several runs, the last of which is the report's; fewer than two have no trend."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.changes = list(changes(records))
        self._kinds = {one.test: one.kind for one in self.changes}

    def __bool__(self) -> bool:
        return len(self._records) > 1

    def kind(self, test: str) -> str:
        """How a scenario differs from the runs before; empty where it does not."""
        return self._kinds.get(test, "")

    def scenario(self, test: str) -> str:
        """A scenario's bars: its seconds in each run, in the colour of its verdict."""
        return bars([(one, one.scenarios.get(test)) for one in self._records], test)

    def section(self) -> Iterable[str]:
        """All runs, and what became different in the last one."""
        records = self._records
        if not records:
            return
        yield '<h2 id="trend">Trend over runs</h2>'
        if not self:
            yield '<p class="soft">This is the first run of the history: a trend needs two.</p>'
            return
        first, last = records[0], records[-1]
        yield '<div class="block over-runs"><div class="trends">'
        most = max(len(one.scenarios) for one in records) or 1
        yield _figure(
            "scenarios that passed and did not", f"{last.passed} of {len(last.scenarios)} passed",
            _stacked([(one.passed, len(one.scenarios)) for one in records], most, records),
        )  # fmt: skip
        longest = max(one.seconds for one in records) or 1.0
        yield _figure(
            "all scenarios together", seconds_text(last.seconds),
            _plain([one.seconds for one in records], longest, records),
        )  # fmt: skip
        yield "</div>"
        yield (
            f'<p class="soft">{count(len(records), "run")}, from {esc(first.started)} (commit '
            f"<code>{esc(first.commit[:12])}</code>) to this one. A run of other scenarios has "
            "another height. Seconds are without waiting and snapshots.</p>"
        )
        worse = [one for one in self.changes if one.kind not in _GOOD]
        better = [one for one in self.changes if one.kind in _GOOD]
        yield f"<h3>Regressions: {len(worse) or 'none'}</h3>"
        yield from _listed(worse)
        if better:
            yield f"<h3>Better: {len(better)}</h3>"
            yield from _listed(better)
        if turns := unsteady(records):
            yield f'<h3>Unsteady: {len(turns)}</h3><ul class="changes">'
            for test, number in turns.items():
                yield f"<li>{esc(test)}: its verdict changed {number} times</li>"
            yield "</ul>"
        yield "</div>"


def bars(past: Sequence[tuple[Record, Result | None]], name: str) -> str:
    """A bar a run; a run without the scenario is a gap."""
    times = [one.seconds for _, one in past if one is not None and one.seconds is not None]
    longest = max(times, default=0.0) or 1.0
    paths: dict[str, list[str]] = {}
    said = []
    for place, (record, one) in enumerate(past):
        if one is None:
            continue
        kind = {PASSED: "passed", INCOMPLETE: "odd"}.get(one.outcome, "failed")
        paths.setdefault(kind, []).append(_bar(place, (one.seconds or 0.0) / longest))
        seconds = "" if one.seconds is None else f", {one.seconds:.1f} s"
        said.append(f"{record.commit[:8]}: {one.outcome}{seconds}")
    drawn = "".join(f'<path class="{kind}" d="{"".join(d)}"/>' for kind, d in paths.items())
    return _svg(len(past), drawn, f"{name} in the last runs", said)


def _plain(values: Sequence[float], most: float, records: Sequence[Record]) -> str:
    path = "".join(_bar(place, value / most) for place, value in enumerate(values))
    said = [
        f"{one.started}, {one.commit[:8]}: {seconds_text(value)}"
        for one, value in zip(records, values, strict=True)
    ]
    return _svg(len(values), f'<path class="plain" d="{path}"/>', "seconds of each run", said)


def _stacked(values: Sequence[tuple[int, int]], most: int, records: Sequence[Record]) -> str:
    """What did not pass stands on what did, at least a pixel high."""
    good, bad, said = [], [], []
    for place, ((passed, whole), record) in enumerate(zip(values, records, strict=True)):
        good.append(_bar(place, passed / most))
        if passed < whole:
            below = _top(passed / most)
            above = min(below - 2, _top(whole / most))
            bad.append(f"M{_x(place)} {below:.1f}V{max(0.0, above):.1f}")
        said.append(f"{record.started}, {record.commit[:8]}: {passed} of {whole} passed")
    drawn = f'<path class="passed" d="{"".join(good)}"/><path class="failed" d="{"".join(bad)}"/>'
    return _svg(len(values), drawn, "verdicts of each run", said)


def _bar(place: int, share: float) -> str:
    return f"M{_x(place)} {_HEIGHT}V{_top(share):.1f}"


def _x(place: int) -> int:
    return place * _STEP + _STEP // 2


def _top(share: float) -> float:
    return _HEIGHT - _LEAST - share * (_HEIGHT - _LEAST)


def _svg(runs: int, drawn: str, label: str, said: Sequence[str]) -> str:
    wide = runs * _STEP
    return (
        f'<svg class="spark" role="img" viewBox="0 0 {wide} {_HEIGHT}" width="{wide}" '
        f'height="{_HEIGHT}"><title>{esc(label)}\n{esc(chr(10).join(said))}</title>{drawn}</svg>'
    )


def _figure(label: str, value: str, picture: str) -> str:
    return f"<div>{picture}<b>{esc(value)}</b><span>{esc(label)}</span></div>"


def _listed(found: Sequence[Change]) -> Iterable[str]:
    if not found:
        return
    yield '<ul class="changes">'
    for one in found:
        kind = "passed" if one.kind in _GOOD else "failed" if one.kind == "now fails" else ""
        yield (
            f'<li><span class="outcome {kind}">{esc(one.kind)}</span> '
            f'<a href="#{anchor(one.test)}">{esc(one.test)}</a>: {esc(one.why)}</li>'
        )
    yield "</ul>"
