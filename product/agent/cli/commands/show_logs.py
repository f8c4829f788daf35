"""``logs``: what services, stages, kernel and pods said, of this boot or an earlier one."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterable

from product.agent.errors import EXIT_DONE, AgentError, UsageError
from product.agent.logs import boots as index
from product.agent.logs import lines
from product.agent.logs.audit import SERVICE as AUDIT
from product.agent.logs.audit import audit_lines
from product.agent.logs.boots import BootLog, Crash
from product.agent.logs.follow import Follower
from product.agent.logs.lines import Line
from product.agent.node import Node
from product.agent.system.clock import timestamp

FOLLOW_SECONDS = 0.5
# Ends when nobody reads any more.
STREAMS = True


class NoSuchServiceError(AgentError):
    """A boot has no log of that name."""

    code = "no-such-service"


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of logs."""
    parser.add_argument("--boot", type=_boot, default=0, metavar="N", help=_boot.__doc__)
    parser.add_argument(
        "--service",
        metavar="NAME",
        help="one alone: a service, boot, kernel, audit, NAMESPACE/POD",
    )
    parser.add_argument("--lines", type=_lines, metavar="N", help="the last N lines alone")
    parser.add_argument(
        "--follow", action="store_true", help="go on with what this boot's services say from now on"
    )
    parser.add_argument("--list", action="store_true", help="list the boots that have logs")


def _boot(text: str) -> int:
    """a boot's number, 0 for this boot, -1 for the one before it"""
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a boot")
    return int(text)


def _lines(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def run(node: Node, options: argparse.Namespace) -> int:
    """Raises AgentError."""
    if options.follow and (options.boot or options.json or options.list):
        raise UsageError("--follow shows this boot's lines: without --boot, --json and --list")
    boots = index.list_boots(node.paths)
    crashes = index.list_crashes(node.paths)
    if options.list:
        _list(boots, crashes, options)
        return EXIT_DONE
    boot = index.find_boot(boots, options.boot)
    left = index.crashes_of(crashes, boots, boot)
    follower = Follower(boot.folder) if options.follow else None
    found = _found(node, boot, options.service)
    if options.lines is not None:
        found = deque(found, options.lines)
    if options.json:
        document = {
            "boot": _described(boot),
            "lines": [line._asdict() for line in found],
            "crashes": [
                {**crash._asdict(), "text": index.crash_text(node.paths, crash)} for crash in left
            ],
        }
        print(json.dumps(document))
        return EXIT_DONE
    last: deque[Line] = deque(maxlen=100)
    for line in found:
        print(_printed(line))
        last.append(line)
    for crash in left if options.service is None else ():
        print(f"--- {crash.path}: {crash.reason}")
        print(index.crash_text(node.paths, crash).rstrip("\n"))
    sys.stdout.flush()
    if follower is not None:
        _follow(node, follower, options.service, set(last))
    return EXIT_DONE


def _printed(line: Line) -> str:
    return f"{line.time or '-'} {line.service}: {line.text}"


def _follow(node: Node, follower: Follower, service: str | None, known: set[Line]) -> None:
    """Until somebody interrupts it; ``known`` may come again, and is printed already."""
    while True:
        for line in follower.poll():
            if line not in known and service in (None, line.service):
                print(_printed(line), flush=True)
        known.clear()
        node.clock.pause(FOLLOW_SECONDS)


def _found(node: Node, boot: BootLog, service: str | None) -> Iterable[Line]:
    """Raises NoSuchServiceError."""
    pods = f"{node.paths.own_logs}/pods"
    if service is not None and "/" in service:
        known = lines.pods_in(pods)
        if service not in known:
            raise NoSuchServiceError(
                f"there is no log of a pod {service}",
                hint=f"pods that have one: {', '.join(known) or 'none'}",
            )
        return lines.pod_lines(pods, service)
    if service == AUDIT:
        return audit_lines(f"{node.paths.own_logs}/{AUDIT}")
    known = lines.services_of(boot.folder)
    if service is not None and service not in (*known, lines.BOOT):
        raise NoSuchServiceError(
            f"boot {boot.number} has no log of {service}",
            hint=f"it has: {', '.join([lines.BOOT, *known])}",
        )
    return lines.boot_lines(boot.folder, service)


def _described(boot: BootLog) -> dict[str, object]:
    return {
        "number": boot.number,
        "boot_id": boot.boot_id,
        "slot": boot.slot,
        "version": boot.version,
        "started": timestamp(boot.started),
    }


def _list(boots: list[BootLog], crashes: list[Crash], options: argparse.Namespace) -> None:
    if options.json:
        document = {
            "boots": [_described(boot) for boot in boots],
            "crashes": [crash._asdict() for crash in crashes],
        }
        print(json.dumps(document, indent=2))
        return
    for boot in boots:
        print(f"boot {boot.number}: {boot.version} in slot {boot.slot}, {timestamp(boot.started)}")
        for crash in index.crashes_of(crashes, boots, boot):
            print(f"  a failed boot until the next: {crash.path}: {crash.reason}")
