"""``apply``: write the channel's release into the passive slot."""

from __future__ import annotations

import argparse

from product.agent.cli.output import print_progress, print_result
from product.agent.errors import EXIT_DONE
from product.agent.node import Node
from product.agent.update.looks import noted_apply
from product.agent.update.operations import apply_release, rehearse


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of apply."""
    parser.add_argument(
        "--force", action="store_true", help="pass the maintenance window and the block label"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="stop before the first write, and record nothing"
    )


def run(node: Node, options: argparse.Namespace) -> int:
    """Progress goes to stderr, the outcome to stdout."""
    config, force = options.config, options.force
    if options.dry_run:
        offered = rehearse(node, config, force=force, say=print_progress)
        print_result(offered.as_text(), offered.as_document(), as_json=options.json)
        return offered.exit_code
    result = noted_apply(node, lambda: apply_release(node, config, force=force, say=print_progress))
    print_result(result.as_text(), result._asdict(), as_json=options.json)
    return EXIT_DONE
