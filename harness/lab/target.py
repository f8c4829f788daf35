"""A board as a target: its journal, console, power and commands."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
from pathlib import Path

import paramiko

from harness.console.expect import ConsoleExpect, type_in
from harness.console.recorder import Recorder
from harness.deadline import Deadline
from harness.errors import HarnessError, UnsupportedError
from harness.journal.journal import Event, Journal, Source, is_line, is_reset
from harness.lab.board import Board, Service
from harness.lab.commands import SshCommands
from harness.profile import Profile

# Seconds that the console's two threads wait before they look whether to end.
_LOOK = 0.2
# What any Linux says first, where the profile knows no earlier line.
_KERNEL = "Linux version "


class LabTarget:
    """One board, from its flashing to its end.

    A board says no more of its resets than its console: ``RESET`` of the journal is the first sign
    of another boot without a start in between. ``artefacts`` gets console.log, console.raw and
    timeline.json.
    """

    def __init__(
        self,
        board: Board,
        profile: Profile,
        key: paramiko.PKey,
        artefacts: Path,
        *,
        name: str = "node",
    ) -> None:
        self.name = name
        self.artefacts = artefacts
        artefacts.mkdir(parents=True, exist_ok=True)
        settings = board.settings
        self.journal = Journal(name, settings.arch.value, profile.words())
        self.console = Recorder(artefacts, self.journal, profile)
        self._board = board
        self._settings = settings
        self.closed = False
        self._on = False
        self._signs = _Signs(profile.boot_text or _KERNEL, self.journal)
        self._commands = SshCommands(
            self.journal, self._service, key, settings.user, profile.host_key
        )
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._ending = threading.Event()
        self._flush = threading.Event()
        self._threads: list[threading.Thread] = []

    def flash(self, image: Path) -> None:
        """Write its storage, and listen to its console from then on. Raises LabError."""
        with self.journal.step("flash"):
            self._board.flash(image)
        self._listen()

    # Power

    @property
    def running(self) -> bool:
        """Whether the harness has switched it on."""
        return self._on

    def power_on(self) -> None:
        """Switch it on. Raises LabError."""
        if self._on:
            raise HarnessError(f"{self.name} is already on")
        self._signs.begin()
        self.journal.append(Source.HARNESS, "start", f"power of {self._settings.name} on")
        self._on = True
        self._board.on()

    def power_cut(self) -> None:
        """Switch it off at once: what was not flushed is lost."""
        self._off("cut")

    def _off(self, how: str) -> None:
        self._board.off()
        self._commands.disconnect()
        self._on = False
        self._flush.set()
        text = f"power of {self._settings.name} {how}"
        self.journal.append(Source.HARNESS, "exit", text, status=0, cpu_seconds=0.0)

    def reset(self) -> None:
        """Press the reset button, or switch it off and on."""
        self._board.reset()
        self._signs.begin()
        self.journal.append(Source.LAB, "event", "RESET", reason="reset button")

    def wait_reset(self, what: str, deadline: Deadline, since: int) -> Event:
        """Return when another boot has begun, by the console's first sign of it."""
        return self.journal.wait(is_reset, f"the reset by {what}", deadline, since=since)

    def quit(self) -> None:
        """Switch it off, where it is on."""
        if self._on:
            self._off("off")

    end = quit

    # Console

    def _listen(self) -> None:
        self.console.subscribe(self._signs.feed, self.console.position)
        for work, what in ((self._read, "serial line's reader"), (self._type, "serial line")):
            thread = threading.Thread(target=self._work, args=(work, what), name=what, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self, work: object, what: str) -> None:
        assert callable(work)
        try:
            while not self._ending.is_set():
                work()
        except Exception as error:
            self.journal.broken(f"the {what} of {self.name}", error)

    def _read(self) -> None:
        if data := self._board.read(_LOOK):
            self.console.feed(data)
        elif self._flush.is_set():
            # The recorder is this thread's alone.
            self._flush.clear()
            self.console.flush()

    def _type(self) -> None:
        if select.select([self._theirs], [], [], _LOOK)[0]:
            self._board.write(self._theirs.recv(1024))

    def expect(self, seconds: float, *, since: int | None = None) -> ConsoleExpect:
        """pexpect on the console, from byte ``since`` (default: now) on."""
        position = self.console.position if since is None else since
        timeout = seconds * self._settings.scale
        return ConsoleExpect(self.console, self._ours, since=position, timeout=timeout)

    def type_in(self, data: bytes) -> None:
        """Type on the console."""
        type_in(self._ours, data)

    def wait_console(self, expression: str, deadline: Deadline, *, since: int) -> re.Match[str]:
        """The match of the first console line from cursor ``since`` on that matches."""
        compiled = re.compile(expression)
        event = self.journal.wait(
            lambda event: is_line(event) and compiled.search(event.text) is not None,
            f"the console line /{expression}/", deadline, since=since,
        )  # fmt: skip
        match = compiled.search(event.text)
        assert match is not None  # it was the condition
        return match

    # The rest

    @property
    def channel(self) -> SshCommands:
        """Commands over SSH. Raises HarnessError while it is off."""
        if not self._on:
            raise HarnessError(f"{self.name} is off: it takes no commands")
        return self._commands

    def _service(self) -> Service:
        service = self._board.service
        if service is None:
            raise UnsupportedError(f"{self._settings.name} has no network service for commands")
        return service

    def address(self, port: int) -> str:
        """``host:port`` of the board, while it is on; port 22 where its SSH server is reached."""
        if not self._on:
            raise HarnessError(f"{self.name} is off: it serves nothing")
        service = self._service()
        if port == 22:
            return f"{service.host}:{service.port}"
        if service.host in ("127.0.0.1", "localhost", "::1"):
            raise UnsupportedError(
                f"only port 22 of {self._settings.name} can be reached from here"
            )
        return f"{service.host}:{port}"

    @property
    def disk(self) -> str:
        """The device of the boot disk, as the lab's file says."""
        return self._settings.disk

    @property
    def host_address(self) -> str:
        """The address at which it finds this host, as the lab's file says."""
        return self._settings.host_address

    @property
    def own_address(self) -> str:
        """Its own, as the lab's file says."""
        return self._settings.own_address

    def deadline(self, seconds: float) -> Deadline:
        """``seconds`` from now, scaled to the board."""
        return Deadline.after(seconds, self._settings.scale)

    def keep_disk(self) -> Path | None:
        """No board's storage is kept."""
        return None

    def close(self) -> None:
        """Switch it off, write the timeline."""
        if self.closed:
            return
        self.closed = True
        with contextlib.ExitStack() as steps:  # Each whatever becomes of those before it.
            steps.callback(self.journal.save, self.artefacts / "timeline.json")
            steps.callback(self.console.close)
            steps.callback(self._ours.close)
            steps.callback(self._theirs.close)
            steps.callback(self._stop)
            steps.callback(self.quit)

    def _stop(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()


class _Signs:
    """Finds the text that each boot says once, before its line is in the journal."""

    def __init__(self, text: str, journal: Journal) -> None:
        self._text = text.encode()
        self._journal = journal
        self._seen = False
        self._rest = b""

    def begin(self) -> None:
        """The next one is that of a boot that is known."""
        self._seen = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take the console's bytes."""
        *before, last = (self._rest + data).split(self._text)
        for _ in before:
            if self._seen:
                self._journal.append(Source.LAB, "event", "RESET", reason="guest-reset")
            self._seen = True
        self._rest = last[-(len(self._text) - 1) :]
