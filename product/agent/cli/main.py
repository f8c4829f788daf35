"""The command line: ``kubesolo-update COMMAND [FLAGS]``.

Exit codes: 0 up to date or done, 1 failed, 2 wrong usage, 10 an update is available (check, and
apply --dry-run), 11 refused by a gate, 12 another agent is at work. Errors go to stderr as
``error:`` and ``hint:``, or with --json as an object with ``error`` on stdout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from product.agent.cli.output import overview, print_error
from product.agent.cli.parser import COMMANDS, CONFIG_FLAGS, MODULES, build_parser
from product.agent.config import Config, load_config
from product.agent.errors import EXIT_USAGE, AgentError
from product.agent.node import Node
from product.agent.system.paths import Paths
from product.errors import KubesoloError


def main(argv: Sequence[str], node: Node | None = None) -> int:
    """Run one command and return its exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else EXIT_USAGE
    name = argv[0]
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}", file=sys.stderr)
        print(f"hint: commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return EXIT_USAGE
    module = import_module(f"product.agent.cli.commands.{MODULES.get(name, name)}")
    try:
        options = build_parser(name, module).parse_args(argv[1:])
    except SystemExit as ended:
        # argparse has printed its message.
        return int(ended.code or 0)
    if node is None:
        node = Node(Paths())
    if options.state:
        node.paths.state = options.state
    options.load_config = partial(_config, node, options)
    # A disk that does not answer must not keep a support bundle from being written.
    if not getattr(module, "LOADS_CONFIG", False):
        options.config = options.load_config()
        for note in options.config.unknown:
            print(f"note: {note}", file=sys.stderr)
    try:
        code = module.run(node, options)
        assert isinstance(code, int)
        return code
    except KubesoloError as error:
        return print_error(error, name, options.json)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        message = f"{name} failed:{where}: {error.strerror or error}"
        return print_error(AgentError(message, code="system-error"), name, options.json)
    except KeyboardInterrupt:
        return 130


def _config(node: Node, options: argparse.Namespace) -> Config:
    flags = {flag: getattr(options, flag) for flag, *_ in CONFIG_FLAGS}
    return load_config(options.conf or node.paths.config, flags)
