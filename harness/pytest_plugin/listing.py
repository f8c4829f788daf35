"""The scenarios of a project as data, for the command line's ``list``.

``--harness-list FILE`` (with ``--collect-only``) writes a JSON list of objects: ``test`` (node id
without its architecture), ``tier``, ``core_arch``, ``arch`` (those that can run it), ``needs``
(abilities, by name), ``backend``, ``says`` (the docstring's first line) and ``runs``: what can
run on this host, each with ``id`` (node id), ``core`` (whether it is in the core there) and
``cpu_seconds`` (recorded; null where nothing was).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from harness.pytest_plugin.scenario import ANY, BACKENDS, FULL
from harness.pytest_plugin.selection import ARCH, lacking
from harness.pytest_plugin.tier import in_core, recorded

# Fields of a machine whose values are abilities of a target, too.
_FIELDS = ("firmware", "watchdog_device")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the list goes; for the command line alone."""
    parser.getgroup("harness").addoption("--harness-list", type=Path, help=argparse.SUPPRESS)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the list of what was collected."""
    path = session.config.getoption("--harness-list")
    if path is None:
        return
    found: dict[str, dict[str, Any]] = {}
    costs = recorded(session.config)
    for item in session.items:
        if (mark := item.get_closest_marker("scenario")) is None:
            continue
        arch = getattr(getattr(item, "callspec", None), "params", {}).get(ARCH)
        test = _without(item.nodeid, str(arch)) if arch else item.nodeid
        needs = {str(name) for one in item.iter_markers("needs") for name in one.args}
        for machine in item.iter_markers("machine"):
            needs |= {str(machine.kwargs[name]) for name in _FIELDS if name in machine.kwargs}
        says = str(getattr(getattr(item, "obj", None), "__doc__", None) or "").strip()
        row = found.setdefault(
            test,
            {
                "test": test,
                "tier": mark.kwargs.get("tier", FULL),
                "core_arch": str(mark.kwargs.get("core_arch", ANY)),
                "arch": [],
                "needs": sorted(needs),
                "backend": sorted(mark.kwargs.get("backend", BACKENDS)),
                "says": says.partition("\n")[0],
                "runs": [],
            },
        )
        if lacking(item):
            continue
        if arch:
            row["arch"].append(str(arch))
        cost = costs.get(item.nodeid)
        row["runs"].append({"id": item.nodeid, "core": in_core(item), "cpu_seconds": cost})
    path.write_text(json.dumps(list(found.values()), indent=1) + "\n")


def _without(identity: str, arch: str) -> str:
    """A node id without the architecture among its parameters."""
    name, _, rest = identity.partition("[")
    others = [part for part in rest.removesuffix("]").split("-") if part != arch]
    return f"{name}[{'-'.join(others)}]" if others else name
