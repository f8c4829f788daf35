"""The core tier: which scenarios are in it, and what they may cost together.

What each scenario takes is recorded from runs, in CPU-seconds of its machines, in the file that
the ini option ``scenario_cpu_file`` names: node id to seconds. Collecting fails where those of the
core exceed ``core_cpu_seconds``, so that a newcomer displaces somebody. A core scenario that no run
has recorded yet counts as the mean of the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.pytest_plugin.run import RUN
from harness.pytest_plugin.scenario import ANY, CORE, FULL

_LIMIT = "core_cpu_seconds"
_FILE = "scenario_cpu_file"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The tier to run, and where its costs are kept."""
    group = parser.getgroup("harness")
    group.addoption(
        "--tier",
        choices=(CORE, FULL),
        default=FULL,
        help="core: what runs at every change; full: every scenario (default: full)",
    )
    group.addoption(
        "--record-cpu",
        action="store_true",
        help=f"write what each scenario took into the file of the ini option {_FILE}",
    )
    parser.addini(_FILE, "CPU-seconds of each scenario, recorded from runs (JSON)")
    parser.addini(_LIMIT, "what the core's scenarios may take together, in CPU-seconds")


def in_core(item: pytest.Item) -> bool:
    """Whether a collected item belongs to the core on its architecture."""
    mark = item.get_closest_marker("scenario")
    if mark is None or mark.kwargs.get("tier") != CORE:
        return False
    wanted = mark.kwargs.get("core_arch", ANY)
    # Only parametrized functions have a callspec; pytest's types name it for none.
    params = getattr(getattr(item, "callspec", None), "params", {})
    return bool(wanted == ANY or str(params.get("harness_arch")) == wanted)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the core within its limit, and leave out what is not in the tier that was asked for.

    Raises UsageError where the core has grown too large.
    """
    core = [item for item in items if in_core(item)]
    config.stash[RUN].core = [item.nodeid for item in core]
    limit = config.getini(_LIMIT)
    if limit:
        _require_within(float(limit), core, recorded(config), str(config.getini(_FILE)))
    if config.getoption("--tier") != CORE:
        return
    left = [i for i in items if i.get_closest_marker("scenario") and not in_core(i)]
    if left:
        config.stash[RUN].leave_out(left, "in the full tier alone; this run is of the core")
        config.hook.pytest_deselected(items=left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]


def recorded(config: pytest.Config) -> dict[str, float]:
    """Node id to CPU-seconds; empty where nothing was recorded. Raises UsageError for garbage."""
    name = str(config.getini(_FILE) or "")
    if not name:
        return {}
    path = config.rootpath / name
    try:
        document = json.loads(path.read_bytes())
        return {str(test): float(seconds) for test, seconds in document.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise pytest.UsageError(
            f"{name} cannot be read: {error}; restore it, or remove it and record it anew "
            "with --record-cpu"
        ) from None


def _require_within(
    limit: float, core: list[pytest.Item], known: Mapping[str, float], file: str
) -> None:
    costs = {item.nodeid: known[item.nodeid] for item in core if item.nodeid in known}
    mean = sum(costs.values()) / len(costs) if costs else 0.0
    unknown = [item.nodeid for item in core if item.nodeid not in known]
    total = sum(costs.values()) + mean * len(unknown)
    if total > limit:
        dearest = sorted(costs.items(), key=lambda cost: -cost[1])[:5]
        lines = "".join(f"\n  {seconds:.0f} s {test}" for test, seconds in dearest)
        raise pytest.UsageError(
            f"the core's {len(core)} scenarios take {total:.0f} CPU-seconds ({file}; "
            f"{len(unknown)} not recorded, counted as the mean), and may take {limit:.0f}: give "
            f"one the tier full, or one architecture; the dearest are{lines}"
        )


def record(config: pytest.Config, results: list[dict[str, Any]]) -> Path | None:
    """Keep what passed scenarios took, with ``--record-cpu``; the file that was written.

    Scenarios that are there no more are dropped only by hand: a run may be of a part.
    """
    name = str(config.getini(_FILE) or "")
    if not name or not config.getoption("--record-cpu"):
        return None
    known = recorded(config)
    for result in results:
        if result["outcome"] == "passed":
            known[result["test"]] = round(float(result["cpu_seconds"]), 1)
    path = config.rootpath / name
    path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    return path
