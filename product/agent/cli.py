"""The command line: ``kubesolo-update COMMAND [FLAGS]``.

Exit codes: 0 up to date or done, 1 failed, 2 wrong usage, 10 an update is available (check, and
apply --dry-run), 11 refused by a gate, 12 another agent is at work. Errors go to stderr as
``error:`` and ``hint:``, or with --json as an object with ``error`` on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from product.agent.config import CHOICES, Config, load_config
from product.agent.errors import EXIT_FAILED, EXIT_USAGE, AgentError
from product.agent.node import Node
from product.agent.paths import Paths
from product.errors import KubesoloError

# Name to summary, in the order of an update; the modules themselves are imported only when used.
COMMANDS = {
    "check": "look for a release, changing nothing",
    "apply": "write the channel's release into the passive slot",
    "activate": "let the next boot try the slot that was written",
    "healthcheck": "run the health checks; with --boot, judge this boot",
    "rollback": "return to the other slot",
    "status": "show slots, boot environment, update and problems",
    "history": "show what the agent did",
    "quarantine": "list or clear releases that rolled back",
    "datastore": "list the copies of Kubernetes' datastore; settle which one this boot uses",
}

CONFIG_FLAGS = (
    ("server", str, "URL", "base URL of the release repository"),
    ("registry", str, "NAME", "OCI registry and repository"),
    ("tag", str, "TAG", "tag in the registry"),
    ("channel", str, "NAME", "channel to follow"),
    ("pubkey", str, "FILE", "PEM file of the keys that may sign the first root"),
    ("maintenance_window", str, "HH:MM-HH:MM", "when to update, in local time"),
    ("healthcheck_url", str, "URL", "must answer 200 for a boot to be a good one"),
    ("auto_rollback_after", int, "N", "failed health checks before a rollback; 0 is never"),
    ("kube_system_settle", int, "SECONDS", "how long kube-system pods must have been running"),
    ("healthcheck_deadline", int, "SECONDS", "how long a boot has to become healthy"),
    ("datastore_restore", str, "WHEN", "put back the slot's own datastore: minor, always, never"),
)


def main(argv: Sequence[str], node: Node | None = None) -> int:
    """Run one command and return its exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else EXIT_USAGE
    name = argv[0]
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}", file=sys.stderr)
        print(f"hint: commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return EXIT_USAGE
    module = import_module(f"product.agent.commands.{name}")
    try:
        options = _parser(name, module).parse_args(argv[1:])
    except SystemExit as ended:
        # argparse has printed its message.
        return int(ended.code or 0)
    if node is None:
        node = Node(Paths())
    if options.state:
        node.paths.state = options.state
    options.config = _config(node, options)
    try:
        code = module.run(node, options)
        assert isinstance(code, int)
        return code
    except KubesoloError as error:
        return _report(error, name, options.json)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        message = f"{name} failed:{where}: {error.strerror or error}"
        return _report(AgentError(message, code="system-error"), name, options.json)
    except KeyboardInterrupt:
        return 130


def _parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"kubesolo-update {name}", description=COMMANDS[name], allow_abbrev=False
    )
    for flag, kind, metavar, text in CONFIG_FLAGS:
        options = [f"--{flag.replace('_', '-')}"]
        if flag == "healthcheck_deadline":
            options.append("--deadline")
        convert = _count if kind is int else str
        parser.add_argument(
            *options, dest=flag, type=convert, choices=CHOICES.get(flag), metavar=metavar, help=text
        )
    parser.add_argument("--conf", metavar="FILE", help="configuration file")
    parser.add_argument("--state", metavar="FILE", help="state file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    module.configure(parser)
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _config(node: Node, options: argparse.Namespace) -> Config:
    flags = {flag: getattr(options, flag) for flag, *_ in CONFIG_FLAGS}
    return load_config(options.conf or node.paths.config, flags)


def _report(error: KubesoloError, command: str, as_json: bool) -> int:
    if as_json:
        document = {
            "command": command,
            "error": {
                "code": getattr(error, "code", "failed"),
                "message": error.message,
                "hint": error.hint,
            },
        }
        print(json.dumps(document, indent=2))
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return error.exit_code or EXIT_FAILED


def _overview() -> str:
    lines = ["usage: kubesolo-update COMMAND [FLAGS]", ""]
    lines += [f"  {name:<12} {summary}" for name, summary in COMMANDS.items()]
    lines += ["", "kubesolo-update COMMAND --help shows a command's flags."]
    lines.append(
        "exit codes: 0 up to date or done, 1 failed, 2 usage, 10 update available, "
        "11 refused by a gate, 12 busy"
    )
    return "\n".join(lines)
