"""``activate``: let the next boot try the slot that was written."""

from __future__ import annotations

import argparse

from product.agent.cli.output import print_progress, print_result
from product.agent.errors import EXIT_DONE
from product.agent.node import Node
from product.agent.update.operations import ActivateResult, activate_release


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of activate."""
    parser.add_argument("--reboot", action="store_true", help="reboot into it now")
    parser.add_argument(
        "--force", action="store_true", help="pass the maintenance window and the block label"
    )
    parser.add_argument(
        "--skip-datastore", action="store_true", help="do not copy Kubernetes' datastore first"
    )


def run(node: Node, options: argparse.Namespace) -> int:
    """With --reboot, outside the window or where the node's label forbids it nothing is armed
    either. Progress goes to stderr."""

    def announce(result: ActivateResult) -> None:
        document = {"activated": result.activated, "reboot": result.reboot}
        print_result(result.as_text(), document, as_json=options.json)

    activate_release(
        node,
        options.config,
        say=print_progress,
        reboot=options.reboot,
        force=options.force,
        copy_datastore=not options.skip_datastore,
        announce=announce,
    )
    return EXIT_DONE
