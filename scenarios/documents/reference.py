"""``docs/reference.md``: commands, options and exit statuses, from the parsers themselves."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from typing import Any

import typer

from product.agent import errors
from product.agent.cli.parser import COMMANDS, MODULES, build_parser
from product.cloudinit.cli import _parser as config_parser
from product.image.cli import app as image_app
from product.release.cli import app as release_app
from scenarios.documents.pages import DOCS, ROOT

TARGET = DOCS / "reference.md"
_INTRODUCTION = """# Reference

Every command, option and exit status. `./noxw -s docs -- --renew` writes this page from the
parsers. On a node there is `kubesolo-update`, and `kubesolo-config show`; `pip install .` gives all
four, and a checkout has them as sessions of `./noxw`.

"""
_OTHERS = """\
The other programs end with 0 (done), 1 (failed) or 2 (wrong usage). An error is on standard error,
as `error:` and `hint:`; with `--json` the agent prints an object with `error` on standard output
([troubleshooting.md](troubleshooting.md))."""
_EXITS = (
    (errors.EXIT_DONE, "done, or up to date"),
    (errors.EXIT_FAILED, "failed: the error says what was tried, what was found and what to do"),
    (errors.EXIT_USAGE, "wrong usage: an unknown command, flags that do not go together"),
    (errors.EXIT_AVAILABLE, "`check` and `apply --dry-run`: an update is available"),
    (errors.EXIT_REFUSED, "refused by a gate, which the error names"),
    (errors.EXIT_BUSY, "another agent is at work"),
)


def render() -> str:
    """The page."""
    return _INTRODUCTION + "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    yield from ("## Exit statuses", "", "| of `kubesolo-update` | means |", "|---|---|")
    for status, text in _EXITS:
        yield f"| {status} | {text} |"
    yield ""
    yield from (_OTHERS, "")
    yield from ("## kubesolo-update", "", "On the node. A flag goes before `update.conf`.", "")
    for name in COMMANDS:
        module = import_module(f"product.agent.cli.commands.{MODULES.get(name, name)}")
        yield from _argparse(build_parser(name, module), f"kubesolo-update {name}")
    yield from ("## kubesolo-config", "", "First-boot configuration, checked and tried out.", "")
    for name, parser in _subparsers(config_parser()).choices.items():
        yield from _argparse(parser, f"kubesolo-config {name}", _helps(config_parser())[name])
    yield from ("## kubesolo-image", "", "Images, slots, locks and disks.", "")
    yield from _typer(typer.main.get_command(image_app), "kubesolo-image")
    yield from ("## kubesolo-release", "", "Keys, repositories and publishing.", "")
    yield from _typer(typer.main.get_command(release_app), "kubesolo-release")
    yield from (
        "## Sessions of noxw",
        "",
        "In a checkout, after `./noxw -s`; options stand behind `--`.",
        "",
    )
    yield from ("| session | does |", "|---|---|")
    for name, text in _sessions():
        yield f"| `{name}` | {_cell(text)} |"


def _argparse(parser: argparse.ArgumentParser, name: str, text: str = "") -> Iterator[str]:
    yield from (f"### {name}", "", _sentence(text or parser.description or ""), "")
    rows = []
    for action in parser._actions:
        if action.help in (argparse.SUPPRESS, None) or isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or action.dest.upper()
        names = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{value}`"
        if action.option_strings and action.nargs != 0:
            names += f" {_value(action.choices, str(value))}"
        rows.append((names, str(action.help)))
    yield from _table(rows)


def _typer(command: Any, name: str) -> Iterator[str]:
    for word, sub in command.commands.items():
        if getattr(sub, "commands", None):
            yield from _typer(sub, f"{name} {word}")
            continue
        yield from (f"### {name} {word}", "", _paragraph(sub.help or ""), "")
        rows = []
        for parameter in sub.params:
            options = [option for option in parameter.opts if option.startswith("-")]
            choices = _choices(parameter)
            value = _value(choices, str(parameter.metavar or parameter.name.upper()))
            names = ", ".join(f"`{option}`" for option in options) or f"`{parameter.name.upper()}`"
            if options and not getattr(parameter, "is_flag", False):
                names += f" {value}"
            rows.append((names, _sentence(getattr(parameter, "help", None) or "")))
        yield from _table(rows)


def _choices(parameter: Any) -> Any:
    """The values of an option that is one of an enumeration."""
    found = parameter.type_descriptor.annotation
    return found if isinstance(found, type) and issubclass(found, Enum) else None


def _table(rows: list[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield from ("| option | |", "|---|---|")
    for names, text in rows:
        yield f"| {_cell(names)} | {_cell(text)} |"
    yield ""


def _value(choices: Any, otherwise: str) -> str:
    if not choices:
        return otherwise
    return ", ".join(f"`{getattr(choice, 'value', choice)}`" for choice in choices)


def _paragraph(text: str) -> str:
    return " ".join(text.split("\f")[0].split())


def _sentence(text: str) -> str:
    joined = _paragraph(text)
    return joined[:1].upper() + joined[1:] + ("." if joined and joined[-1] not in ".:" else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _subparsers(parser: argparse.ArgumentParser) -> Any:
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def _helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {action.dest: action.help or "" for action in _subparsers(parser)._choices_actions}


def _sessions() -> Iterator[tuple[str, str]]:
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and any(
            ast.unparse(decorator) == "nox.session" for decorator in node.decorator_list
        ):
            yield node.name, (ast.get_docstring(node) or "").split("\n\n")[0]
