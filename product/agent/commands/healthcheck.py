"""``healthcheck``: run the checks once, changing nothing; with ``--boot``, judge this boot."""

from __future__ import annotations

import argparse
import json

from product.agent.errors import EXIT_DONE, EXIT_FAILED
from product.agent.health import HealthContext, Result, all_pass, run_once
from product.agent.node import Node
from product.errors import KubesoloError


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
        return _judge_boot(node, options)
    env = node.boot_env.read()
    context = HealthContext(node, options.config, unconfirmed=not env.confirms(node.boot.slot))
    results = run_once(context)
    healthy = all_pass(results)
    _print(results, healthy, as_json=options.json)
    return EXIT_DONE if healthy else EXIT_FAILED


def _judge_boot(node: Node, options: argparse.Namespace) -> int:
    from product.agent.lock import exclusive
    from product.agent.trial import BootTrial

    try:
        # Whoever else is at work, a boot that nobody judges would be given up in the end.
        with exclusive(node.paths.lock, wait=True):
            return BootTrial(node, options.config).run()
    except (KubesoloError, OSError) as error:
        # Whoever watches the console would otherwise wait for a line that never comes.
        node.print_console(f"kubesolo-update: unhealthy cause=agent reason={error}")
        raise


def _print(results: list[Result], healthy: bool, *, as_json: bool) -> None:
    if as_json:
        checks = [result._asdict() for result in results]
        print(json.dumps({"healthy": healthy, "checks": checks}, indent=2))
        return
    for result in results:
        print(f"{result.name}: {result.result} ({result.reason})")
