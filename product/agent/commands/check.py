"""``check``: is there a release? Exit 10 if so, 11 if a gate would refuse it."""

from __future__ import annotations

import argparse
import json

from product.agent.attempt import Offer, check
from product.agent.errors import EXIT_AVAILABLE, EXIT_DONE, EXIT_REFUSED
from product.agent.gates import REFUSE
from product.agent.lock import exclusive
from product.agent.node import Node


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(node: Node, options: argparse.Namespace) -> int:
    """The lock is taken for the metadata that a look at the server renews."""
    with exclusive(node.paths.lock):
        offer = check(node, options.config)
    return print_offer(node, offer, as_json=options.json)


def print_offer(node: Node, offer: Offer | None, *, as_json: bool) -> int:
    """Print what is offered; the exit code."""
    refused = [v for v in offer.verdicts if v.result == REFUSE] if offer else []
    if as_json:
        document = {
            "version": node.release.version,
            "available": offer.release.version if offer else None,
            "digest": offer.release.digest if offer else None,
            "notes": offer.release.notes if offer else None,
            "gates": [verdict._asdict() for verdict in offer.verdicts] if offer else [],
        }
        print(json.dumps(document, indent=2))
    elif offer is None:
        print(f"{node.release.version} is up to date")
    else:
        print(f"{offer.release.version} is available, {node.release.version} runs")
        for verdict in refused:
            print(f"gate {verdict.gate} refuses: {verdict.reason}")
    if offer is None:
        return EXIT_DONE
    return EXIT_REFUSED if refused else EXIT_AVAILABLE
