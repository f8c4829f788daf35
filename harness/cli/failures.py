"""``pack`` and ``replay``: a failure as one file, and its machine on another host."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import ProfileOption
from harness.cli.terminal import converse
from harness.errors import HarnessError
from harness.profile import Profile, chosen
from harness.qemu import left
from harness.qemu.machine import Host, Machine, Saved
from harness.qemu.pack import SUFFIX, PackedNode, unpack
from harness.qemu.pack import pack as write_pack
from harness.qemu.tools import HostTools

# Seconds on a quiet machine.
_READY = 240.0
_COMMAND = 60.0
_RESYNC = 30.0
# Events of the timeline that are told, and their kinds.
_TOLD = {
    ("console", "line"), ("console", "failure"), ("channel", "command"), ("harness", "start"),
    ("harness", "exit"), ("harness", "restored"), ("harness", "note"), ("harness", "step"),
    ("harness", "broken"), ("fault", "fired"), ("qmp", "event"),
}  # fmt: skip
_LAST = 10


def pack(
    folder: Annotated[Path, typer.Argument(help="the evidence of one failed scenario")],
    output: Annotated[Path | None, typer.Option(help=f"the file (default: FOLDER{SUFFIX})")] = None,
    profile: ProfileOption = None,
) -> None:
    """Pack the failure in FOLDER into one file that `replay` opens on another host."""
    whole = folder.absolute()
    target = (output or whole.with_name(whole.name + SUFFIX)).absolute()
    typer.echo(write_pack(whole, target, chosen(profile).tools("qemu")))


def replay(
    failure: Annotated[Path, typer.Argument(help=f"a packed failure, NAME{SUFFIX}")],
    boot: Annotated[
        bool, typer.Option("--boot", help="boot its disk, also where its memory was saved")
    ] = False,
    node: Annotated[str | None, typer.Option(help="which of several nodes")] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="STEP", help="print what happened up to the end of this step"),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="print what happened, and start nothing")
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="run a shell command in its system, then end it"),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="folder to open it in, which stays [a temporary one]")
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Say how a packed failure came, and go on with its machine; Ctrl-] ends that.

    The machine goes on from the moment of the failure where its memory was saved; else its disk
    boots as the failure left it. The file stays as it is.
    """
    known = chosen(profile)
    tools = known.tools("qemu")
    with _folder(into) as folder:
        packed = unpack(failure, folder, tools)
        every = timeline and node is None
        wanted = list(packed.nodes) if every else [packed.node(node)]
        typer.echo(f"{packed.test} failed; packed {packed.made}, QEMU {wanted[0].qemu}")
        typer.echo(f"  {str(packed.result.get('failure')).partition(chr(10))[0]}")
        for one in wanted:
            for line in _history(one, to, whole=timeline):
                typer.echo(line)
        if timeline:
            return
        status = _start(wanted[0], _own_firmware(tools, wanted[0]), known, boot=boot, run=run)
    if status:
        raise typer.Exit(status)


@contextlib.contextmanager
def _folder(into: Path | None) -> Iterator[Path]:
    if into is not None:
        if into.exists() and any(into.iterdir()):
            raise HarnessError(f"{into} is not empty", hint="name a folder that is not there yet")
        yield into.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="harness-replay-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Tools:
    """The host's programs, with the firmware of the failure."""

    tools: HostTools
    firmware: Mapping[str, Path]

    def argv(self, program: str, *args: str) -> list[str]:
        """As HostTools."""
        return self.tools.argv(program, *args)

    def path(self, relative: str) -> Path:
        """As HostTools."""
        return self.firmware.get(relative) or self.tools.path(relative)


def _own_firmware(tools: HostTools, node: PackedNode) -> HostTools:
    return _Tools(tools, node.firmware)


def _start(
    node: PackedNode, tools: HostTools, profile: Profile, *, boot: bool, run: str | None
) -> int:
    """Go on with the machine of ``node``; the status of the command ``run``, else 0."""
    resumes = node.memory is not None and not boot
    here = left.qemu_version(node.spec.arch, tools)
    if here != node.qemu:
        if resumes:
            raise HarnessError(
                f"its memory was saved by QEMU {node.qemu}, and this host has {here}",
                hint="boot its disk with --boot, or use a profile whose tools have that version",
            )
        sys.stderr.write(f"note: it ran with QEMU {node.qemu}, this is {here}\n")
    if profile.name != node.profile:
        sys.stderr.write(f"note: its profile was {node.profile}, this is {profile.name}\n")
    accelerator = node.accelerator if resumes else "tcg"
    if accelerator == "kvm" and not Path("/dev/kvm").exists():
        raise HarnessError(
            "its memory was saved under KVM, and this host has none", hint="use --boot"
        )
    runs = profile.cache() / "harness" / "runs"
    host = Host(tools, accelerator, node.scale, runs, lambda: profile.tools("tpm"), profile=profile)
    artefacts = node.folder.parent / f"replay-{node.name}"
    if not resumes:
        target = host.target(node.spec, artefacts, node.name)
    else:
        target = Machine(node.spec, host, artefacts, name=node.name)
    with target as machine:
        if node.tpm is not None:
            shutil.copytree(node.tpm, machine.tpm_state, dirs_exist_ok=True)
        saved = Saved(node.memory, machine.storage) if resumes and node.memory else None
        machine.power_on(saved)
        sys.stderr.write(
            f"{node.name} goes on from its failure\n" if resumes else f"{node.name} boots\n"
        )
        if resumes and machine.channel.up:
            # A system that has panicked, say, takes no commands, and can be looked at all the same.
            with contextlib.suppress(HarnessError):
                machine.channel.resync(machine.deadline(_RESYNC))
        if run is not None:
            return _run(machine, run, profile)
        sys.stderr.write("Ctrl-] ends it\n")
        sys.stderr.flush()
        converse(machine.console, machine.type_in)
        sys.stderr.write("\n")
    return 0


def _run(machine: Machine, command: str, profile: Profile) -> int:
    if not profile.channel:
        raise HarnessError(f"the profile {profile.name} has no command channel for --run")
    machine.channel.wait_up(machine.deadline(_READY))
    argv = ["/bin/sh", "-c", command]
    done = machine.channel.exec(argv, machine.deadline(_COMMAND))
    sys.stdout.flush()
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.flush()
    return done.exit & 0xFF


def _history(node: PackedNode, to: str | None, *, whole: bool) -> Iterator[str]:
    """What happened: the steps and the console's end, or all up to a step, or all."""
    path = node.folder / "timeline.json"
    try:
        events: list[dict[str, Any]] = json.loads(path.read_bytes())["events"]
    except (OSError, ValueError, KeyError) as error:
        raise HarnessError(f"{path.name} of {node.name} cannot be read: {error}") from None
    if to is not None:
        events = events[: _end_of(events, to) + 1]
    yield f"{node.name}:"
    if to is not None or whole:
        for event in events:
            if (event["source"], event["kind"]) in _TOLD:
                yield _line(event)
        return
    for event in events:
        if event["kind"] in ("step", "failure", "start", "exit", "fired", "restored"):
            yield _line(event)
    lines = [event for event in events if (event["source"], event["kind"]) == ("console", "line")]
    for event in lines[-_LAST:]:
        yield _line(event)


def _end_of(events: list[dict[str, Any]], word: str) -> int:
    """The place of the end of the first step whose title has ``word``. Raises HarnessError."""
    steps = [
        (place, event)
        for place, event in enumerate(events)
        if event["kind"] == "step" and event["data"].get("phase") == "begin"
    ]
    for place, begun in steps:
        if word.lower() in str(begun["text"]).lower():
            for later in range(place, len(events)):
                event = events[later]
                if (
                    event["kind"] == "step"
                    and event["data"].get("phase") == "end"
                    and event["text"] == begun["text"]
                    and event["data"].get("depth") == begun["data"].get("depth")
                ):
                    return later
            return len(events) - 1
    titles = ", ".join(dict.fromkeys(str(event["text"]) for _, event in steps))
    raise HarnessError(f"it had no step {word!r}", hint=f"its steps: {titles or 'none'}")


def _line(event: Mapping[str, Any]) -> str:
    depth = "  " * int(event["data"].get("depth") or 0)
    text = str(event["text"])
    if event["kind"] == "step":
        seconds = event["data"].get("seconds")
        text = f"{depth}{text}" + (f": {seconds:.1f} s" if seconds is not None else " ...")
    elif event["kind"] == "command":
        text = f"{text}: exit {event['data'].get('exit')}"
    elif event["kind"] == "failure" and (why := event["data"].get("disbelieved")):
        text = f"{text} (not believed: {why})"
    who = event["kind"] if event["source"] in ("harness", "fault") else event["source"]
    return f"[{float(event['time']):10.3f}] {who:<8} {text}"
