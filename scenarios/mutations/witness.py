"""A pytest plugin that runs chosen scenarios and writes down how each ended, and why.

Loaded with ``-p scenarios.mutations.witness``. ``--scenario NAME``, repeated, chooses; ``--witness
FILE`` gets one JSON object a line for every phase of a test that failed and every call:

``scenario``, ``when`` (setup, call, teardown), ``outcome``, ``seconds``, and for a failure
``verdict`` ("scenario" where its own steps failed, else what went wrong instead) and ``error``:
the scenario's statements that led to it, from the test's own to that of the step that raised, with
" > " between them, then ": " and the error's message in one line.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from types import CodeType, TracebackType

import pexpect
import pytest

from harness.errors import ChannelError, CommandError, WaitError
from harness.target.node import Node
from scenarios.set_up import is_set_up

NOTICED = "scenario"
_SCENARIOS = Path(__file__).resolve().parents[1]
# What a scenario raises when the product does not do what it demands.
_DEMANDS = (AssertionError, WaitError, CommandError, ChannelError, pexpect.TIMEOUT, pexpect.EOF)
_LONGEST = 400


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("mutations")
    group.addoption("--scenario", action="append", default=[], help="run this scenario")
    group.addoption("--witness", type=Path, required=True, help="where to write what happened")


def name_of(item: pytest.Item) -> str:
    """The node id below ``scenarios/`` without the architecture."""
    path, _, rest = item.nodeid.partition("::")
    name = f"{Path(path).relative_to(_SCENARIOS.name).as_posix()}::{rest.partition('[')[0]}"
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return name
    arch = str(callspec.params.get("harness_arch"))
    others = [part for part in callspec.id.split("-") if part != arch]
    return f"{name}[{'-'.join(others)}]" if others else name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what was chosen; without a choice, write down every name."""
    wanted = config.getoption("--scenario")
    if not wanted:
        names = sorted({name_of(item) for item in items if item.get_closest_marker("scenario")})
        config.getoption("--witness").write_text("".join(f"{name}\n" for name in names))
        return
    found = {name_of(item) for item in items}
    if absent := [name for name in wanted if name not in found]:
        raise pytest.UsageError(f"there is no scenario {', '.join(absent)}")
    items[:] = [item for item in items if name_of(item) in wanted]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write one line about ``call``."""
    report = yield
    if report.when == "call" or not report.passed:
        entry: dict[str, object] = {
            "scenario": name_of(item),
            "when": report.when,
            "outcome": report.outcome,
            "seconds": round(report.duration, 1),
        }
        if call.excinfo is not None and report.failed:
            entry.update(_failure(call.excinfo.value))
        with item.config.getoption("--witness").open("a") as file:
            file.write(json.dumps(entry) + "\n")
    return report


def _failure(error: BaseException) -> dict[str, str]:
    frames = list(_frames(error.__traceback__))
    verdict = NOTICED
    if not isinstance(error, _DEMANDS):
        verdict = f"it raised {type(error).__name__}"
    elif any(_sets_up(code) for code, _ in frames):
        verdict = "the state it begins in could not be reached"
    own = [(c.co_filename, line) for c, line in frames if _SCENARIOS in Path(c.co_filename).parents]
    statements = " > ".join(statement_at(file, line) for file, line in own)
    return {"verdict": verdict, "error": f"{statements}: {_message(error)}"}


def _sets_up(code: CodeType) -> bool:
    """Making a snapshot, a fixture, or a step that is marked."""
    fixture = Path(code.co_filename).name == "conftest.py"
    return code is Node.prepared.__code__ or fixture or is_set_up(code)


def _message(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    # An assertion begins with what is asserted about, on as many lines as that has; other errors
    # end with the console's last lines.
    first = text if isinstance(error, AssertionError) else text.splitlines()[0]
    return " ".join(first.split()).removesuffix(" Use -v to get more diff")[:_LONGEST]


@functools.cache
def _statements(file: str) -> tuple[str, list[ast.stmt]]:
    text = Path(file).read_text()
    return text, [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]


def statement_at(file: str, line: int) -> str:
    """The statement on that line, in one line; of one with a body only its head."""
    text, statements = _statements(file)
    around = [n for n in statements if n.lineno <= line <= (n.end_lineno or n.lineno)]
    if not around:
        return f"line {line} of {Path(file).name}"
    found = max(around, key=lambda node: (node.lineno, -(node.end_lineno or 0)))
    body = getattr(found, "body", None)
    last = body[0].lineno - 1 if body and body[0].lineno > found.lineno else found.end_lineno
    words = " ".join(" ".join(text.splitlines()[found.lineno - 1 : last]).split())
    words = re.sub(r"([(\[{]) ", r"\1", words)
    return re.sub(r",? ([)\]}])", r"\1", words).removesuffix(":")


def _frames(traceback: TracebackType | None) -> Iterator[tuple[CodeType, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next
