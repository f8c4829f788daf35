"""Commands and flags: the parser of kubesolo-update."""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import NoReturn

from product.agent.config import CHOICES
from product.agent.errors import UsageError

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
    "logs": "show what this boot's services said, or an earlier boot's",
    "support": "write a bundle for whoever helps, without secrets",
}
# The module of a command where it is not the command's own name, which that of an operation has.
MODULES = {
    "rollback": "roll_back",
    "status": "show_status",
    "history": "show_history",
    "quarantine": "edit_quarantine",
    "datastore": "show_datastore",
    "logs": "show_logs",
    "support": "write_support",
}

CONFIG_FLAGS = (
    ("server", str, "URL", "base URL of the release repository, or disk:LABEL/FOLDER"),
    ("registry", str, "NAME", "in its place, as registry.example.com/kubesolo-os"),
    ("tag", str, "TAG", "tag or digest in the registry, latest unless said"),
    ("channel", str, "NAME", "channel to follow"),
    ("pubkey", str, "FILE", "PEM file of the keys that may sign the first root"),
    ("maintenance_window", str, "HH:MM-HH:MM", "when to update, in local time"),
    ("healthcheck_url", str, "URL", "must answer 200 for a boot to be a good one"),
    ("auto_rollback_after", int, "N", "failed health checks before a rollback; 0 is never"),
    ("kube_system_settle", int, "SECONDS", "how long kube-system pods must have been running"),
    ("healthcheck_deadline", int, "SECONDS", "how long a boot has to become healthy"),
    ("proxy", str, "URL", "proxy to the server, as http://proxy.example.com:3128"),
    ("ca_certificates", str, "FILE", "PEM file of authorities beside the system's"),
    ("client_certificate", str, "FILE", "PEM file that proves the node to the server"),
    ("client_key", str, "FILE", "PEM file of its private key"),
    ("rate_limit", str, "RATE", "bytes a second of a download, as 500k or 2M"),
    ("cosign_key", str, "FILE", "PEM file of the key that signs with cosign"),
    ("require_cosign", str, "WHETHER", "take of a registry only what is signed so: yes, no"),
    ("datastore_restore", str, "WHEN", "put back the slot's own datastore: minor, always, never"),
)
_SOURCE = (
    "server", "registry", "tag", "channel", "pubkey", "proxy", "ca_certificates",
    "client_certificate", "client_key", "rate_limit", "cosign_key", "require_cosign",
)  # fmt: skip
_HEALTH = ("healthcheck_url", "kube_system_settle")
# What a command's help shows; every command takes all of them, so that scripts need not know.
_SHOWN: dict[str, tuple[str, ...]] = {
    "check": _SOURCE,
    "apply": (*_SOURCE, "maintenance_window", *_HEALTH),
    "activate": ("maintenance_window", *_HEALTH),
    "healthcheck": (*_HEALTH, "auto_rollback_after", "healthcheck_deadline"),
    "rollback": ("maintenance_window",),
    "status": tuple(flag for flag, *_ in CONFIG_FLAGS),
    "datastore": ("datastore_restore",),
}


class _Parser(argparse.ArgumentParser):
    """Its errors are those of the other commands, be it with --json."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help shows the flags")


def build_parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """The parser of one command, whose ``module`` adds flags of its own."""
    parser = _Parser(prog=f"kubesolo-update {name}", description=COMMANDS[name], allow_abbrev=False)
    for flag, kind, metavar, text in CONFIG_FLAGS:
        options = [f"--{flag.replace('_', '-')}"]
        if flag == "healthcheck_deadline":
            options.append("--deadline")
        parser.add_argument(
            *options,
            dest=flag,
            type=_count if kind is int else str,
            choices=CHOICES.get(flag),
            metavar=metavar,
            help=text if flag in _SHOWN.get(name, ()) else argparse.SUPPRESS,
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
