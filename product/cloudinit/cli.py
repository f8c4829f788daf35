"""``kubesolo-config``: check and try out first-boot configuration, on a host or on the node.

Exit codes: 0 done, 1 a file has errors or cannot be read, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from product.cloudinit.errors import CloudInitError, InvalidFileError, Problem
from product.errors import KubesoloError

EXIT_FAILED = 1
EXIT_USAGE = 2
KINDS = ("user-data", "network-config", "meta-data")
# More than any document may have: its loader says so.
_MAX_READ = 1024 * 1024
_NETWORK = re.compile(r"^\s*(network|version|ethernets|bonds|vlans)\s*:", re.MULTILINE)
_META = re.compile(r"^\s*(instance-id|local-hostname)\s*:", re.MULTILINE)


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    _print_anything()
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        # argparse has printed its message.
        return int(ended.code or 0)
    if not options.command:
        parser.print_usage(sys.stderr)
        return EXIT_USAGE
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except InvalidFileError as error:
        for problem in error.problems:
            print(problem)
        return EXIT_FAILED
    except KubesoloError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever reads has seen enough.
        _drop_output()
        return EXIT_FAILED
    except OSError as error:
        where = f"{error.filename}" if error.filename else "the output"
        print(f"error: {where} cannot be written: {error.strerror or error}", file=sys.stderr)
        print("hint: give it another place", file=sys.stderr)
        _drop_output()
        return EXIT_FAILED
    return code


def _drop_output() -> None:
    """Leave nothing to flush, which would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_anything() -> None:
    """Let a terminal that lacks a letter show its code; the files are UTF-8 everywhere."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubesolo-config",
        description="Check first-boot configuration, and show what a node makes of it.",
        epilog="exit codes: 0 done, 1 a file has errors or cannot be read, 2 wrong usage",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    validate = commands.add_parser(
        "validate", help="say what is wrong with files", allow_abbrev=False
    )
    validate.add_argument("files", nargs="+", metavar="FILE", help="a file, or a seed's folder")
    validate.add_argument(
        "--kind", choices=KINDS, help="what FILE is; else its name and content say"
    )
    validate.add_argument(
        "--annotate", action="store_true", help="print FILE with its errors marked"
    )
    validate.add_argument("--json", action="store_true", help="print one JSON object")
    validate.set_defaults(run=_validate)

    render = commands.add_parser(
        "render", help="print the files that a node would get", allow_abbrev=False
    )
    render.add_argument("file", metavar="FILE", help="user-data")
    render.add_argument("--network-config", metavar="FILE", help="network-config of the same seed")
    render.add_argument("--meta-data", metavar="FILE", help="meta-data of the same seed")
    render.add_argument(
        "--payload-settings", metavar="NAME,...",
        help="settings that the image's Kubernetes knows; without it, all",
    )  # fmt: skip
    render.add_argument("--show-secrets", action="store_true", help="print files of mode 0600, too")
    render.add_argument("--json", action="store_true", help="print one JSON object")
    render.set_defaults(run=_render)

    show = commands.add_parser(
        "show", help="on a node: what was found and applied", allow_abbrev=False
    )
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.add_argument("--root", default="", help=argparse.SUPPRESS)
    show.set_defaults(run=_show)

    password = commands.add_parser(
        "boot-password", help="make the hash of a password for the boot menu", allow_abbrev=False,
        description="Ask for a password twice, or read a line from a pipe, and print its hash for "
        "security.boot_password of user-data.",
    )  # fmt: skip
    password.set_defaults(run=_boot_password)
    return parser


class _Verdict(NamedTuple):
    file: str
    kind: str
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def _validate(options: argparse.Namespace) -> int:
    verdicts = []
    for path in _expanded(options.files):
        data = _read(path)
        kind = options.kind or guess_kind(path, data)
        verdict = _judge(path, kind, data)
        verdicts.append(verdict)
        if options.json:
            continue
        if options.annotate and verdict.problems:
            print(_annotated(data, verdict.problems), end="")
        else:
            for problem in verdict.problems:
                print(problem)
        for note in verdict.notes:
            print(f"note: {note}")
        if not verdict.problems:
            print(f"{path}: valid {kind}")
    if options.json:
        files = [
            {
                "file": verdict.file,
                "kind": verdict.kind,
                "valid": not verdict.problems,
                "problems": [_entry(problem) for problem in verdict.problems],
                "notes": [_entry(note) for note in verdict.notes],
            }
            for verdict in verdicts
        ]
        print(json.dumps({"files": files}, indent=2))
    return EXIT_FAILED if any(verdict.problems for verdict in verdicts) else 0


def _expanded(paths: Sequence[str]) -> list[str]:
    """A folder stands for the files of the seed in it. Raises CloudInitError."""
    found = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        files = [os.path.join(path, kind) for kind in KINDS]
        there = [file for file in files if os.path.isfile(file)]
        if not there:
            raise CloudInitError(
                f"the folder {path} holds none of {', '.join(KINDS)}",
                hint="name a file, or the folder of a seed",
            )
        found += there
    return found


def _judge(path: str, kind: str, data: bytes) -> _Verdict:
    from product.cloudinit import load
    from product.cloudinit.network import Network

    loaders: dict[str, Callable[[bytes, str], load.UserData | Network | load.MetaData]] = {
        "user-data": load.load_user_data,
        "network-config": load.load_network,
        "meta-data": load.load_meta_data,
    }
    try:
        found = loaders[kind](data, path)
    except InvalidFileError as error:
        return _Verdict(path, kind, error.problems, ())
    return _Verdict(path, kind, (), found.notes)


def guess_kind(path: str, data: bytes) -> str:
    """What a file is: by its name, else by how it begins."""
    name = os.path.basename(path).lower().replace("_", "-")
    for kind in KINDS:
        if kind in name:
            return kind
    text = data[:65536].decode("utf-8", "replace").lstrip("\ufeff")
    if text.startswith("#cloud-config"):
        return "user-data"
    if _META.search(text):
        return "meta-data"
    return "network-config" if _NETWORK.search(text) else "user-data"


def _annotated(data: bytes, problems: Sequence[Problem]) -> str:
    from product.cloudinit.annotate import annotate
    from product.cloudinit.document import read_text

    try:
        text = read_text(data, problems[0].file)
    except InvalidFileError:
        # No text that could be shown; the list of errors can.
        text = ""
    return annotate(text, problems)


def _entry(problem: Problem) -> dict[str, object]:
    return {key: value for key, value in problem._asdict().items() if key != "file"}


def _render(options: argparse.Namespace) -> int:
    from product.cloudinit.load import load_meta_data, load_network, load_user_data
    from product.cloudinit.plan import Plan, plan_network, plan_user_data

    problems: list[Problem] = []
    loaded: list[object] = []
    for path, loader in (
        (options.file, load_user_data),
        (options.network_config, load_network),
        (options.meta_data, load_meta_data),
    ):
        try:
            loaded.append(loader(_read(path), path) if path else None)
        except InvalidFileError as error:
            problems += error.problems
    if problems:
        for problem in problems:
            print(problem)
        return EXIT_FAILED
    user_data, network, meta_data = loaded
    known = options.payload_settings
    plan: Plan = plan_user_data(
        user_data,  # type: ignore[arg-type]
        payload_settings=None if known is None else frozenset(re.split(r"[,\s]+", known.strip())),
        local_hostname=getattr(meta_data, "local_hostname", None),
        network_config=network is not None,
    )
    if network is not None:
        more = plan_network(network)  # type: ignore[arg-type]
        plan = plan._replace(files=plan.files + more.files, notes=plan.notes + more.notes)
    _print_plan(plan, options)
    return 0


def _print_plan(plan: object, options: argparse.Namespace) -> None:
    from product.cloudinit.plan import Plan

    assert isinstance(plan, Plan)
    files = []
    for file in plan.files:
        mode, how = f"{file.mode:04o}", ", appended" if file.append else ""
        text = _content(file.content, hidden=file.mode == 0o600 and not options.show_secrets)
        files.append({"path": file.path, "mode": mode, "append": file.append, "content": text})
        if not options.json:
            print(f"# {file.path} ({mode}{how})\n{text}")
    if options.json:
        document = {"files": files, "notes": plan.notes, "to_seed": plan.kubeconfig_to_seed}
        print(json.dumps(document, indent=2))
        return
    if plan.kubeconfig_to_seed:
        print("# the seed: a kubeconfig, once Kubernetes is ready\n")
    if not plan.files:
        print("# nothing would be written")
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)


def _content(content: bytes, *, hidden: bool) -> str:
    if hidden:
        return f"({len(content)} bytes are not shown; --show-secrets does)\n"
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"({len(content)} bytes that are no text)\n"


def _show(options: argparse.Namespace) -> int:
    from product.cloudinit.show import describe, read_records

    records = read_records(options.root)
    print(json.dumps(records, indent=2) if options.json else describe(records))
    return 0


def _boot_password(options: argparse.Namespace) -> int:
    from product.cloudinit.boot_password import ask, hashed

    print(hashed(ask(sys.stdin)))
    return 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_READ)
    except OSError as error:
        raise CloudInitError(
            f"cannot read {path}: {error.strerror}", hint="name a file of a seed, such as user-data"
        ) from None
    except ValueError:
        raise CloudInitError(f"cannot read {path!r}: this is no file's name") from None
