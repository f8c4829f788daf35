"""``quarantine``: list the releases that rolled back, or let one be applied again."""

from __future__ import annotations

import argparse
import json

from product.agent.errors import EXIT_DONE, AgentError, UsageError
from product.agent.node import Node
from product.agent.records.quarantine import Quarantine
from product.agent.system.lock import exclusive


def configure(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of quarantine."""
    parser.add_argument("action", nargs="?", choices=("list", "clear"), default="list")
    parser.add_argument("digest", nargs="?", help="the release's digest, or its first 8 digits")
    parser.add_argument("--all", action="store_true", help="clear every release")


def run(node: Node, options: argparse.Namespace) -> int:
    """Raises AgentError for a digest that is not on the list."""
    quarantine = Quarantine(node.paths.quarantine)
    if options.action == "list":
        _list(quarantine, as_json=options.json)
        return EXIT_DONE
    if bool(options.digest) == options.all:
        raise UsageError("quarantine clear takes either a digest or --all")
    with exclusive(node.paths.lock):
        if options.all:
            quarantine.clear_all()
        elif not quarantine.clear(options.digest):
            raise AgentError(
                f"{options.digest} names no quarantined release",
                hint="kubesolo-update quarantine lists them",
                code="not-quarantined",
            )
    return EXIT_DONE


def _list(quarantine: Quarantine, *, as_json: bool) -> None:
    entries = quarantine.entries()
    if as_json:
        print(json.dumps({digest: entry._asdict() for digest, entry in entries.items()}, indent=2))
        return
    for digest, entry in entries.items():
        print(f"{digest} {entry.version} since {entry.since}: {entry.reason}")
