"""What a developer reads of a failed scenario, in its first lines: step, event, console, command.

Below them stands the test's own frame. What the harness explains needs no other; an error that it
does not explain keeps its whole traceback.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from _pytest._code.code import (
    ExceptionChainRepr,
    ExceptionRepr,
    ReprEntry,
    ReprEntryNative,
    Traceback,
    TracebackEntry,
)

from harness.errors import HarnessError, UnsupportedError
from harness.profile import Profile
from harness.pytest_plugin.lab import is_lab
from harness.pytest_plugin.options import profile_of
from harness.qemu.arch import Arch
from harness.target.session import Session

FAILURE = pytest.StashKey[str]()
SKIPPED = pytest.StashKey[str]()
SESSION = pytest.StashKey[Session]()  # of a test that has machines
# Beside pytest's title they leave ten lines, also with the one that names a worker.
_LINES, _WIDTH = 8, 110
_HERE = Path(__file__).resolve().parents[1]
# The console's end of a wait's message, which the first lines have already.
_TAIL = re.compile(r"^E\s+last \d+ console lines:$")


def reproduce(profile: Profile, identity: str, arch: Arch | str) -> str:
    """The command that runs one test again, for a shell in the project's folder."""
    return profile.rerun.format(test=shlex.quote(identity), arch=arch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Explain a scenario's failure, and let the fixtures' ends know that it failed, and why."""
    scenario = SESSION in item.stash or item.get_closest_marker("scenario") is not None
    error = None if call.excinfo is None else call.excinfo.value
    told = error is not None and _told(item.config, error)
    step = ""
    if call.excinfo is not None and (told or scenario):
        frames = call.excinfo.traceback
        own = [entry for entry in frames if item.path == Path(entry.path)]
        step = _statement(item, own[-1]) if own else _PHASES[call.when]
        if told and own:
            call.excinfo.traceback = _only(own)
        elif told:
            # No frame says more than the message; of a fixture, the project's own one.
            theirs = [entry for entry in frames if _is_projects(item.config, Path(entry.path))]
            call.excinfo.traceback = _only(theirs[:1] or frames[-1:])
    report = yield
    if report.failed and error is not None and (told or scenario):
        bare = told and call.when == "setup"
        _put_first(report, first_lines(item, error, step), told=told, bare=bare)
    if report.failed and call.when in ("setup", "call"):
        item.stash[FAILURE] = str(error) if error is not None else "failed"
    if report.skipped and error is not None:
        item.stash[SKIPPED] = str(error)
    return report


_PHASES = {
    "setup": "before the scenario: its fixtures",
    "call": "the scenario's end",
    "teardown": "after the scenario: its fixtures' ends",
    "collect": "collection",
}


def first_lines(item: pytest.Item, error: BaseException, step: str) -> list[str]:
    """Step, deciding event, last console lines and the command that runs it again.

    At most eight lines, of which the console has what the others leave.
    """
    inner = error.step if isinstance(error, HarnessError) else ""
    lines = [_cut(f"step:      {inner} ({step})" if inner else f"step:      {step}")]
    lines += _wrapped("decided:   ", _decided(error))
    command = f"run again: {_command(item)}"
    node, console = _console(item, error)
    if shown := console[-(_LINES - len(lines) - 1) :]:
        lines += _columns(f"{node} said: " if node else "console:   ", shown)
    elif SESSION in item.stash:
        lines.append("console:   nothing yet")
    return [*lines, command]


def _decided(error: BaseException) -> str:
    """The event that ended the scenario, in a sentence or two."""
    if isinstance(error, HarnessError) and error.decided:
        return error.decided
    text = str(error).strip()
    if isinstance(error, HarnessError | pytest.UsageError):
        hint = getattr(error, "hint", None) or ""
        first = text.partition("\n")[0]
        return f"{first}; {hint}" if hint and not hint.startswith("run again") else first
    name = type(error).__name__
    return " ".join(f"{name}: {text}".split()) if text else name


def _console(item: pytest.Item, error: BaseException) -> tuple[str, Sequence[str]]:
    """A machine and its last lines: the error's own, else that of the latest event."""
    if isinstance(error, HarnessError) and error.machine:
        return error.machine, error.console
    session = item.stash.get(SESSION, None)
    nodes = [node for node in session.nodes if node.started] if session is not None else []
    for node in sorted(nodes, key=_latest, reverse=True):
        if tail := node.journal.console_tail():
            return str(getattr(node, "name", "")), tail
    return "", ()


def _latest(node: Any) -> float:
    events = node.journal.events()
    return float(events[-1].time) if events else 0.0


def _command(item: pytest.Item) -> str:
    if (session := item.stash.get(SESSION, None)) is not None:
        return session.reproduce
    # Only parametrized functions have a callspec; pytest's types name it for none.
    params = getattr(getattr(item, "callspec", None), "params", {})
    arch = params.get("harness_arch") or item.config.getoption("--arch")
    try:
        return reproduce(profile_of(item.config), item.nodeid, arch)
    except pytest.UsageError:
        return reproduce(Profile(), item.nodeid, arch)


def _statement(item: pytest.Item, entry: TracebackEntry) -> str:
    """Where the test stood, and what it did there."""
    text = next(iter(str(entry.statement).strip().splitlines()), "")
    return f"{item.path.name}:{entry.lineno + 1}: {text}"


def _only(entries: Sequence[TracebackEntry]) -> Traceback:
    """A traceback of these alone; pytest would find the others behind the first again."""
    chain: TracebackType | None = None
    for entry in reversed(entries):
        raw = entry._rawentry
        chain = TracebackType(chain, raw.tb_frame, raw.tb_lasti, raw.tb_lineno)
    assert chain is not None
    return Traceback(chain)


def _is_projects(config: pytest.Config, path: Path) -> bool:
    """Whether a frame is the project's own, neither pytest's nor the harness's."""
    if _HERE in path.parents or "site-packages" in path.parts:
        return False
    return config.rootpath in path.parents


def _told(config: pytest.Config, error: BaseException) -> bool:
    """Whether an error says all there is to say."""
    if isinstance(error, HarnessError | pytest.UsageError):
        return True
    # A foreign test's error is no reason to look for a profile.
    if not config.getini("harness_profile"):
        return False
    try:
        return isinstance(error, profile_of(config).errors)
    except pytest.UsageError:
        return False  # Whoever needs the profile says so.


def _put_first(report: pytest.TestReport, lines: Sequence[str], *, told: bool, bare: bool) -> None:
    """Let a report begin with ``lines``; ``told`` leaves out what they have said, ``bare`` all
    else."""
    shown = report.longrepr
    if not isinstance(shown, ExceptionChainRepr):
        if isinstance(shown, ExceptionRepr):
            entries = shown.reprtraceback.reprentries
            shown.reprtraceback.reprentries = [_native(lines), *entries]
        return
    if told:
        # What an explained error was raised from is part of its message.
        shown.chain = shown.chain[-1:]
        entries = list(shown.chain[0][0].reprentries)
        for entry in entries:
            if isinstance(entry, ReprEntry):
                entry.lines = list(_without_tail(entry.lines))
        shown.chain[0][0].reprentries = [] if bare else entries
    first = shown.chain[0][0]
    first.reprentries = [_native(lines), *first.reprentries]


def _native(lines: Sequence[str]) -> ReprEntryNative:
    # Entries of this kind come from workers as they are.
    return ReprEntryNative([f"{line}\n" for line in lines])


def _without_tail(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if _TAIL.match(line):
            return
        yield line


def _columns(name: str, lines: Sequence[str]) -> list[str]:
    indent = " " * len(name)
    return [_cut((name if number == 0 else indent) + line) for number, line in enumerate(lines)]


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=name, subsequent_indent=" " * len(name), max_lines=2,
        placeholder=" ...",
    )  # fmt: skip


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 4]} ..."


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A failure on a console after the last wait fails the test, too. What a board cannot do skips
    it."""
    try:
        result = yield
    except UnsupportedError as error:
        if is_lab(pyfuncitem.config):
            pytest.skip(error.message)
        raise
    session = pyfuncitem.stash.get(SESSION, None)
    if session is not None:
        session.end()
    return result
