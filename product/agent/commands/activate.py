"""``activate``: let the next boot try the slot that was written."""

from __future__ import annotations

import argparse
import json
import sys

from product.agent.activate import activate
from product.agent.errors import EXIT_DONE
from product.agent.gates import BYPASSED, LABEL_GATE, WINDOW_GATE, GateContext, ask, require
from product.agent.lock import exclusive
from product.agent.node import Node
from product.agent.power import reboot_in_window


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
    with exclusive(node.paths.lock):
        if options.reboot:
            context = GateContext(node, options.config, options.force)
            verdicts = ask((WINDOW_GATE, LABEL_GATE), context)
            for verdict in verdicts:
                if verdict.result == BYPASSED:
                    _say(f"gate {verdict.gate}: bypassed ({verdict.reason})")
            require(verdicts)
        copy = not options.skip_datastore
        slot = activate(node, options.config, say=_say, copy_datastore=copy)
        if options.json:
            print(json.dumps({"activated": slot, "reboot": options.reboot}), flush=True)
        else:
            print(f"slot {slot} boots next, on trial", flush=True)
        if options.reboot:
            reboot_in_window(node, options.config, force=options.force)
    return EXIT_DONE


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
