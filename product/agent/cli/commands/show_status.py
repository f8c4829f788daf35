"""``status``: slots, boot environment, update and problems."""

from __future__ import annotations

import argparse
import json

from product.agent.errors import EXIT_DONE
from product.agent.node import Node
from product.agent.status import as_text, collect


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(node: Node, options: argparse.Namespace) -> int:
    """Exit 0 whatever the status is; scripts read the JSON."""
    report = collect(node, options.config)
    print(json.dumps(report._asdict(), indent=2) if options.json else as_text(report))
    return EXIT_DONE
