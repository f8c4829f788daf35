"""What a paused machine offers to other processes beside its console: QMP, commands, the way on.

Two sockets in its folder. ``qmp`` speaks QEMU's machine protocol, without its events; QEMU's own
connection is the runner's. ``control`` takes JSON lines: ``{"run": SHELL_COMMAND}`` is answered
with ``exit``, ``stdout`` and ``stderr`` (base64), ``{"go_on": true}`` with ``{"ok": true}``; what
cannot be done with ``error``. While a scenario runs there are none: what it waits for is its own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.console.door import Door, connect
from harness.errors import HarnessError, QmpError
from harness.qemu.machine import Machine
from harness.qemu.running import PAUSED

QMP, CONTROL = "qmp", "control"
# Seconds that a command in the guest may take.
_COMMAND = 600.0


@contextlib.contextmanager
def paused(
    machine: Machine, told: Mapping[str, object], go_on: Callable[[], None]
) -> Iterator[Path]:
    """Offer ``machine`` within this scope, in the folder that is given; ``told`` is what
    ``paused.json`` says."""
    folder = machine.process.directory
    with contextlib.ExitStack() as scope:
        for name, answer in (("qmp", _qmp), ("control", _control)):

            def serve(client: socket.socket, answer: _Answer = answer) -> None:
                _lines(client, machine, go_on, answer)

            door = Door(folder, name, serve)
            scope.callback((folder / name).unlink, missing_ok=True)
            scope.callback(door.close)
        partial = folder / f".{PAUSED}"
        partial.write_text(json.dumps(dict(told)) + "\n")
        partial.replace(folder / PAUSED)
        scope.callback((folder / PAUSED).unlink, missing_ok=True)
        yield folder


_Request = Mapping[str, Any]
_Answer = Callable[[_Request | None, Machine, Callable[[], None]], Mapping[str, Any] | None]


def _lines(
    client: socket.socket, machine: Machine, go_on: Callable[[], None], answer: _Answer
) -> None:
    """Answer each line of JSON; ``answer`` may greet first."""

    def say(message: Mapping[str, Any] | None) -> None:
        if message is not None:
            client.sendall(json.dumps(dict(message)).encode() + b"\r\n")

    say(answer(None, machine, go_on))
    with client.makefile("rb") as lines:
        for line in lines:
            try:
                request = json.loads(line)
            except ValueError:
                request = None
            if isinstance(request, dict):
                say(answer(request, machine, go_on))
            elif line.strip():
                text = "no JSON object in one line"
                say({"error": {"class": "GenericError", "desc": text}})


def _qmp(
    request: _Request | None, machine: Machine, _go_on: Callable[[], None]
) -> Mapping[str, Any]:
    if request is None:
        version = _tried(lambda: machine.execute("query-version", {}))
        return {"QMP": {"version": version.get("return", {}), "capabilities": []}}
    name = str(request.get("execute"))
    arguments = request.get("arguments") or {}
    answer: dict[str, Any] = {"return": {}}
    if name != "qmp_capabilities":
        answer = _tried(lambda: machine.execute(name, arguments))
    return {**answer, "id": request["id"]} if "id" in request else answer


def _tried(work: Callable[[], object]) -> dict[str, Any]:
    try:
        return {"return": work()}
    except (HarnessError, TypeError) as error:
        cause = error.__cause__ if isinstance(error, QmpError) else None
        kind = getattr(cause, "error_class", "GenericError")
        return {"error": {"class": kind, "desc": str(error)}}


def _control(
    request: _Request | None, machine: Machine, go_on: Callable[[], None]
) -> Mapping[str, Any] | None:
    if request is None:
        return None
    if request.get("go_on"):
        go_on()
        return {"ok": True}
    if "run" not in request:
        return {"error": "neither run nor go_on"}
    try:
        if not machine.channel.up:
            return {"error": f"{machine.name} takes no commands: its channel is not open"}
        argv = ["/bin/sh", "-c", str(request["run"])]
        done = machine.channel.exec(argv, machine.deadline(_COMMAND))
    except HarnessError as error:
        return {"error": str(error)}
    return {
        "exit": done.exit,
        "stdout": base64.b64encode(done.stdout).decode(),
        "stderr": base64.b64encode(done.stderr).decode(),
    }


def ask(folder: Path, request: Mapping[str, object]) -> dict[str, Any]:
    """The answer of a paused machine's ``control``. Raises HarnessError where it is not paused, or
    says an error."""
    try:
        with connect(folder, CONTROL) as stream, stream.makefile("rb") as lines:
            stream.sendall(json.dumps(dict(request)).encode() + b"\n")
            answer = json.loads(lines.readline() or b"{}")
    except OSError as error:
        raise HarnessError(
            f"the machine in {folder} takes no commands from elsewhere: {error.strerror}",
            hint="only one whose scenario is paused does: --pause-on-failure",
        ) from None
    if not isinstance(answer, dict) or not answer or "error" in answer:
        raise HarnessError(str((answer or {}).get("error", "the machine went away")))
    return answer
