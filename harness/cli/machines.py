"""``console``: the machines that run, and the way to one."""

from __future__ import annotations

import base64
import sys
from typing import Annotated

import typer

from harness.cli.options import ProfileOption
from harness.cli.scenarios import table
from harness.cli.terminal import attach
from harness.console.door import CONSOLE, connect
from harness.errors import HarnessError
from harness.profile import chosen
from harness.qemu.paused import ask
from harness.qemu.running import Running, pick, running


def console(
    machine: Annotated[
        str | None,
        typer.Argument(
            metavar="[MACHINE]",
            help="its id, its name, or the folder of its evidence [list those that run]",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="run a shell command in a paused machine's system"),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--go-on", help="let a paused machine's scenario come to its end")
    ] = False,
    profile: ProfileOption = None,
) -> None:
    """Join this terminal and a machine's serial console; Ctrl-] leaves, and the machine goes on."""
    runs = chosen(profile).cache() / "harness" / "runs"
    machines = running(runs)
    if machine is None:
        if run is not None or go_on:
            raise HarnessError("no machine was named", hint="harness console lists those that run")
        for line in table(
            [_row(one) for one in machines], ("ID", "NAME", "ARCH", "STATE", "EVIDENCE")
        ):
            typer.echo(line)
        if not machines:
            typer.echo(f"no machine runs ({runs})")
        return
    found = pick(machines, machine)
    if run is not None:
        answer = ask(found.folder, {"run": run})
        sys.stdout.buffer.write(base64.b64decode(answer["stdout"]))
        sys.stdout.flush()
        sys.stderr.buffer.write(base64.b64decode(answer["stderr"]))
        sys.stderr.flush()
        if answer["exit"] and not go_on:
            raise typer.Exit(int(answer["exit"]) & 0xFF)
    if go_on:
        ask(found.folder, {"go_on": True})
    if run is None and not go_on:
        _join(found)


def _join(found: Running) -> None:
    try:
        stream = connect(found.folder, CONSOLE)
    except OSError as error:
        raise HarnessError(
            f"the console of {found.id} cannot be reached: {error.strerror}",
            hint="harness console lists the machines that run",
        ) from None
    sys.stderr.write(f"{found.name} of {found.artefacts.parent.name}; Ctrl-] leaves\n")
    sys.stderr.flush()
    with stream:
        left = attach(stream)
    sys.stderr.write("\nleft; the machine goes on\n" if left else "\nthe machine has ended\n")


def _row(one: Running) -> tuple[str, ...]:
    state = "running" if one.paused is None else "paused"
    return one.id, one.name, one.arch, state, str(one.artefacts)
