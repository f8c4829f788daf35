"""A node as scenarios speak to it."""

from __future__ import annotations

import contextlib
import enum
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.abilities import Ability
from harness.commands.channel import CompletedCommand
from harness.console.expect import ConsoleExpect
from harness.deadline import Deadline
from harness.errors import CommandError, HarnessError, StateError, UnsupportedError
from harness.journal.boots import Boot, Boots, Ready, begins
from harness.journal.journal import Journal, Source
from harness.journal.patterns import Named
from harness.profile import Profile
from harness.qemu import snapshots
from harness.qemu.board import Board
from harness.qemu.machine import Host, Machine
from harness.qemu.snapshots import Key, SavedState, States
from harness.qemu.spec import MachineSpec
from harness.target.protocols import Bench, Pending, Target
from harness.target.view import View

if TYPE_CHECKING:
    import paramiko

    from harness.commands.ssh import SshChannel

# Seconds on a quiet machine; each is scaled to the machine at hand. A node with Kubernetes has to
# judge that first.
_READY = 240.0
_BOOT = 60.0
_COMMAND = 60.0
_REBOOT = 45.0


class State(enum.StrEnum):
    """Where a scenario can begin without a boot."""

    READY = "ready"  # a fresh image, booted, with the profile's ready line


class Node:
    """One node of a scenario: off until ``at``, ``boot`` or ``power_on``.

    Every method that waits raises what a wait of the journal raises, and every command
    ChannelError where it could not run at all. ``make_seconds`` went into states that
    later scenarios share: into making them, or into waiting for another worker that did.
    """

    def __init__(
        self,
        spec: MachineSpec,
        host: Bench,
        artefacts: Path,
        *,
        image: str,
        states: States,
        name: str = "node",
        reproduce: str = "",
    ) -> None:
        """``host`` is where its target comes from, ``image`` the digest of the image's content,
        ``reproduce`` a command for failures."""
        self.spec = spec
        self.name = name
        self.make_seconds = 0.0
        self._host = host
        self._artefacts = artefacts
        self._image = image
        self._states = states
        self._reproduce = reproduce
        self._target: Target | None = None
        self._ready: Ready | None = None
        self._scope = contextlib.ExitStack()

    # Beginning

    @property
    def target(self) -> Target:
        """What is below, QEMU or a board. Raises HarnessError before there is one."""
        if self._target is None:
            raise HarnessError(f"{self.name} was not started", hint="use at, boot or power_on")
        return self._target

    @property
    def machine(self) -> Machine:
        """QEMU's machine, for what no other target has. Raises UnsupportedError for a board,
        HarnessError before there is one."""
        target = self.target
        if not isinstance(target, Machine):
            raise UnsupportedError(f"{self.name} is no virtual machine of QEMU")
        return target

    @property
    def started(self) -> bool:
        """Whether there is a machine, running or not."""
        return self._target is not None

    @property
    def journal(self) -> Journal:
        """Everything that happened to it."""
        return self.target.journal

    @property
    def profile(self) -> Profile:
        """The system that runs on it."""
        return self._host.profile

    @property
    def disk(self) -> str:
        """The device of its boot disk in the running system."""
        return self.target.disk

    def partition(self, number: int) -> str:
        """The device of a partition of that disk, from 1 on."""
        return partition(self.disk, number)

    @property
    def host_address(self) -> str:
        """The address at which it finds this host."""
        return self._host.host_address

    @property
    def own_address(self) -> str:
        """The IPv4 address that it has in its own network."""
        return self.target.own_address

    def deadline(self, seconds: float) -> Deadline:
        """``seconds`` from now on the machine that figures are chosen on, scaled to this one."""
        return self.target.deadline(seconds)

    def at(self, state: State, *, slot: str | None = None) -> Ready:
        """Begin in ``state``, forked from a snapshot, which is made if there is none yet.

        Raises StateError where that runs another slot than ``slot``, if one is given.
        """

        def prepare(node: Node) -> None:
            node.boot()

        ready = self.prepared(state.value, prepare)
        if slot is not None and ready.slot != slot:
            raise StateError(f"state {state} of this image runs slot {ready.slot}, not {slot}")
        return ready

    def prepared(self, name: str, prepare: Callable[[Node], None], *, inputs: str = "") -> Ready:
        """Begin where ``prepare`` leaves a node, forked from a snapshot of that; without
        snapshots by ``prepare`` itself, each time anew.

        ``inputs`` is a digest of everything but the image that ``prepare`` depends on.
        """
        self._must_not_be_started()
        if Ability.SNAPSHOT not in self._host.abilities:
            prepare(self)
            return self.wait_ready()
        host = self._host
        assert isinstance(host, Host), "snapshots are QEMU's"
        if self.spec.board is not Board.VIRTUAL:
            raise StateError(
                f"a {self.spec.board} cannot be forked from a snapshot", hint="boot it"
            )

        if self.spec.tpm:
            raise StateError(
                "a machine with a TPM cannot be forked: each has a TPM of its own", hint="boot it"
            )

        def make() -> tuple[Machine, dict[str, str]]:
            maker = Node(
                self.spec,
                host,
                self._artefacts.with_name(f"{self._artefacts.name}-making-{name}"),
                image=self._image,
                states=self._states,
                name=f"{self.name}-making-{name}",
                reproduce=self._reproduce,
            )
            try:
                prepare(maker)
                ready = maker.wait_ready()
                # What it was made from stays until this node is closed.
                self._scope.enter_context(maker._scope)
                return maker.machine, {"ready": str(ready)}
            except BaseException:
                maker.close()
                raise

        key = Key.on(host, self.spec, self._image, name, inputs)
        state, machine = self._forked(host, key, make)
        text = state.facts["ready"]
        ready = Ready() if self.profile.ready is None else Ready.parse(text, self.profile.ready)
        self._adopt(machine)
        if ready is None:
            raise StateError(f"state {name} was saved without a ready line: {state.facts}")
        self._ready = ready
        # The picture of this boot cannot know its slot otherwise.
        self.journal.append(Source.HARNESS, "note", str(ready))
        return ready

    def _forked(
        self, host: Host, key: Key, make: Callable[[], tuple[Machine, dict[str, str]]]
    ) -> tuple[SavedState, Machine]:
        """A fork from the state of ``key``. One that cannot be forked from is not kept; it is made
        anew once."""
        reason = ""
        while True:
            with contextlib.ExitStack() as scope:
                begun = time.monotonic()
                try:
                    state = scope.enter_context(self._states.obtain(key, make))
                finally:
                    self.make_seconds += time.monotonic() - begun
                try:
                    machine = snapshots.fork(state, self.spec, host, self._artefacts, self.name)
                except HarnessError as error:
                    self._states.discard(key, state)
                    if reason:
                        raise
                    reason = error.message
                    continue
                if reason:
                    text = f"the snapshot {key.name} was made anew: {reason}"
                    machine.journal.append(Source.HARNESS, "note", text)
                self._scope.enter_context(scope.pop_all())
                return state, machine

    def power_on(self) -> None:
        """Plug it in: the first time with a fresh disk, later with the one it has."""
        if self._target is None:
            self._adopt(self._host.target(self.spec, self._artefacts, self.name))
        self._ready = None
        self.target.power_on()

    def boot(self) -> Ready:
        """Plug it in and wait until it is ready."""
        self.power_on()
        return self.wait_ready()

    def _adopt(self, target: Target) -> None:
        self._must_not_be_started()
        target.journal.reproduce = self._reproduce
        self._target = target

    def _must_not_be_started(self) -> None:
        if self._target is not None:
            raise HarnessError(f"{self.name} has begun already")

    # Power

    def power_cut(self) -> None:
        """Pull the plug; what was not flushed is lost."""
        self.target.power_cut()
        if self.target.running:
            raise HarnessError(f"{self.name} still has power after its power cut")
        self.journal.append(Source.FAULT, "fired", "power cut")

    def reset(self) -> None:
        """Press the reset button."""
        self.target.reset()

    def reboot(self, *, seconds: float = _REBOOT) -> None:
        """Reboot from inside, in good order; returns when the machine has been reset."""
        with self.journal.step("reboot"):
            since = self.journal.cursor
            # No reply is awaited: the system that would give it is going down.
            self.target.channel.start(self.profile.reboot, limit=None)
            what = shlex.join(self.profile.reboot)
            self.target.wait_reset(what, self.target.deadline(seconds), since)

    # Boots

    @property
    def boots_begun(self) -> int:
        """How many boots of it have begun so far; a restored one counts as one."""
        # Whoever is restored has been started, too.
        return sum(begins(e) and e.kind != "restored" for e in self.journal.events())

    def wait_ready(self, *, seconds: float = _READY) -> Ready:
        """Return what the system says when this boot is done; commands work afterwards."""
        with self.journal.step("wait until ready"):
            deadline = self.target.deadline(seconds)
            begun = self.journal.last(begins)
            if self.profile.ready is None:
                self._ready = Ready()
            elif begun is None or begun.kind != "restored":
                since = 0 if begun is None else begun.index
                event = self.journal.wait(
                    lambda event: Ready.from_event(event, self.profile) is not None,
                    "the ready line",
                    deadline,
                    since=since,
                )
                self._ready = Ready.from_event(event, self.profile)
            if self.profile.channel:
                self.target.channel.wait_up(deadline)
                self.target.channel.ping(deadline)
        if self._ready is None:
            raise StateError(f"{self.name} was restored without its ready line")
        return self._ready

    @contextlib.contextmanager
    def expect_boots(self, count: int, *, seconds_each: float = _BOOT) -> Iterator[Boots]:
        """At the end of this scope, ``count`` boots have been decided since its beginning.

        What the boot loader said about each is in the given object, as it is about any that come
        later: a boot too many does not go unseen.
        """
        since = self.journal.cursor if self.started else 0
        yield Boots(lambda: self.journal.events(since), self.profile)
        with self.journal.step(f"wait for {count} boots"):
            position = since
            for number in range(1, count + 1):
                event = self.journal.wait(
                    lambda event: Boot.from_event(event, self.profile) is not None,
                    f"boot {number} of {count}",
                    self.target.deadline(seconds_each),
                    since=position,
                )
                position = event.index + 1

    @contextlib.contextmanager
    def expecting(self, *patterns: Named, times: int = 1) -> Iterator[None]:
        """Within this scope each of the failures comes on the console, at least so many times.

        Raises MissingFailureError at its end.
        """
        with self.journal.expecting(*patterns, times=times):
            yield

    @contextlib.contextmanager
    def tolerating(self, *patterns: Named) -> Iterator[None]:
        """Within this scope the given failures on the console may come or not."""
        with self.journal.tolerating(*patterns):
            yield

    # Commands

    def run(
        self,
        command: str | Sequence[str],
        *,
        seconds: float = _COMMAND,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedCommand:
        """Run a command (a string goes to the shell), whatever its status."""
        deadline = self.target.deadline(seconds)
        return self.target.channel.exec(_argv(command), deadline, stdin=stdin, env=env)

    def succeed(
        self,
        command: str | Sequence[str],
        *,
        seconds: float = _COMMAND,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedCommand:
        """Run a command that must exit with 0. Raises CommandError with its output."""
        done = self.run(command, seconds=seconds, stdin=stdin, env=env)
        if done.exit != 0:
            raise CommandError(f"expected success: {done}", hint=self._reproduce or None)
        return done

    def fail(
        self,
        command: str | Sequence[str],
        *,
        exit: int | None = None,
        seconds: float = _COMMAND,
        env: Mapping[str, str] | None = None,
    ) -> CompletedCommand:
        """Run a command that must not exit with 0; with ``exit`` given, exactly with that."""
        done = self.run(command, seconds=seconds, env=env)
        if done.exit == 0 or (exit is not None and done.exit != exit):
            wanted = "a failure" if exit is None else f"exit status {exit}"
            raise CommandError(f"expected {wanted}: {done}", hint=self._reproduce or None)
        return done

    def start(self, command: str | Sequence[str], *, seconds: float = _COMMAND) -> Pending:
        """Run a command meanwhile, at most ``seconds`` of this machine."""
        limit = self.target.deadline(seconds).seconds
        return self.target.channel.start(_argv(command), limit=limit)

    def status(self) -> View:
        """What the profile's status command prints. Raises UnsupportedError where it has none."""
        if not self.profile.status:
            raise UnsupportedError(f"the profile {self.profile.name} has no status command")
        done = self.succeed(self.profile.status)
        try:
            return View.parse(done.stdout)
        except ValueError as error:
            raise CommandError(f"the status is no JSON object ({error}): {done}") from error

    def address(self, port: int) -> str:
        """``host:port`` under which this host reaches a TCP port of the node."""
        return self.target.address(port)

    def ssh(
        self,
        *,
        host_key: str,
        key: paramiko.PKey | None = None,
        password: str | None = None,
        seconds: float = _COMMAND,
    ) -> SshChannel:
        """A second channel: log in over SSH, as an operator does; see harness.commands.ssh."""
        from harness.commands.ssh import SshChannel

        deadline = self.target.deadline(seconds)
        return SshChannel(
            self.address(22), self.journal, deadline, host_key=host_key, key=key, password=password
        )

    def put(self, data: bytes | str, path: str, *, mode: int = 0o644) -> None:
        """Write a file on the node."""
        raw = data.encode() if isinstance(data, str) else data
        self.target.channel.put(raw, path, self.target.deadline(_COMMAND), mode=mode)

    def get(self, path: str) -> bytes:
        """Read a file of the node."""
        return self.target.channel.get(path, self.target.deadline(_COMMAND))

    # Console

    def wait_console(
        self, expression: str, *, seconds: float = _COMMAND, since: int | None = None
    ) -> Sequence[str | None]:
        """Groups of the first console line from ``since`` (default: now) on that matches."""
        position = self.journal.cursor if since is None else since
        deadline = self.target.deadline(seconds)
        return self.target.wait_console(expression, deadline, since=position).groups()

    def expect(self, *, seconds: float = _COMMAND, since: int | None = None) -> ConsoleExpect:
        """pexpect on the console: for boot menus and the emergency shell alone."""
        return self.target.expect(seconds, since=since)

    # End

    def end(self) -> None:
        """Switch it off, and leave nothing that its console said unread.

        Raises GuestFailureError for a failure that no wait has reported.
        """
        self.journal.check("the scenario's end")
        self.target.end()
        self.journal.check("the scenario's end")

    def close(self) -> None:
        """Switch it off, leave its evidence, remove the rest."""
        with self._scope:
            if self._target is not None:
                self._target.close()

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.spec.arch}>"


def partition(disk: str, number: int) -> str:
    """The device of a partition: ``/dev/sda`` has sda1, ``/dev/mmcblk0`` mmcblk0p1."""
    return f"{disk}{'p' if disk[-1].isdigit() else ''}{number}"


def _argv(command: str | Sequence[str]) -> list[str]:
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
