"""Two runs in one report: verdicts and durations side by side, and timelines over each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.data import RunRecord, Scenario
from harness.report.history import NOW_FAILS, NOW_PASSES, compared
from harness.report.markup import attributes, boots, count, esc, names, outcome_chip, select
from harness.report.overlay import overlay

NEW, GONE = "only in this run", "only in the other run"
FAILS_OTHERWISE, OTHER_BOOTS = "fails otherwise", "other boots"
_ORDER = (NOW_FAILS, FAILS_OTHERWISE, NOW_PASSES, OTHER_BOOTS, "slower", "faster", NEW, GONE)
_FIGURE = re.compile(r"\d[\d.]*")
_BEFORE, _NOW = "other run", "this run"


@dataclass(frozen=True, slots=True)
class Pair:
    """A scenario in this run and in the other; one of them may not have it."""

    test: str
    now: Scenario | None
    before: Scenario | None

    @property
    def kinds(self) -> list[str]:
        """What is different, the gravest first."""
        if self.before is None or self.now is None:
            return [NEW if self.before is None else GONE]
        found = set()
        if self.now.passed != self.before.passed:
            found.add(NOW_PASSES if self.now.passed else NOW_FAILS)
        elif not self.now.passed and _head(self.now) != _head(self.before):
            found.add(FAILS_OTHERWISE)
        if self.now.complete and self.before.complete:
            # A snapshot that one of the runs made would be a boot more, so making is left out.
            if _boots(self.now) != _boots(self.before):
                found.add(OTHER_BOOTS)
            found.add(compared(self.now.own_seconds, self.before.own_seconds))
        return sorted(found - {""}, key=_ORDER.index)

    @property
    def timelines(self) -> Iterator[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
        """Each machine's name with the timelines that both runs have of it."""
        if self.now is None or self.before is None:
            return
        earlier = {one.directory.name: one for one in self.before.machines if not one.making}
        for one in self.now.machines:
            other = earlier.get(one.directory.name)
            if one.timeline is None or one.making or other is None or other.timeline is None:
                continue
            yield one.directory.name, [(_BEFORE, other.timeline), (_NOW, one.timeline)]


class Comparison:
    """This run's scenarios against those of another."""

    def __init__(
        self, now: Sequence[Scenario], before: Sequence[Scenario], other: RunRecord | None
    ) -> None:
        self._other = other
        these, those = ({one.test: one for one in run} for run in (now, before))
        pairs = [Pair(test, these.get(test), those.get(test)) for test in sorted({*these, *those})]
        self.pairs = sorted(pairs, key=_rank)
        self._by_test = {pair.test: pair for pair in pairs}

    def kinds(self, test: str) -> list[str]:
        """What is different about a scenario."""
        return self._by_test[test].kinds if test in self._by_test else []

    def pictures(self, test: str) -> Iterable[str]:
        """The scenario's timelines of both runs over each other."""
        pair = self._by_test.get(test)
        for name, timelines in pair.timelines if pair else ():
            picture = overlay(timelines, title=f"{name} in both runs", embedded=True)
            yield "<details open><summary>both runs over each other</summary>"
            yield f'<div class="picture" tabindex="0">{picture}</div></details>'

    def section(self, places: Mapping[str, str]) -> Iterable[str]:
        """The table; ``places`` are the anchors of this run's scenarios."""
        changed = [pair for pair in self.pairs if pair.kinds]
        yield '<h2 id="against">Against the other run</h2>'
        if self._other is not None:
            yield (
                f"<p>The other run is <b>{esc(self._other.id)}</b> of commit "
                f"<code>{esc(self._other.commit)}</code>, begun {esc(self._other.started)}.</p>"
            )
        yield (
            f"<p>{count(len(self.pairs), 'scenario')}, {len(changed)} of them different. Seconds "
            "are without waiting and snapshots.</p>"
        )
        if not self.pairs:
            return
        yield '<div class="scroll"><table class="stacked" id="pairs"><thead><tr>'
        yield "<th>different</th><th>scenario</th><th>other run</th><th>this run</th>"
        yield '<th class="number">other seconds</th><th class="number">seconds</th>'
        yield '<th class="number">difference</th><th>boots</th></tr></thead><tbody>'
        for pair in self.pairs:
            yield from _row(pair, places.get(pair.test))
        yield "</tbody></table></div>"

    def choice(self) -> str:
        """The filter's field."""
        present = {kind for pair in self.pairs for kind in pair.kinds}
        return choice(kind for kind in _ORDER if kind in present)


def choice(kinds: Iterable[str]) -> str:
    """The filter's field for what is different."""
    return select("change", "Changed", "all", [("*", "changed"), ("-", "not changed"), *kinds])


def _row(pair: Pair, place: str | None) -> Iterable[str]:
    kinds = pair.kinds
    about = {"data-change": "|".join(kinds)}
    about |= {"data-of": place, "data-under": "pairs"} if place else {"data-gone": "1"}
    chips = " ".join(f'<span class="outcome {_tone(kind)}">{esc(kind)}</span>' for kind in kinds)
    yield f"<tr{attributes(about)}><td>{chips}</td>"
    either = pair.now or pair.before
    group, name = names(pair.test, either.arch if either else "")
    shown = f'<a href="#{place}">{esc(name)}</a>' if place else esc(name)
    yield f'<td class="name-of">{shown}<span class="group">{esc(group)}</span></td>'
    for label, one in ((_BEFORE, pair.before), (_NOW, pair.now)):
        chip = outcome_chip(one.outcome) if one else '<span class="soft">not run</span>'
        yield f'<td data-label="{label}">{chip}</td>'
    times = [one.own_seconds if one and one.complete else None for one in (pair.before, pair.now)]
    labels = ("other seconds", "seconds")
    for label, time in zip(labels, times, strict=True):
        said = "" if time is None else f"{time:.1f}"
        yield f'<td class="number" data-label="{label}">{said}</td>'
    before, now = times
    difference = "" if before is None or now is None else f"{now - before:+.1f}"
    yield f'<td class="number" data-label="difference">{difference}</td><td class="boots">'
    if pair.now and pair.before and _boots(pair.now) != _boots(pair.before):
        yield f'{boots(pair.before)}<span class="soft">→</span> {boots(pair.now)}'
    elif either:
        yield boots(either)
    yield "</td></tr>"


def _tone(kind: str) -> str:
    if kind in (NOW_FAILS, FAILS_OTHERWISE):
        return "failed"
    return "passed" if kind in (NOW_PASSES, "faster") else ""


def _rank(pair: Pair) -> tuple[int, str]:
    kinds = pair.kinds
    return (_ORDER.index(kinds[0]) if kinds else len(_ORDER)), pair.test


def _head(one: Scenario) -> str:
    """A failure's first line, without figures: how long a wait took differs each time."""
    return _FIGURE.sub("#", one.failure.strip().partition("\n")[0])


def _boots(one: Scenario) -> list[list[str]]:
    """Slot and counter of each boot of each machine."""
    return [
        [str(boot) for boot in machine.story.decided_boots]
        for machine in one.machines
        if machine.story is not None and not machine.making
    ]
