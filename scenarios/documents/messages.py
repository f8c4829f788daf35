"""What the product says where something is wrong, collected from its sources.

Codes of the agent's errors come from the syntax tree of Python: ``code`` of classes, ``code=`` of
calls, and tables of codes. Boot messages come from the calls of ``fail`` and ``problem`` in shell;
a variable or a program's output within one is ``...``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from product.agent.update.gates import GATES
from scenarios.documents.pages import ROOT

AGENT = ROOT / "product/agent"
_SHARED = (ROOT / "product/version.py",)
# Tables of codes, beside the classes and calls that the syntax tree shows.
_TABLES = frozenset({"codes"})
# What takes a code as its first argument.
_BY_CODE = frozenset({"Flaw"})
_CODE = re.compile(r"[a-z]+(?:-[a-z0-9]+)+|failed|busy|usage|expired|delegated")
# What is said while the machine boots; requests of pods have a `fail` of their own.
_BOOT_SCRIPTS = ("images/boot/init", "images/overlay/etc/runit/1")
_BOOT_FOLDERS = (
    "usr/lib/kubesolo/lib.sh", "usr/lib/kubesolo/stages/*", "usr/lib/kubesolo/services/*/run",
)  # fmt: skip
_CALL = re.compile(r'(?:^|[|;{&]|\bthen|\)|\*\))\s*(fail|problem) "', re.MULTILINE)
_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def gate_names() -> list[str]:
    """Names of the gates, in their order."""
    return [gate.name for gate in GATES]


def error_codes(folder: Path = AGENT) -> set[str]:
    """Every code that an error of the agent may carry, gates' names not among them."""
    found: set[str] = set()
    for path in [*folder.rglob("*.py"), *_SHARED]:
        if "tests" not in path.parts:
            found |= set(_codes(ast.parse(path.read_text())))
    return found - set(gate_names())


def loader_messages(path: Path = ROOT / "images/boot/grub.cfg") -> set[str]:
    """What the boot loader prints."""
    printed = re.findall(r'echo "kubesolo: ([^"]*)"', path.read_text())
    return {_constant_parts(text) for text in printed}


def _codes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.Assign) and _names(statement) == {"code"}:
                    yield from _constants(statement.value)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in _BY_CODE:
                yield from _constants(node.args[0])
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from _constants(keyword.value)
        elif isinstance(node, ast.Assign) and _names(node) & {"code", "reason", *_TABLES}:
            yield from _constants(node.value)


def _names(statement: ast.Assign) -> set[str]:
    return {target.id for target in statement.targets if isinstance(target, ast.Name)}


def _constants(value: ast.expr) -> Iterator[str]:
    """Texts that have the form of a code, wherever they stand in an expression; of f-strings the
    ``CODE: `` that they begin with."""
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(text := node.value, str):
            yield from re.findall(rf"^({_CODE.pattern})(?:: )?$", text)


def boot_messages(kind: str, root: Path = ROOT) -> set[str]:
    """Messages of ``fail`` or ``problem`` of early boot, the stages and the services."""
    scripts = [root / name for name in _BOOT_SCRIPTS]
    for overlay in [root / "images/overlay", *_overlays(root)]:
        scripts += [path for pattern in _BOOT_FOLDERS for path in overlay.glob(pattern)]
    found = set()
    for script in scripts:
        text = script.read_text()
        for match in _CALL.finditer(text):
            if match.group(1) == kind:
                found.add(_constant_parts(_quoted(text, match.end())))
    # What another part says stands there, after the word that names it.
    found.discard("...")
    return found


def _overlays(root: Path) -> Iterator[Path]:
    for axis in ("payload", "extensions"):
        yield from (path for path in (root / "images" / axis).iterdir() if path.is_dir())


def _quoted(text: str, begin: int) -> str:
    """The text up to the quote that ends it; those within ``$(...)`` do not."""
    depth, place = 0, begin
    while text[place] != '"' or depth:
        if text[place] == "\\":
            place += 1
        elif text.startswith("$(", place):
            depth += 1
        elif text[place] == ")" and depth:
            depth -= 1
        place += 1
    return text[begin:place]


def _constant_parts(message: str) -> str:
    """The message with ``...`` for each variable and each program's output."""
    shown, place = "", 0
    while place < len(message):
        if message.startswith("$(", place):
            depth = 1
            place += 2
            while depth:
                depth += {"(": 1, ")": -1}.get(message[place], 0)
                place += 1
            shown += "..."
        elif match := re.match(r"\$(\{[^}]*\}|\w+|[*@#?])", message[place:]):
            place += match.end()
            shown += "..."
        else:
            shown += message[place]
            place += 1
    return shown


def rows(text: str, heading: str) -> list[str]:
    """The first cells of the tables below a heading of a page's text, each in code alone, up to
    the next heading that is not below it. Raises KeyError where there is no such heading."""
    parts = re.split(r"^(#{2,3}) (.*)$", text, flags=re.MULTILINE)
    found: list[str] = []
    inside = None
    for level, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if title == heading:
            inside = level
        elif inside is not None and len(level) <= len(inside):
            return found
        if inside is not None:
            found += _ROW.findall(body)
    if inside is None:
        raise KeyError(f"there is no heading {heading!r}")
    return found
