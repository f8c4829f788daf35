"""What the command line prints: results, progress, errors and the overview."""

from __future__ import annotations

import json
import sys

from product.agent.cli.parser import COMMANDS
from product.agent.errors import EXIT_FAILED
from product.agent.node import Node
from product.errors import KubesoloError


def print_result(text: str, document: object, *, as_json: bool) -> None:
    """A command's result on stdout: for people, or as one JSON value."""
    print(json.dumps(document, indent=2) if as_json else text, flush=True)


def print_progress(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: KubesoloError, command: str, as_json: bool) -> int:
    """The error on stderr, with ``as_json`` also as an object on stdout, unless the command's
    result is there; the exit code."""
    if as_json and not error.told:
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


def print_version(node: Node, *, as_json: bool) -> None:
    """The release that this program came with. Raises BootInfoError off a node."""
    version, architecture = node.release
    text = f"kubesolo-update {version} ({architecture})"
    print_result(text, {"version": version, "architecture": architecture}, as_json=as_json)


def overview() -> str:
    """Every command with its summary, and the exit codes."""
    lines = ["usage: kubesolo-update COMMAND [FLAGS]", ""]
    lines += [f"  {name:<12} {summary}" for name, summary in COMMANDS.items()]
    lines += ["", "kubesolo-update COMMAND --help shows a command's flags, --version the release."]
    lines.append(
        "exit codes: 0 up to date or done, 1 failed, 2 usage, 10 update available, "
        "11 refused by a gate, 12 busy"
    )
    return "\n".join(lines)
