"""Run and list scenarios, look into machines and failures, report, keep the cache small."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from harness.cli import cache, completion, failures, flakes, machines, scenarios
from harness.cli.options import ArchOption, ProfileOption
from harness.cli.terminal import converse
from harness.errors import HarnessError
from harness.profile import chosen
from harness.qemu import accel
from harness.qemu.arch import Firmware
from harness.qemu.machine import Host, Machine
from harness.qemu.spec import MachineSpec
from harness.report.data import read_scenarios
from harness.report.history import HISTORY_FILE
from harness.report.html import write_report
from harness.report.overlay import overlay

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
# pytest's options are pytest's to know.
app.command("run", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(
    scenarios.run
)
app.command("list")(scenarios.list_scenarios)
app.command("console")(machines.console)
app.command("pack")(failures.pack)
app.command("replay")(failures.replay)
app.command("flakes")(flakes.flakes)
app.add_typer(cache.app, name="cache")


@app.command()
def boot(
    image: Annotated[Path, typer.Argument(help="raw disk image; it is not written to")],
    arch: ArchOption,
    firmware: Annotated[Firmware, typer.Option(help="what runs before the boot loader")] = (
        Firmware.UEFI
    ),
    memory: Annotated[int, typer.Option(help="MiB")] = 512,
    cpus: Annotated[int, typer.Option(help="processors")] = 1,
    disk: Annotated[int, typer.Option(help="MiB of the disk that the image lies on")] = 2560,
    channel: Annotated[bool, typer.Option(help="offer the command channel to the guest")] = False,
    artefacts: Annotated[
        Path | None, typer.Option(help="where the logs go (default: a temporary directory)")
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Boot IMAGE with its console on this terminal; Ctrl-] pulls the plug."""
    if not image.is_file():
        raise HarnessError(f"there is no disk image {image}", hint="build the image first")
    known = chosen(profile)
    try:
        spec = MachineSpec(
            arch=arch,
            image=image.absolute(),
            firmware=firmware,
            memory_mib=memory,
            cpus=cpus,
            disk_size_mib=disk,
            smbios=None if channel else (),
            fw_cfg=None if channel else (),
        )
    except ValidationError as error:
        reasons = "; ".join(str(problem["msg"]) for problem in error.errors())
        raise HarnessError(f"no machine can be like that: {reasons}") from error
    # Without a kernel to try KVM with, TCG is what surely works.
    runs = known.cache() / "harness" / "runs"
    host = Host(known.tools("qemu"), "tcg", 1.0, runs, profile=known)
    folder = artefacts or Path(tempfile.mkdtemp(prefix=f"{known.name}-boot-"))
    with Machine(spec, host, folder) as machine:
        machine.power_on()
        converse(machine.console, machine.type_in)
    sys.stderr.write(f"\nlogs: {folder}\n")


@app.command()
def probe(
    kernel: Annotated[Path, typer.Argument(help="kernel to try, such as a slot's vmlinuz")],
    arch: ArchOption,
    profile: ProfileOption = None,
) -> None:
    """Say which accelerator boots KERNEL, and how fast."""
    if not kernel.is_file():
        raise HarnessError(f"there is no kernel {kernel}")
    known = chosen(profile)
    found = accel.probe(known.tools("qemu"), kernel.absolute(), arch, known.cache() / "harness")
    typer.echo(
        f"{arch}: {found.name}, {found.seconds:.1f} s to the kernel's end, "
        f"deadlines are scaled by {found.scale:.2f}"
    )


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="where scenarios left their evidence")],
    output: Annotated[
        Path | None, typer.Option(help="file (default: report.html in the directory)")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="evidence of another run, to show what is different")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="file of earlier runs (default: history.jsonl in the directory)"),
    ] = None,
) -> None:
    """Write the HTML report on the scenarios in DIRECTORY, and each one's timeline.svg."""
    if not directory.is_dir():
        raise HarnessError(
            f"there is no directory {directory}",
            hint="run scenarios first: out/scenarios is theirs",
        )
    if against is not None and not read_scenarios(against):
        raise HarnessError(
            f"there is no evidence of a run in {against}",
            hint="keep a run's folder: run scenarios with --artefacts FOLDER",
        )
    if history is not None and not history.is_file():
        raise HarnessError(
            f"there is no history {history}",
            hint=f"a run adds itself to {HISTORY_FILE} beside its evidence, or to --history FILE",
        )
    target = output or directory / "report.html"
    try:
        typer.echo(write_report(directory, target, history=history, against=against))
    except OSError as error:
        raise HarnessError(f"the report {target} cannot be written: {error}") from error


@app.command("overlay")
def lay_over(
    folders: Annotated[
        list[Path], typer.Argument(help="nodes' folders, each with a timeline.json")
    ],
    output: Annotated[Path, typer.Option(help="the picture")] = Path("overlay.svg"),
    name: Annotated[
        list[str] | None, typer.Option(help="a name for each folder, in their order")
    ] = None,
) -> None:
    """Lay the timelines in FOLDERS over each other: one scenario on QEMU and on a board, say."""
    names = name or [str(folder) for folder in folders]
    if len(names) != len(folders):
        raise HarnessError(f"{len(names)} names were given for {len(folders)} folders")
    timelines = []
    for named, folder in zip(names, folders, strict=True):
        path = folder / "timeline.json"
        try:
            timelines.append((named, json.loads(path.read_bytes())))
        except (OSError, ValueError) as error:
            raise HarnessError(
                f"{path} cannot be read: {error}", hint="a node's folder of the evidence has one"
            ) from None
    try:
        output.write_text(overlay(timelines, title=", ".join(names)))
    except OSError as error:
        raise HarnessError(f"the picture {output} cannot be written: {error}") from error
    typer.echo(output)


@app.command("completion")
def complete(shell: Annotated[completion.Shell, typer.Argument(help="the shell")]) -> None:
    """Print a script that lets SHELL complete commands and options; the shell reads it once."""
    typer.echo(completion.script(shell, typer.main.get_command(app)), nl=False)


def main() -> int:
    """Run the command line; a user's mistake is one message and a hint."""
    try:
        app(prog_name="harness")
    except Exception as error:
        # The project's own errors, its tools' for instance, look like ours.
        message = getattr(error, "message", None)
        if not isinstance(error, HarnessError) and not isinstance(message, str):
            raise
        sys.stderr.write(f"error: {message}\n")
        if hint := getattr(error, "hint", None):
            sys.stderr.write(f"hint: {hint}\n")
        return int(getattr(error, "exit_code", 1))
    return 0
