"""What a scenario may ask of a node, whether it is QEMU or a board in a lab.

One protocol per ability. A target that lacks an ability raises UnsupportedError, and a scenario
that needs it is skipped with that reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.commands.channel import CompletedCommand
from harness.console.expect import ConsoleExpect
from harness.console.recorder import Recorder
from harness.deadline import Deadline
from harness.journal.journal import Event, Journal
from harness.profile import Profile
from harness.qemu.spec import MachineSpec
from product.channel.framing import Message


class Power(Protocol):
    """The plug and the reset button."""

    @property
    def running(self) -> bool:
        """Whether there is power."""
        ...

    def power_on(self) -> None:
        """Plug it in; the firmware starts."""
        ...

    def power_cut(self) -> None:
        """Pull the plug: nothing is flushed."""
        ...

    def reset(self) -> None:
        """Press the reset button."""
        ...

    def wait_reset(self, what: str, deadline: Deadline, since: int) -> Event:
        """Return when it has been reset by ``what`` after journal cursor ``since``."""
        ...


class Console(Protocol):
    """The serial line."""

    def wait_console(self, expression: str, deadline: Deadline, *, since: int) -> re.Match[str]:
        """The match of the first line after journal cursor ``since`` that matches."""
        ...

    def expect(self, seconds: float, *, since: int | None = None) -> ConsoleExpect:
        """pexpect on it."""
        ...

    def type_in(self, data: bytes) -> None:
        """Type on it."""
        ...


class Pending(Protocol):
    """A command that runs meanwhile."""

    argv: tuple[str, ...]

    def wait(self, deadline: Deadline) -> CompletedCommand:
        """Its end, as often as it is asked for; see PendingCommand."""
        ...

    def give_up(self) -> None:
        """Take no more of its output, and no reply."""
        ...

    def output(self) -> bytes:
        """Standard output so far."""
        ...


class Commands(Protocol):
    """Commands inside the running system."""

    @property
    def up(self) -> bool:
        """Whether this boot's system takes commands."""
        ...

    def wait_up(self, deadline: Deadline) -> None:
        """Return once it does."""
        ...

    def ping(self, deadline: Deadline) -> Message:
        """Prove that it answers now."""
        ...

    def resync(self, deadline: Deadline) -> None:
        """Set its clock, renew its entropy."""
        ...

    def start(
        self,
        argv: Sequence[str],
        *,
        limit: float | None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Pending:
        """Run a command meanwhile."""
        ...

    def exec(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedCommand:
        """Run a command to its end."""
        ...

    def put(self, data: bytes, path: str, deadline: Deadline, *, mode: int = 0o644) -> None:
        """Write a file."""
        ...

    def get(self, path: str, deadline: Deadline) -> bytes:
        """Read a file."""
        ...


class Storage(Protocol):
    """The disk as evidence, and where the node has it."""

    @property
    def disk(self) -> str:
        """The device of the boot disk in the running system."""
        ...

    def keep_disk(self) -> Path | None:
        """Keep what the node wrote, where that is possible."""
        ...


class Network(Protocol):
    """The way to what the node serves, and to what this host serves it."""

    @property
    def host_address(self) -> str:
        """The address at which the node finds this host."""
        ...

    @property
    def own_address(self) -> str:
        """The IPv4 address that the node has in its own network."""
        ...

    def address(self, port: int) -> str:
        """``host:port`` under which this host reaches the node's TCP ``port``, while it is on."""
        ...


class Target(Power, Console, Storage, Network, Protocol):
    """A whole node, and the journal of everything that happens to it."""

    journal: Journal
    console: Recorder
    artefacts: Path

    @property
    def channel(self) -> Commands:
        """The way in, while there is power."""
        ...

    def deadline(self, seconds: float) -> Deadline:
        """``seconds`` on the machine that figures are chosen on, scaled to this target."""
        ...

    def quit(self) -> None:
        """Switch it off in good order, so far as it can be: its disk is complete afterwards."""
        ...

    def end(self) -> None:
        """Switch it off, in good order or else at once."""
        ...

    def close(self) -> None:
        """Switch it off and leave nothing behind."""
        ...


class Bench(Protocol):
    """Where the targets of a run come from: this host's QEMU, or a lab."""

    @property
    def profile(self) -> Profile:
        """The system that runs on them."""
        ...

    @property
    def accelerator(self) -> str:
        """What runs them: tcg, kvm, or lab."""
        ...

    @property
    def scale(self) -> float:
        """What multiplies every deadline; 1.0 is the machine that the figures were chosen on."""
        ...

    @property
    def abilities(self) -> frozenset[str]:
        """What they can do (harness.abilities)."""
        ...

    @property
    def host_address(self) -> str:
        """The address at which they find this host."""
        ...

    def target(self, spec: MachineSpec, artefacts: Path, name: str) -> Target:
        """A target, off, with a fresh disk. Raises UnsupportedError where it cannot be had."""
        ...
