"""What the boot-time service found, for ``status``: ``/run/kubesolo/agent.json``.

Keys: ``boot_id``, ``time``, ``outcome`` (ready, unhealthy, rolled_back), ``confirmed``,
``health`` (a list of the fields of product.agent.health.checks.Result) and ``problems``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from product.agent.health.checks import Result
from product.agent.node import Node
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded, write_atomic

MAX_BYTES = 256 * 1024


def write_report(
    node: Node,
    outcome: str,
    *,
    confirmed: bool,
    results: Sequence[Result],
    problems: Sequence[str],
) -> None:
    """Leave the report of this boot. Raises OSError."""
    document = {
        "boot_id": node.boot.boot_id,
        "time": timestamp(node.clock.now()),
        "outcome": outcome,
        "confirmed": confirmed,
        "health": [result._asdict() for result in results],
        "problems": list(problems),
    }
    text = json.dumps(document, indent=2) + "\n"
    write_atomic(node.paths.report, text.encode(), mode=0o644)


def read_report(node: Node) -> dict[str, object] | None:
    """The report of this boot, if the service has finished with it."""
    try:
        document = json.loads(read_bounded(node.paths.report, MAX_BYTES).decode())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("boot_id") != node.boot.boot_id:
        return None
    return document
