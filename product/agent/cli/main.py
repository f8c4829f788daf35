"""The command line: ``kubesolo-update COMMAND [FLAGS]``.

Exit codes: 0 up to date or done, 1 failed, 2 wrong usage, 10 an update is available (check, and
apply --dry-run), 11 refused by a gate, 12 another agent is at work. Errors go to stderr as
``error:`` and ``hint:``, or with --json as an object with ``error`` on stdout, which is the only
one there. Output that cannot be written is an error, too, once the command has done its work;
a reader who has seen enough is none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from types import ModuleType

from product.agent.cli.output import overview, print_error, print_version
from product.agent.cli.parser import COMMANDS, CONFIG_FLAGS, MODULES, build_parser
from product.agent.cli.streams import GuardedStream, guarded
from product.agent.config import Config, load_config
from product.agent.errors import EXIT_AVAILABLE, EXIT_DONE, AgentError, UsageError
from product.agent.node import Node
from product.agent.system.paths import Paths
from product.errors import KubesoloError


def main(argv: Sequence[str], node: Node | None = None) -> int:
    """Run one command and return its exit code."""
    with guarded() as out:
        try:
            code = _run(argv, node or Node(Paths()), out)
        except KeyboardInterrupt:
            code = 130
        out.raises = False
        out.flush()
        if out.failure is None or isinstance(out.failure, BrokenPipeError):
            return code
        if code not in (EXIT_DONE, EXIT_AVAILABLE):
            # It has said what is wrong.
            return code
        reason = out.failure.strerror
        error = AgentError(f"cannot write to standard output: {reason}", code="output-unwritable")
        return print_error(error, argv[0], as_json=False)


def _run(argv: Sequence[str], node: Node, out: GuardedStream) -> int:
    name = argv[0] if argv else ""
    as_json = "--json" in argv
    if name in ("-h", "--help"):
        print(overview())
        return EXIT_DONE
    try:
        if name == "--version":
            print_version(node, as_json=as_json)
            return EXIT_DONE
        if name not in COMMANDS:
            raise UsageError(
                f"unknown command {name!r}" if name else "no command is given",
                hint=f"commands are {', '.join(COMMANDS)}",
            )
        module = import_module(f"product.agent.cli.commands.{MODULES.get(name, name)}")
        options = build_parser(name, module).parse_args(argv[1:])
        out.raises = getattr(module, "STREAMS", False)
        return _perform(module, node, options)
    except SystemExit as ended:
        # argparse has printed the help.
        return int(ended.code or 0)
    except KubesoloError as error:
        return print_error(error, name, as_json)
    except OSError as error:
        if error is out.failure:
            return EXIT_DONE
        where = f" {error.filename}" if error.filename else ""
        message = f"{name} failed:{where}: {error.strerror or error}"
        return print_error(AgentError(message, code="system-error"), name, as_json)


def _perform(module: ModuleType, node: Node, options: argparse.Namespace) -> int:
    if options.state:
        node.paths.state = options.state
    options.load_config = partial(_config, node, options)
    # A disk that does not answer must not keep a support bundle from being written.
    if not getattr(module, "LOADS_CONFIG", False):
        options.config = options.load_config()
        for note in options.config.unknown:
            print(f"note: {note}", file=sys.stderr)
    code = module.run(node, options)
    assert isinstance(code, int)
    return code


def _config(node: Node, options: argparse.Namespace) -> Config:
    flags = {flag: getattr(options, flag) for flag, *_ in CONFIG_FLAGS}
    return load_config(options.conf or node.paths.config, flags)
