"""The real parsers of our command lines: whether a command's options exist.

Values are not looked at, because documents write FILE and VERSION for them. Programs that are
looked up by module are those of ``python -m`` and of the sessions in noxfile.py.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import typer
from typer.exceptions import TyperException

from scenarios.documents.errors import DocumentError
from scenarios.documents.pages import ROOT

# Program to the module that `python -m` runs.
PROGRAMS = {
    "kubesolo-image": "product.image",
    "kubesolo-release": "product.release",
    "kubesolo-update": "product.agent",
    "kubesolo-config": "product.cloudinit",
    "harness": "harness",
}
# nox' own, before `--`.
_NOX = {"-l": 0, "-s": 1, "--list": 0, "--sessions": 1}


def check(words: Sequence[str]) -> None:
    """Raise DocumentError unless program, subcommand and options of a command of ours exist."""
    program, *rest = words
    if program == "./noxw":
        _check_nox(rest)
    elif program in ("python", "python3") and rest[:1] == ["-m"] and len(rest) > 1:
        _check_module(rest[1], rest[2:])
    elif program in PROGRAMS:
        _check_module(PROGRAMS[program], rest)
    else:
        raise DocumentError(f"{program} is no program of ours")


def is_ours(words: Sequence[str]) -> bool:
    """Whether ``check`` knows the program."""
    if words[0] in ("python", "python3"):
        return words[1:2] == ["-m"] and len(words) > 2 and words[2].startswith(("product", "harn"))
    return words[0] == "./noxw" or words[0] in PROGRAMS


@cache
def sessions() -> dict[str, tuple[str, tuple[str, ...]]]:
    """noxfile.py's sessions: name to the module that gets what stands behind ``--``, and the words
    before it. Sessions that take nothing have an empty module."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(
            ast.unparse(decorator) == "nox.session" for decorator in node.decorator_list
        ):
            found[node.name] = next(_modules(node), ("", ()))
    return found


def _modules(function: ast.FunctionDef) -> Iterator[tuple[str, tuple[str, ...]]]:
    if "posargs" not in ast.unparse(function):
        return
    for call in ast.walk(function):
        if not isinstance(call, ast.Call):
            continue
        if ast.unparse(call.func) == "_scenarios":
            yield "pytest", ()
        words = [
            str(word.value) if isinstance(word, ast.Constant) else None for word in call.args[1:]
        ]
        if "-m" in words and isinstance(words[words.index("-m") + 1], str):
            module, *after = words[words.index("-m") + 1 :]
            fixed = [word for word in after if word is not None and not word.startswith("-")]
            yield str(module), tuple(fixed) if module != "pytest" else ()


def _check_nox(words: Sequence[str]) -> None:
    own, _, rest = _cut(words)
    names: list[str] = []
    taking = False
    for word in own:
        if word in _NOX:
            taking = _NOX[word] == 1
        elif taking:
            names.append(word)
        else:
            raise DocumentError(f"nox is given {word}, and only {', '.join(_NOX)} are known here")
    for name in names:
        if name not in sessions():
            raise DocumentError(f"noxfile.py has no session {name}")
    if rest:
        module, fixed = sessions()[names[-1]] if names else ("", ())
        if not module:
            raise DocumentError(f"session {names[-1:]} takes nothing behind --")
        _check_module(module, [*fixed, *rest])


def _cut(words: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in words:
        return list(words), False, []
    place = list(words).index("--")
    return list(words[:place]), True, list(words[place + 1 :])


def _check_module(module: str, words: Sequence[str]) -> None:
    if module == "pytest":
        _check_listed("pytest", words, _pytest_options())
    elif module == "product.agent":
        _check_agent(words)
    elif module == "product.cloudinit":
        _check_argparse(_config_parser(), words)
    elif command := _typer_command(module):
        _check_typer(command, list(words), module)
    else:
        name = f"python -m {module}"
        _check_listed(name, words, _options_in(_help(module)))


def _check_agent(words: Sequence[str]) -> None:
    from product.agent.cli.parser import COMMANDS, MODULES, build_parser

    if words[:1] in (["--help"], ["--version"]):
        return
    name = words[0] if words else ""
    if name not in COMMANDS:
        raise DocumentError(f"kubesolo-update has no command {name!r}")
    module = import_module(f"product.agent.cli.commands.{MODULES.get(name, name)}")
    _check_argparse(build_parser(name, module), words[1:])


def _config_parser() -> argparse.ArgumentParser:
    from product.cloudinit.cli import _parser

    return _parser()


def _check_argparse(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    rest = list(words)
    known = set(parser._option_string_actions)
    positions = [action for action in parser._actions if not action.option_strings]
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if re.match(r"--?[a-zA-Z]", word):
            if name not in known:
                raise DocumentError(f"{parser.prog} has no option {name}")
            if parser._option_string_actions[name].nargs != 0 and "=" not in word and rest:
                rest.pop(0)
            continue
        action = positions[0] if positions else None
        if action is None:
            raise DocumentError(f"{parser.prog} takes nothing like {word!r}")
        if isinstance(action, argparse._SubParsersAction):
            if word not in action.choices:
                raise DocumentError(f"{parser.prog} has no command {word!r}")
            _check_argparse(action.choices[word], rest)
            return
        if action.choices is not None and word not in action.choices and not word.isupper():
            raise DocumentError(f"{parser.prog} takes {sorted(action.choices)}, not {word!r}")
        if action.nargs not in ("+", "*"):
            positions.pop(0)


def _typer_command(module: str) -> Any:
    """The Typer application of a module: its ``app``, or its ``main`` made one; or None."""
    for name in (f"{module}.cli", f"{module}.cli.main", f"{module}.__main__", module):
        if not _exists(name):
            continue
        found = import_module(name)
        app = getattr(found, "app", None)
        if isinstance(app, typer.Typer):
            return typer.main.get_command(app)
        if _has_annotated_main(found):
            made = typer.Typer(add_completion=False)
            made.command()(found.main)
            return typer.main.get_command(made)
    return None


def _has_annotated_main(module: ModuleType) -> bool:
    hints = getattr(getattr(module, "main", None), "__annotations__", {})
    return any("typer" in str(hint) for hint in hints.values())


def _exists(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _check_typer(command: Any, words: list[str], name: str) -> None:
    while (commands := getattr(command, "commands", None)) and words:
        if words[0] == "--help":
            return
        if words[0] not in commands:
            raise DocumentError(f"{name} has no command {words[0]!r}")
        command = commands[words[0]]
        name = f"{name} {words.pop(0)}"
    if command.context_settings.get("ignore_unknown_options"):
        # It hands them to pytest.
        _check_listed(name, words, _pytest_options())
        return
    context = command.context_class(command, info_name=name)
    try:
        _, rest, _ = command.make_parser(context).parse_args(
            [word for word in words if word != "--help"]
        )
    except TyperException as error:
        raise DocumentError(f"{name}: {error.format_message()}") from error
    if rest:
        raise DocumentError(f"{name} takes nothing like {rest[0]!r}")


@cache
def _pytest_options() -> frozenset[str]:
    return _options_in(_help("pytest"))


@cache
def _help(module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode:
        raise DocumentError(f"python -m {module} --help failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _options_in(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", text))


def _check_listed(name: str, words: Sequence[str], known: frozenset[str]) -> None:
    for word in words:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[A-Za-z][\w-]*", option) and option not in known:
            raise DocumentError(f"{name} has no option {option}")
