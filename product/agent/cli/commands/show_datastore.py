"""``datastore``: list the copies of Kubernetes' datastore, or settle which one this boot uses."""

from __future__ import annotations

import argparse
import json

from product.agent.datastore.copies import asides, find_copies
from product.agent.errors import EXIT_DONE
from product.agent.node import Node


def configure(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of datastore."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "settle"),
        default="list",
        help="settle is what early boot runs, before Kubernetes starts",
    )


def run(node: Node, options: argparse.Namespace) -> int:
    """Raises AgentError."""
    if options.action == "settle":
        from product.agent.datastore.restore import settle

        options.config.require_usable()
        event = settle(node, options.config)
        if options.json:
            print(json.dumps({"event": event}))
        elif event:
            print(event)
        return EXIT_DONE
    copies, replaced = find_copies(node.paths), asides(node.paths)
    if options.json:
        shown = [{k: v for k, v in copy._asdict().items() if k != "files"} for copy in copies]
        print(json.dumps({"copies": shown, "asides": replaced}, indent=2))
        return EXIT_DONE
    for copy in copies:
        print(
            f"slot {copy.slot}: {copy.version} with Kubernetes {copy.kubernetes}, "
            f"{copy.taken_at}, {copy.size} bytes, {copy.directory}"
        )
    for path in replaced:
        print(f"put aside: {path}")
    return EXIT_DONE
