"""``docs/mutations.md``, written from what really ran.

It names the day of a result and not its age: it is the same until a result or the product changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.mutations.freshness import Standing, State, count
from scenarios.mutations.table import Mutation

_WIDTH = 240

_HEAD = """\
# Mutations: each promise broken on purpose

A scenario is worth something only if it fails when the product is broken. Each row below is one
change to the product; the whole image is built with it, and every scenario named must fail at the
demand that `fixtures/mutations.toml` names for it (`noticed_by`), not in its set-up or at another
error. The same run first sees the scenario pass on the unmutated product. Where two defences stand
behind one promise, the mutation takes both away: with one alone the promise still holds. What is
native to an architecture (GRUB, the firmware's keys, early boot, the watchdog) is broken on both.

A result counts for what it was measured on: the edit, the edited files, the scenario, and the
steps, fixtures and data that it uses. Where one of them has changed since, the result is stale and
says what changed; `fixtures/mutation-results.json` keeps each with its digests.

| command | what it does |
|---|---|
| `./noxw -s mutate` | runs all, `-- -k NAME` some |
| `./noxw -s mutate -- --stale` | renews what is missing, then what is stale, the oldest first |
| `./noxw -s mutate -- --stale --minutes 120` | begins no further one after two hours |
| `./noxw -s mutate -- --list` | says how fresh each result is, and how old |
| `./noxw -s table` | runs no machine: checks what is said below, and counts what is not fresh |
| `./noxw -s table -- --require-fresh` | fails unless every result is fresh, as a release needs |

The check finds edits that no longer fit, scenarios without a mutation, results that belong to
nothing, fresh ones that show a promise unwatched, and a document that says something else.
"""


def render(
    mutations: Sequence[Mutation], found: Sequence[Standing], scenarios: Sequence[str]
) -> str:
    """The document."""
    numbers = count(found)
    seen = {s.case.scenario for s in found if s.state is State.FRESH and s.caught}
    parts = [
        _HEAD,
        f"\nOf {len(found)} results that a release needs {numbers[State.FRESH]} are fresh, "
        f"{numbers[State.STALE]} stale and {numbers[State.MISSING]} missing. "
        f"{len(seen & set(scenarios))} of {len(scenarios)} scenarios have a fresh result that "
        "shows them fail.\n",
    ]
    for mutation in mutations:
        own = [standing for standing in found if standing.case.mutation == mutation.name]
        parts.append(_section(mutation, own))
    if unseen := [name for name in scenarios if name not in seen]:
        parts.append("\n## Scenarios without a fresh result that shows them fail\n\n")
        parts.append("".join(f"- `{name}`\n" for name in unseen))
    return "".join(parts)


def _section(mutation: Mutation, found: Sequence[Standing]) -> str:
    files = ", ".join(f"`{name}`" for name in mutation.files)
    lines = [
        f"\n## {mutation.promise}\n",
        f"Mutation `{mutation.name}`, in {files}: {mutation.change}.\n",
        "| scenario | architecture | measured | how it failed | seconds |",
        "|---|---|---|---|---|",
        *(_row(standing) for standing in found),
    ]
    return "\n".join(lines) + "\n"


def _row(standing: Standing) -> str:
    case, result = standing.case, standing.result
    if result is None:
        return f"| `{case.scenario}` | {case.arch} | missing | | |"
    measured = f"{result.measured_at:%Y-%m-%d}"
    if standing.changed:
        measured += f", stale: {', '.join(standing.changed)} changed"
    words = _cell(result.verdict(standing.mutation))
    if not standing.caught:
        words = f"**NOT CAUGHT**: {words}"
    return f"| `{case.scenario}` | {case.arch} | {measured} | {words} | {result.seconds:.0f} |"


def _cell(text: str) -> str:
    short = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
    return "`" + short.replace("|", "¦").replace("`", "'") + "`"
