"""One virtual machine: QEMU with its storage, its protocol, its console and its channel."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.abilities import QEMU
from harness.commands.channel import Channel
from harness.console.door import Door, console_door
from harness.console.expect import ConsoleExpect, type_in
from harness.console.pump import Pump
from harness.console.recorder import Recorder
from harness.deadline import Deadline
from harness.errors import HarnessError, LaunchError, UnsupportedError
from harness.journal.journal import Event, Journal, Source, is_line, is_reset
from harness.profile import LINUX, Profile
from harness.qemu import argv, storage
from harness.qemu.argv import Storage, Streams
from harness.qemu.board import Board
from harness.qemu.plug import UsbCard
from harness.qemu.process import Process
from harness.qemu.qmp import Qmp
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools

# What QEMU's user network calls this host and the guest.
HOST_ADDRESS, OWN_ADDRESS = "10.0.2.2", "10.0.2.15"
# Seconds on a quiet machine; all are scaled.
_START = 30.0
_QMP = 30.0
_MIGRATION = 120.0
_DRAIN = 5.0
# Deadlines of a machine that gives way to others are so many times as long.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Host:
    """What all machines of a run share: programs, accelerator, and how slow it is.

    ``scale`` multiplies every deadline; 1.0 is the machine that the figures were chosen on.
    ``runs`` is where run directories are made; a disk's overlay needs room there. ``tpm_tools``
    prepares the programs of a software TPM, for the machines that have one. ``profile`` is the
    system that runs on them.
    """

    tools: HostTools
    accelerator: str
    scale: float
    runs: Path
    tpm_tools: Callable[[], HostTools] | None = None
    profile: Profile = LINUX

    @property
    def abilities(self) -> frozenset[str]:
        """What its machines can do; firmware and watchdogs are the architecture's matter."""
        return frozenset(QEMU)

    @property
    def host_address(self) -> str:
        """The address at which its machines find this host."""
        return HOST_ADDRESS

    def target(self, spec: MachineSpec, artefacts: Path, name: str) -> Machine:
        """The machine that a specification asks for, off, with a fresh disk.

        Raises UnsupportedError for a firmware that the profile has no model of.
        """
        if spec.raspberry is None:
            return Machine(spec, self, artefacts, name=name)
        if self.profile.raspberry is None:
            raise UnsupportedError(
                f"the profile {self.profile.name} has no Raspberry Pi's firmware"
            )
        made = self.profile.raspberry(spec, self, artefacts, name=name)
        assert isinstance(made, Machine)
        return made


@dataclass(frozen=True, slots=True)
class Saved:
    """A machine's state on disk: its memory and devices, and the storage that belongs to them."""

    memory: Path
    storage: Storage


class Machine:
    """QEMU's life cycle. Use as a context manager: leaving it ends QEMU and removes its files.

    ``artefacts`` is a directory for console.log, console.raw, qmp.log and timeline.json.
    """

    def __init__(
        self,
        spec: MachineSpec,
        host: Host,
        artefacts: Path,
        *,
        name: str = "node",
        base: Storage | None = None,
        own_disk: Path | None = None,
    ) -> None:
        """Prepare a machine that is off; its disk is fresh, or lies over ``base``, or is the qcow2
        file ``own_disk``, which keeps what it writes."""
        self.spec = spec = spec.handing(host.profile)
        self.host = host
        self.name = name
        self.base = base
        self.artefacts = artefacts
        artefacts.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(name, spec.arch.value, host.profile.words())
        self.console = Recorder(artefacts, self.journal, host.profile)
        self.process = Process(host.runs, self.journal, self._drain)
        self._pump = Pump(name, self.journal)
        self._ended: list[threading.Event] = []
        self._qmp: Qmp | None = None
        self._channel: Channel | None = None
        self._card: UsbCard | None = None
        self._door: Door | None = None
        self._sockets: list[socket.socket] = []
        self._forwards: dict[int, int] = {}  # the guest's TCP ports to the host's
        try:
            self._tell_others()
            if base is None:
                self.storage = storage.fresh(spec, host.tools, self.process.directory, own_disk)
            else:
                self.storage = storage.over(base, host.tools, self.process.directory)
        except BaseException:
            self.close()
            raise
        self._first_disk = self.storage.disk
        self._cuts, self._was_cut = 0, False

    def _tell_others(self) -> None:
        """Let other processes find it (harness.qemu.running), and its console."""
        folder = self.process.directory
        document = {
            "schema": 1,
            "name": self.name,
            "arch": self.spec.arch.value,
            "artefacts": str(self.artefacts.absolute()),
            "pid": os.getpid(),
        }
        self._door = console_door(folder, self.console, self.type_in)
        (folder / "machine.json").write_text(json.dumps(document) + "\n")

    # Power

    @property
    def running(self) -> bool:
        """Whether QEMU runs."""
        return self.process.pid is not None

    def power_on(self, saved: Saved | None = None) -> None:
        """Start QEMU; the guest boots, or goes on from ``saved``. Raises LaunchError."""
        if self.running:
            raise HarnessError(f"{self.name} is already on")
        self._disconnect()
        if self._was_cut:
            self._cuts += 1
            self.storage = storage.after_cut(self.storage, self.host.tools, self._cuts)
            self._was_cut = False
        if self.spec.log_writes and self.storage.write_log is not None:
            self.storage.write_log.touch()
        booting = self._booting()
        deadline = self.deadline(_START)
        ours, theirs = zip(*(socket.socketpair() for _ in range(3)), strict=True)
        self._sockets = list(ours)
        # Both ends of this one are for programs.
        tpm = socket.socketpair() if booting.tpm else ()
        descriptors = [end.fileno() for end in (*theirs, *tpm[:1])]
        numbers = Streams(*descriptors)
        command = argv.build(
            booting,
            self.host.tools,
            self.host.accelerator,
            self.storage,
            numbers,
            incoming=saved is not None,
        )
        (self.artefacts / "command").write_text(shlex.join(command) + "\n")
        ended = [threading.Event(), threading.Event()]
        self._ended = ended
        try:
            beside = (self._tpm(tpm[1].fileno()), [tpm[1].fileno()]) if tpm else None
            self.process.start(command, numbers.all(), deadline, nice=self.spec.nice, beside=beside)
        except BaseException:
            self._ended = []
            raise
        finally:
            for end in (*theirs, *tpm):
                end.close()
        qmp_socket, console, stream = self._sockets
        self._channel = Channel(stream, self.journal)

        def console_ended() -> None:
            self.console.end()
            ended[0].set()

        self._pump.add(console, self._feed_console, console_ended)
        self._pump.add(stream, self._channel.feed, ended[1].set)
        self._qmp = Qmp(self.name, self.journal, self.artefacts / "qmp.log")
        try:
            self._qmp.connect(qmp_socket, deadline)
            if self.spec.board is not Board.VIRTUAL and self.spec.network:
                self._card = UsbCard(self.qmp, self.journal, self.host.profile.boot_text)
            if saved is not None:
                self._restore(saved)
            self.qmp("cont")
        except HarnessError as error:
            words = self.process.last_words() or error.message
            raise LaunchError(
                f"QEMU did not start: {words}", hint=f"its command was: {shlex.join(command)}"
            ) from error

    @property
    def tpm_state(self) -> Path:
        """The folder of its TPM's seeds and counters; without them it is another TPM."""
        return self.process.directory / "tpm"

    def _tpm(self, control: int) -> list[str]:
        """The command of a software TPM that QEMU reaches over ``control``. Raises LaunchError."""
        if self.host.tpm_tools is None:
            raise LaunchError("there is no software TPM for this machine")
        self.tpm_state.mkdir(exist_ok=True)
        return self.host.tpm_tools().argv(
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.tpm_state}",
            "--ctrl", f"type=unixio,clientfd={control}",
        )  # fmt: skip

    def _feed_console(self, data: bytes) -> None:
        self.console.feed(data)
        if self._card is not None:
            self._card.feed(data)

    def _booting(self) -> MachineSpec:
        """What QEMU is started with; a board's firmware chooses that at each boot."""
        return self.spec

    def power_cut(self) -> None:
        """End QEMU at once. What the guest did not flush is lost with QEMU's cache of the disk; of
        what it wrote twice since it was switched on, the later may be kept."""
        status = self.process.kill(self.deadline(_START))
        self._disconnect()
        self._was_cut = True
        if status != -signal.SIGKILL:
            raise HarnessError(f"QEMU had ended by itself before the power cut, with {status}")

    def reset(self) -> None:
        """Press the reset button; returns when the machine has been reset."""
        since = self.journal.cursor
        self.qmp("system_reset")
        self.wait_reset("the reset button", self.deadline(_QMP), since)

    def wait_reset(self, what: str, deadline: Deadline, since: int) -> Event:
        """Return when the machine has been reset, by whomever."""
        return self.journal.wait(is_reset, f"the reset by {what}", deadline, since=since)

    def wait_off(self, deadline: Deadline) -> int:
        """The status of QEMU once the guest has switched the machine off."""
        status = self.process.wait(deadline)
        self._disconnect()
        return status

    def insert_seed(self, seed: Path | None) -> None:
        """Put another seed disk, or none, into a machine that is off; it gets a copy."""
        if self.running:
            raise HarnessError(f"{self.name} is on: its seed disk cannot be changed")
        self.storage = storage.with_seed(self.storage, seed, self.process.directory)

    def quit(self) -> None:
        """End QEMU in good order: its disk is complete afterwards."""
        if self.running:
            self.qmp("quit")
            self.process.wait(self.deadline(_START))
        self._disconnect()

    def end(self) -> None:
        """End QEMU: in good order, or else at once."""
        with contextlib.suppress(HarnessError):
            self.quit()
        if self.running:
            self.process.kill(self.deadline(_START))

    # Abilities

    @property
    def _scale(self) -> float:
        """What multiplies deadlines: a machine that gives way may have to wait for its turn."""
        return self.host.scale * self.spec.board.patience * (_PATIENCE if self.spec.nice else 1.0)

    def deadline(self, seconds: float) -> Deadline:
        """``seconds`` from now on the reference machine, longer where this one is slower."""
        return Deadline.after(seconds, self._scale)

    def qmp(self, command: str, /, **arguments: object) -> object:
        """Execute a QMP command; an underscore in an argument's name stands for a hyphen. Raises
        QmpError."""
        return self.execute(
            command, {name.replace("_", "-"): value for name, value in arguments.items()}
        )

    def execute(self, command: str, arguments: Mapping[str, object]) -> object:
        """Execute a QMP command with arguments as QEMU spells them. Raises QmpError."""
        if self._qmp is None:
            raise HarnessError(f"{self.name} is off: it cannot execute {command}")
        return self._qmp.command(command, self.deadline(_QMP), arguments)

    def monitor(self, line: str) -> str:
        """What QEMU's human monitor says to ``line``."""
        return str(self.qmp("human-monitor-command", **{"command-line": line}))

    @property
    def disk(self) -> str:
        """The device of the boot disk in the guest."""
        return self.spec.disk_bus.path

    @property
    def host_address(self) -> str:
        """The address at which the guest finds this host."""
        return HOST_ADDRESS

    @property
    def own_address(self) -> str:
        """The address that QEMU leases to the guest's first card."""
        return OWN_ADDRESS

    def address(self, port: int) -> str:
        """``host:port`` on this host that leads to the guest's TCP ``port``, while QEMU runs.

        Raises HarnessError where QEMU does not forward it, or the machine has no network.
        """
        if port not in self._forwards:
            rule = f"tcp:127.0.0.1:0-:{port}"
            if said := self.monitor(f"hostfwd_add net0 {rule}"):
                raise HarnessError(f"QEMU does not forward port {port}: {said}")
            table = self.monitor("info usernet")
            row = rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+{port}\s"
            if (found := re.search(row, table)) is None:
                raise HarnessError(f"QEMU does not say where it forwards port {port}: {table}")
            self._forwards[port] = int(found[1])
        return f"127.0.0.1:{self._forwards[port]}"

    def forward(self, host_port: int, port: int) -> None:
        """Let ``host_port`` of this host's loopback lead to the guest's TCP ``port``.

        Raises HarnessError, where the port is taken, for instance.
        """
        if said := self.monitor(f"hostfwd_add net0 tcp:127.0.0.1:{host_port}-:{port}"):
            raise HarnessError(
                f"port {host_port} of this host cannot be forwarded to {port}: {said.strip()}",
                hint="something else may use it: choose another with HOSTPORT:GUESTPORT",
            )

    @property
    def channel(self) -> Channel:
        """The command channel. Raises HarnessError while the machine is off."""
        if self._channel is None:
            raise HarnessError(f"{self.name} is off: it has no command channel")
        return self._channel

    def expect(self, seconds: float, *, since: int | None = None) -> ConsoleExpect:
        """pexpect on the console, from byte ``since`` (default: now) on."""
        position = self.console.position if since is None else since
        timeout = seconds * self._scale
        return ConsoleExpect(self.console, self._console_socket(), since=position, timeout=timeout)

    def type_in(self, data: bytes) -> None:
        """Type on the console."""
        type_in(self._console_socket(), data)

    def wait_console(self, expression: str, deadline: Deadline, *, since: int) -> re.Match[str]:
        """The match of the first console line from cursor ``since`` on that matches."""
        compiled = re.compile(expression)

        def matches(event: Event) -> bool:
            return is_line(event) and compiled.search(event.text) is not None

        event = self.journal.wait(
            matches, f"the console line /{expression}/", deadline, since=since
        )
        match = compiled.search(event.text)
        assert match is not None  # it was the condition
        return match

    # Snapshots

    def save(self, directory: Path) -> Saved:
        """Write the machine's state into ``directory``, which its storage moves to; it is off
        afterwards and cannot be switched on again.

        Raises HarnessError for one whose power was cut, whose disk is several files.
        """
        if self.storage.disk != self._first_disk:
            raise HarnessError(f"the power of {self.name} was cut: it cannot be saved")
        memory = directory / "memory"
        self.save_memory(memory)
        moved = (
            None if file is None else file.rename(directory / file.name)
            for file in (self.storage.disk, self.storage.variables, self.storage.seed)
        )
        return Saved(memory, Storage(*moved))

    def save_memory(self, memory: Path) -> None:
        """Write memory and devices into a file and end QEMU; the disk is what belongs to them.

        Raises HarnessError where the machine is off, and UnsupportedError for a board.
        """
        if self.spec.board is not Board.VIRTUAL or self.spec.tpm:
            raise UnsupportedError(f"{self.name} has a part whose state QEMU cannot save")
        self.qmp("stop")
        self._migrate("migrate", memory)
        self.quit()

    def _restore(self, saved: Saved) -> None:
        self._migrate("migrate-incoming", saved.memory)
        self.journal.append(Source.HARNESS, "restored", str(saved.memory))

    def _migrate(self, command: str, memory: Path) -> None:
        capabilities = [{"capability": "events", "state": True}]
        self.qmp("migrate-set-capabilities", capabilities=capabilities)
        since = self.journal.cursor
        self.qmp(command, uri=f"file:{memory}")
        event = self.journal.wait(
            _migration_ended, f"QEMU's {command}", self.deadline(_MIGRATION), since=since
        )
        if event.data.get("status") != "completed":
            raise LaunchError(f"QEMU's {command} of {memory} failed: {self.process.last_words()}")

    # End

    def keep_disk(self) -> Path | None:
        """Keep the disk in the artefacts, as a file that can be opened elsewhere, and beside it in
        disk.txt how; the machine must be off. Raises LaunchError."""
        first, top = self._first_disk, self.storage.disk
        if self.running or first is None or top is None or not first.exists():
            return None
        if self.spec.image is None:
            return None  # A blank disk lies over nothing that could be named.
        disk = self.artefacts / first.name
        said = storage.keep(
            (first, top), self.spec.image, disk, self.spec.arch.value, self.host.tools
        )
        disk.with_suffix(".txt").write_text(f"{said}\n")
        self.journal.append(Source.HARNESS, "note", said.partition("\n")[0])
        return disk

    def close(self) -> None:
        """End QEMU whatever it does, write the timeline, remove the run directory."""
        with contextlib.ExitStack() as steps:  # Each whatever becomes of those before it.
            steps.callback(self.journal.save, self.artefacts / "timeline.json")
            steps.callback(self.console.close)
            steps.callback(self._pump.close)
            if self._door is not None:
                steps.callback(self._door.close)
            steps.callback(self._disconnect)
            steps.callback(self.process.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _console_socket(self) -> socket.socket:
        if len(self._sockets) != 3:
            raise UnsupportedError(f"{self.name} is off: its console takes no input")
        return self._sockets[1]

    def _drain(self) -> None:
        """Return when QEMU's last output has been recorded."""
        deadline = Deadline.after(_DRAIN)
        for ended in self._ended:
            ended.wait(deadline.remaining)

    def _disconnect(self) -> None:
        """Forget a QEMU that has ended."""
        self._forwards.clear()
        if self._card is not None:
            self._card.close()
            self._card = None
        if self._qmp is not None:
            self._qmp.close(self.deadline(_QMP))
            self._qmp = None
        self._channel = None
        for end in self._sockets[1:]:
            self._pump.remove(end)
            end.close()
        self._sockets = []


def _migration_ended(event: Event) -> bool:
    return (
        event.source is Source.QMP
        and event.text == "MIGRATION"
        and event.data.get("status") in ("completed", "failed")
    )
