"""``healthcheck``: run the checks once, changing nothing; with ``--boot``, judge this boot."""

from __future__ import annotations

import argparse
import json

from product.agent.errors import EXIT_DONE, EXIT_FAILED
from product.agent.health import HealthContext, Result, all_pass, run_once
from product.agent.node import Node


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of healthcheck."""
    parser.add_argument(
        "--boot",
        action="store_true",
        help="what the boot service runs: explain the last boots, then commit or give up this one",
    )


def run(node: Node, options: argparse.Namespace) -> int:
    """Exit 0 where all checks that apply pass."""
    if options.boot:
        from product.agent.service import judge_boot

        return judge_boot(node, options.config)
    env = node.boot_env.read()
    unconfirmed = not env.confirms(node.boot.slot)
    settle = options.config.kube_system_settle
    context = HealthContext(node, options.config, unconfirmed, settle=settle)
    results = run_once(context)
    healthy = all_pass(results)
    _print(results, healthy, as_json=options.json)
    return EXIT_DONE if healthy else EXIT_FAILED


def _print(results: list[Result], healthy: bool, *, as_json: bool) -> None:
    if as_json:
        checks = [result._asdict() for result in results]
        print(json.dumps({"healthy": healthy, "checks": checks}, indent=2))
        return
    for result in results:
        print(f"{result.name}: {result.result} ({result.reason})")
