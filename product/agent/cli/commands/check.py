"""``check``: is there a release? Exit 10 if so, 11 if a gate would refuse it."""

from __future__ import annotations

import argparse

from product.agent.cli.output import print_result
from product.agent.node import Node
from product.agent.update.looks import noted_check
from product.agent.update.operations import check_for_release


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(node: Node, options: argparse.Namespace) -> int:
    """What a server offers, without changing anything; ``status`` shows when that was."""
    result = noted_check(node, lambda: check_for_release(node, options.config))
    print_result(result.as_text(), result.as_document(), as_json=options.json)
    return result.exit_code
