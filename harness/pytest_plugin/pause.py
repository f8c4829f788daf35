"""``--pause-on-failure``: a failed scenario's machines stay as they are until somebody goes on.

It pauses before the scenario's evidence is collected and its fixtures end: servers still serve.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from harness.cli.terminal import converse
from harness.errors import HarnessError
from harness.journal.journal import Source
from harness.pytest_plugin.failure import SESSION, first_lines
from harness.qemu.machine import Machine
from harness.qemu.paused import paused
from harness.qemu.running import identity
from harness.target.node import Node

# What of a console's past is shown to who opens it here, in bytes.
_BEFORE = 4096
_SSH = 22
# The package's own name, which is another one where it is installed.
_PROGRAM = f"{sys.executable} -m {__name__.partition('.pytest_plugin')[0]}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Whether to pause, and how long at most."""
    group = parser.getgroup("harness")
    group.addoption(
        "--pause-on-failure",
        action="store_true",
        help="leave a failed scenario's machines running until Enter is pressed",
    )
    group.addoption(
        "--pause-seconds",
        type=float,
        metavar="N",
        help="pause for N seconds at most; needs no terminal, also with workers",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a pause that nobody could end."""
    seconds = config.getoption("--pause-seconds")
    if not config.getoption("--pause-on-failure"):
        if seconds is not None:
            raise pytest.UsageError("--pause-seconds is for a pause: add --pause-on-failure")
        return
    if seconds is not None:
        if seconds <= 0:
            raise pytest.UsageError(f"--pause-seconds {seconds:g}: give it a time above 0")
        return
    way = "or say how long at most with --pause-seconds N, and go on with `harness console`"
    if getattr(config.option, "numprocesses", None) not in (None, 0):
        raise pytest.UsageError(
            "--pause-on-failure waits at the terminal, which workers of pytest-xdist do not have: "
            f"add -n 0, {way}"
        )
    with _terminal(config):
        listens = _listens()
    if not listens and not hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "--pause-on-failure waits for a key, and standard input is no terminal: run it in "
            f"one, {way}"
        )


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any], report: Any
) -> None:
    """Pause after a failure that has machines, unless it is of their end."""
    if not isinstance(node, pytest.Item) or call.when == "teardown":
        return
    config, session = node.config, node.stash.get(SESSION, None)
    if session is None or not config.getoption("--pause-on-failure") or call.excinfo is None:
        return
    with _terminal(config) as say:
        kept = [one for one in session.nodes if one.started and one.target.running]
        if not kept:
            say([f"not paused: no machine of {node.nodeid} runs any more"])
            return
        lines = [line for line in _told(node, call) if line]
        Pause(node, kept, config.getoption("--pause-seconds"), say).hold(lines)


def _told(item: pytest.Item, call: pytest.CallInfo[Any]) -> Sequence[str]:
    assert call.excinfo is not None  # the caller has looked
    frames = [entry for entry in call.excinfo.traceback if item.path == entry.path]
    step = f"{item.path.name}:{frames[-1].lineno + 1}" if frames else str(call.when)
    return first_lines(item, call.excinfo.value, step)


class Pause:
    """One failed scenario whose machines stay; ``hold`` returns when it is to go on."""

    def __init__(
        self,
        item: pytest.Item,
        nodes: Sequence[Node],
        seconds: float | None,
        say: Callable[[Sequence[str]], None],
    ) -> None:
        self._item = item
        self._nodes = nodes
        self._seconds = seconds
        self._say = say
        self._over = os.eventfd(0, os.EFD_CLOEXEC)

    def hold(self, told: Sequence[str]) -> None:
        """Stay until Enter is pressed here, ``harness console --go-on`` asks, or time is over."""
        begun = time.monotonic()
        until = None if self._seconds is None else time.time() + self._seconds
        facts = {"test": self._item.nodeid, "failure": list(told), "until": until}
        try:
            with contextlib.ExitStack() as scope:
                lines = [f"paused: {self._item.nodeid}", *(f"  {line}" for line in told)]
                for node in self._nodes:
                    node.journal.append(Source.HARNESS, "note", "paused after the failure")
                    machine = node.target
                    if isinstance(machine, Machine):
                        folder = scope.enter_context(paused(machine, facts, self._end))
                        lines += _ways(machine, identity(folder), str(folder / "qmp"))
                    else:
                        lines.append(f"  {node.name} is a board: its console is here alone")
                self._say([*lines, self._keys()])
                self._wait()
                for node in self._nodes:
                    seconds = f"{time.monotonic() - begun:.0f} s"
                    node.journal.append(Source.HARNESS, "note", f"went on after {seconds}")
        finally:
            os.close(self._over)

    def _end(self) -> None:
        os.eventfd_write(self._over, 1)

    def _keys(self) -> str:
        limit = "" if self._seconds is None else f" at most {self._seconds:g} s,"
        if not _listens():
            return f"it stays{limit} or until `{_PROGRAM} console ID --go-on`"
        several = " NAME" if len(self._nodes) > 1 else ""
        return f"press Enter to go on{limit}, or c{several} and Enter for the console here"

    def _wait(self) -> None:
        at = None if self._seconds is None else time.monotonic() + self._seconds
        watched = [self._over, *([0] if _listens() else [])]
        while True:
            left = None if at is None else max(0.0, at - time.monotonic())
            ready, _, _ = select.select(watched, [], [], left)
            if not ready or self._over in ready:
                return
            words = os.read(0, 1024).decode(errors="replace").split()
            if words[:1] != ["c"]:
                return
            wanted = words[1] if words[1:] else self._nodes[0].name
            if node := next((one for one in self._nodes if one.name == wanted), None):
                console = node.target.console
                since = max(0, console.position - _BEFORE)
                self._say([f"the console of {node.name}; Ctrl-] leaves"])
                converse(console, node.target.type_in, since=since)
            else:
                self._say([f"no node is called {wanted}"])
            self._say(["", self._keys()])


def _ways(machine: Machine, id: str, qmp: str) -> Iterator[str]:
    """How a paused machine is reached."""
    rows = [
        ("console", f"{_PROGRAM} console {id}"),
        ("commands", f"{_PROGRAM} console {id} --run 'dmesg | tail'"),
        ("QMP", qmp),
    ]
    if not machine.channel.up:
        del rows[1]
    with contextlib.suppress(HarnessError):
        host, _, port = machine.address(_SSH).partition(":")
        rows.append(("SSH", f"ssh -p {port} USER@{host}, where the system has a server"))
    for number, (name, way) in enumerate(rows):
        yield f"  {machine.name if number == 0 else '':<12} {name:<9} {way}"


def _listens() -> bool:
    """Whether somebody can press a key here."""
    return os.isatty(0)


@contextlib.contextmanager
def _terminal(config: pytest.Config) -> Iterator[Callable[[Sequence[str]], None]]:
    """The terminal as it was before pytest captured it; a worker has standard error alone."""
    capture = config.pluginmanager.getplugin("capturemanager")
    worker = hasattr(config, "workerinput")

    def say(lines: Sequence[str]) -> None:
        stream = sys.__stderr__ if worker else sys.__stdout__
        if stream is not None:
            stream.write("\n" + "".join(f"{line}\n" for line in lines))
            stream.flush()

    with contextlib.ExitStack() as scope:
        if capture is not None:
            capture.suspend(in_=True)
            scope.callback(capture.resume)
        yield say
