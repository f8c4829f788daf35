"""``apply``: write the channel's release into the passive slot."""

from __future__ import annotations

import argparse
import json
import sys

from product.agent.attempt import Attempt
from product.agent.commands.check import print_offer
from product.agent.errors import EXIT_DONE
from product.agent.lock import exclusive
from product.agent.node import Node


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
    with exclusive(node.paths.lock):
        attempt = Attempt(node, options.config, force=options.force, say=_say)
        if options.dry_run:
            return print_offer(node, attempt.rehearse(), as_json=options.json)
        release = attempt.run()
    if options.json:
        document = {
            "version": node.release.version,
            "staged": release.version if release else None,
            "slot": node.boot.passive if release else None,
            "digest": release.digest if release else None,
            "bypassed": attempt.bypassed,
        }
        print(json.dumps(document, indent=2))
    elif release is None:
        print(f"{node.release.version} is up to date")
    else:
        print(f"{release.version} is staged in slot {node.boot.passive}")
    return EXIT_DONE


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
