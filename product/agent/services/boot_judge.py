"""What the boot-time service runs: judge this boot, without the cost of a command line.

argparse and what it imports cost an emulated node a quarter of a second at every boot, and the
service has no arguments.
"""

from __future__ import annotations

import sys

from product.agent.config import Config, load_config
from product.agent.errors import EXIT_FAILED
from product.agent.node import Node
from product.agent.system.lock import exclusive
from product.agent.update.trial import BootTrial
from product.errors import KubesoloError


def judge_boot(node: Node, config: Config) -> int:
    """Explain the last boots, then commit or give up this one; see product.agent.update.trial."""
    try:
        # Whoever else is at work, a boot that nobody judges would be given up in the end.
        with exclusive(node.paths.lock, wait=True):
            trial = BootTrial(node, config)
            code = trial.run()
        return trial.finish() if code is None else code
    except (KubesoloError, OSError) as error:
        # Whoever watches the console would otherwise wait for a line that never comes.
        node.print_console(f"kubesolo-update: unhealthy cause=agent reason={error}")
        raise


def main(node: Node | None = None) -> int:
    """Judge with the node's own configuration; the exit code."""
    node = node or Node()
    try:
        return judge_boot(node, load_config(node.paths.config))
    except KubesoloError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: healthcheck failed: {error}", file=sys.stderr)
        return EXIT_FAILED
