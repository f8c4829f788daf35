"""``healthcheck``: run the checks once, changing nothing; with ``--boot``, judge this boot."""

from __future__ import annotations

import argparse

from product.agent.cli.output import print_result
from product.agent.health.runner import check_health
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
        from product.agent.services.boot_judge import judge_boot

        return judge_boot(node, options.config)
    result = check_health(node, options.config)
    print_result(result.as_text(), result.as_document(), as_json=options.json)
    return result.exit_code
