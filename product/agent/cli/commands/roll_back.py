"""``rollback``: return to the other slot, which must hold a release that has proved itself."""

from __future__ import annotations

import argparse
from functools import partial

from product.agent.cli.output import print_progress, print_result
from product.agent.errors import EXIT_DONE
from product.agent.node import Node
from product.agent.system.lock import exclusive
from product.agent.update.gates import REBOOT_GATES, GateContext, evaluate
from product.agent.update.power import reboot_in_window, require_counted
from product.agent.update.reconcile import reconcile
from product.agent.update.record import AFTER_ROLLBACK, Record
from product.agent.update.rollback import roll_back_manually


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of rollback."""
    parser.add_argument("--reboot", action="store_true", help="reboot into it now")
    parser.add_argument("--force", action="store_true", help="pass the maintenance window")


def run(node: Node, options: argparse.Namespace) -> int:
    """With --reboot, outside the window, or inhibited, nothing is changed either.

    It goes before an update that waits for a server, which ends.
    """
    node.require_installed()
    with exclusive(node.paths.lock, urgent=True):
        if options.reboot:
            context = GateContext(node, options.config, options.force)
            require_counted(node, evaluate(REBOOT_GATES, context))
        record = Record(node)
        env = node.boot_env.read()
        reconcile(record, env, node.boot.slot)
        slot = roll_back_manually(node, record, env)
        record.run_hooks(options.config, AFTER_ROLLBACK)
        for problem in record.problems:
            print_progress(f"problem: {problem}")
        document = {"boots_next": slot, "problems": record.problems}
        announce = partial(print_result, f"slot {slot} boots next", document, as_json=options.json)
        if options.reboot:
            reboot_in_window(node, options.config, force=options.force, announce=announce)
        else:
            announce()
    return EXIT_DONE
