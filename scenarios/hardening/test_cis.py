"""Each row of the CIS Kubernetes Benchmark is on a node as docs/cis.md says."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.hardening.cis import Row, load
from scenarios.hardening.held import Facts
from scenarios.k8s.conftest import images, kubectl_program  # noqa: F401
from scenarios.kubernetes import MACHINE, begin

pytestmark = pytest.mark.machine(**MACHINE)


def wrong(row: Row, facts: Facts) -> str | None:
    """Why the row is not as it claims; None where it is."""
    failures = [failure for check in row.checks if (failure := facts.failure(check))]
    if row.result == "deviation":
        holds = row.checks and not failures
        return f"{row.number} is called a deviation, and all its checks hold" if holds else None
    return f"{row.number} {row.title}: {'; '.join(failures)}" if failures else None


@scenario()
def test_each_row_of_the_benchmark_is_as_the_page_says(node: Node) -> None:
    cluster = begin(node)
    rows = load().row
    facts = Facts(node, cluster, node.own_address, [check for row in rows for check in row.checks])
    found = [text for row in rows if (text := wrong(row, facts))]
    assert found == []
