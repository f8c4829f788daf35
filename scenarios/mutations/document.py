"""``docs/mutations.md``, written from what really ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scenarios.mutations.run import Result
from scenarios.mutations.table import Mutation

_WIDTH = 240

_HEAD = """\
# Mutations: each promise broken on purpose

A scenario is worth something only if it fails when the product is broken. Each row below is one
change to the product; the whole image was built with it, and every scenario named had to fail at
its own demand, not at an import, a build or a first boot.

`./noxw -s mutate` runs all of `fixtures/mutations.toml`, `-- -k NAME` some. The results are kept in
`fixtures/mutation-results.json`, each with a digest of its mutation, and this file is written from
them; `./noxw -s table` runs no machine: it finds edits that no longer fit, scenarios that no
mutation breaks, and a file that says something else than the results. Where two defences stand
behind one promise, the mutation takes both away: with one alone the promise still holds.
"""


def render(
    mutations: Sequence[Mutation], results: Mapping[str, Result], scenarios: Sequence[str]
) -> str:
    """The document. Results of mutations that have changed since do not count."""
    current = {m.name: results[m.name] for m in mutations if _is_current(m, results)}
    parts = [_HEAD]
    caught = {o.scenario for result in current.values() for o in result.outcomes if o.caught}
    parts.append(
        f"\n{len(current)} mutations ran; {len(caught & set(scenarios))} of {len(scenarios)} "
        "scenarios were seen to fail.\n"
    )
    for mutation in mutations:
        if mutation.name in current:
            parts.append(_section(mutation, current[mutation.name]))
    if missing := [m.name for m in mutations if m.name not in current]:
        parts.append(f"\n## Not run\n\n{_items(missing)}")
    if unseen := [name for name in scenarios if name not in caught]:
        parts.append(f"\n## Scenarios not yet seen to fail\n\n{_items(unseen)}")
    return "".join(parts)


def _is_current(mutation: Mutation, results: Mapping[str, Result]) -> bool:
    result = results.get(mutation.name)
    return result is not None and result.digest == mutation.digest


def _section(mutation: Mutation, result: Result) -> str:
    files = ", ".join(dict.fromkeys(f"`{edit.file}`" for edit in mutation.edit))
    lines = [
        f"\n## {mutation.promise}\n",
        f"Mutation `{mutation.name}` ({result.arch}), in {files}: {mutation.change}.\n",
        "| scenario | how it failed | seconds |",
        "|---|---|---|",
    ]
    for outcome in result.outcomes:
        words = outcome.how if outcome.caught else f"**NOT CAUGHT**: {outcome.how}"
        lines.append(f"| `{outcome.scenario}` | {_cell(words)} | {outcome.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    short = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
    return "`" + short.replace("|", "¦").replace("`", "'") + "`"


def _items(names: Sequence[str]) -> str:
    return "".join(f"- `{name}`\n" for name in names)
