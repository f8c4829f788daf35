"""``history``: what the agent did, the latest last."""

from __future__ import annotations

import argparse
import json

from product.agent.errors import EXIT_DONE
from product.agent.node import Node
from product.agent.records.history import History


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(node: Node, options: argparse.Namespace) -> int:
    """A node that did nothing yet has an empty history."""
    entries = History(node.paths.history).entries()
    if options.json:
        print(json.dumps(entries, indent=2))
        return EXIT_DONE
    for entry in entries:
        target = f" {entry['to_version']}" if entry.get("to_version") else ""
        reason = f" ({entry['reason']})" if entry.get("reason") else ""
        bypassed = f" (bypassed {entry['bypassed']})" if entry.get("bypassed") else ""
        source = f" from {entry['source']}" if entry.get("source") else ""
        outcome = f"{entry.get('outcome')}{source}{reason}{bypassed}"
        print(f"{entry.get('time')} {entry.get('event')}{target}: {outcome}")
        if entry.get("evidence"):
            print(f"  its last console: {entry['evidence']}")
    return EXIT_DONE
