"""The only module that imports labgrid: its targets as a Board, and drivers of the harness's own.

labgrid's environment files may name the drivers, with ``imports: [harness.lab.grid]``:

HarnessMuxDriver      switches an SD card between this host and the board by two commands, as
                      USBSDMuxDriver does with its hardware
HarnessStorageDriver  writes an image to a path of this host, as USBStorageDriver does with USB
HarnessStrategy       off -> flashed -> ready
"""

from __future__ import annotations

import contextlib
import enum
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attr
from labgrid import Environment, target_factory
from labgrid.driver import Driver
from labgrid.exceptions import NoDriverFoundError, NoResourceFoundError
from labgrid.step import step
from labgrid.strategy import Strategy
from pexpect import TIMEOUT

from harness.abilities import Ability
from harness.lab.board import Service
from harness.lab.settings import LabError, LabSettings

_CHUNK = 4 << 20
# Seconds in which a rig's command must end.
_COMMAND = 60.0
_READ = 64 * 1024


@target_factory.reg_driver
@attr.s(eq=False)
class HarnessMuxDriver(Driver):
    """Switches storage between this host and the board by the commands given."""

    cmd_host: str = attr.ib(validator=attr.validators.instance_of(str))
    cmd_dut: str = attr.ib(validator=attr.validators.instance_of(str))

    @Driver.check_active
    @step(args=["mode"])
    def set_mode(self, mode: str) -> None:
        """``host`` or ``dut``, the board."""
        command = {"host": self.cmd_host, "dut": self.cmd_dut}[mode]
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, timeout=_COMMAND, check=False
        )
        if done.returncode:
            raise LabError(f"{command} exited with {done.returncode}: {done.stderr.strip()}")


@target_factory.reg_driver
@attr.s(eq=False)
class HarnessStorageDriver(Driver):
    """Writes to a disk or a file of this host, while a mux gives it to the host."""

    path: str = attr.ib(validator=attr.validators.instance_of(str))

    @Driver.check_active
    @step(args=["filename"])
    def write_image(self, filename: str) -> None:
        """Write the file to the beginning of the storage, holes as zeros."""
        with open(filename, "rb") as source, open(self.path, "r+b") as sink:
            while block := source.read(_CHUNK):
                sink.write(block)
            sink.flush()


class Phase(enum.Enum):
    """Where provisioning stands; labgrid-client knows these by name."""

    unknown = 0
    off = 1
    flashed = 2
    ready = 3


@target_factory.reg_driver
@attr.s(eq=False)
class HarnessStrategy(Strategy):
    """off -> flashed -> ready; each goes through those before it.

    ``flashed`` writes ``image``, unless it lies there already, and gives the storage to the board;
    ``ready`` switches it on, whose boot the harness follows on the console.
    """

    bindings = {  # noqa: RUF012
        "power": "PowerProtocol",
        "storage": {"HarnessStorageDriver", "USBStorageDriver", None},
        "mux": {"HarnessMuxDriver", "USBSDMuxDriver", "USBSDWireDriver", "LXAUSBMuxDriver", None},
    }
    status: Phase = attr.ib(default=Phase.unknown)
    image: str | None = attr.ib(default=None)

    @step(args=["status"])
    def transition(self, status: str | Phase, *, step: Any = None) -> None:
        """Go there. Raises LabError where ``flashed`` is asked for without a storage driver."""
        wanted = status if isinstance(status, Phase) else Phase[status]
        if wanted is self.status:
            return
        if wanted is Phase.off:
            self.target.activate(self.power)
            self.power.off()
        elif wanted is Phase.flashed:
            if self.storage is None or self.image is None:
                raise LabError(
                    f"{self.target.name} cannot be flashed: "
                    + ("no image was given" if self.storage else "no storage driver is bound")
                )
            self.transition(Phase.off)
            self._flash()
        elif wanted is Phase.ready:
            if self.status is not Phase.flashed:
                self.transition(Phase.flashed)
            self.power.on()
        else:
            raise LabError(f"there is no transition to {wanted.name}")
        self.status = wanted

    def _flash(self) -> None:
        if self.mux is not None:
            self.target.activate(self.mux)
            self.mux.set_mode("host")
        self.target.activate(self.storage)
        self.storage.write_image(str(self.image))
        # The mux takes the storage away from this host.
        self.target.deactivate(self.storage)
        if self.mux is not None:
            self.mux.set_mode("dut")


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """labgrid's errors, of many kinds, as LabError."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise LabError(f"{what} failed: {_said(cause)}") from error


class GridBoard:
    """One target of an environment. Raises LabError from every method."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._environment = Environment(str(file))
            document = self._environment.config.get_option("harness")
        except Exception as error:
            raise LabError(
                f"labgrid does not take {file}: {_said(error)}",
                hint="docs/harness/lab.md has an example",
            ) from error
        self.settings = LabSettings.parse(document, str(file))
        self._target: Any = None

    def connect(self) -> None:
        """Get what the environment names from labgrid's coordinator, once."""
        if self._target is not None:
            return
        role = self.settings.target
        try:
            target = self._environment.get_target(role)
        except Exception as error:
            raise LabError(
                f"the target {role} of {self.file} cannot be had: {_said(error)}",
                hint="is labgrid's coordinator running, is the place acquired (labgrid-client)?",
            ) from error
        if target is None:
            raise LabError(f"{self.file} has no target {role}")
        self._target = target
        with _told(f"the strategy of {role}"):
            self._strategy = target.get_driver(HarnessStrategy)
        if self._driver("ConsoleProtocol") is not None:
            with _told("the console"):
                self._console = target.get_driver("ConsoleProtocol")
        if self._driver("PowerProtocol") is not None:
            with _told("the power switch"):
                self._power = target.get_driver("PowerProtocol")

    def _driver(self, name: str) -> Any:
        try:
            return self._target.get_driver(name, activate=False)
        except (NoDriverFoundError, KeyError):
            return None

    @property
    def abilities(self) -> frozenset[str]:
        """Those of the drivers and resources that are bound, and of the board's settings."""
        self.connect()
        found: set[str] = {self.settings.firmware.value}
        if self.settings.watchdog is not None:
            found.add(self.settings.watchdog.value)
        if self._driver("PowerProtocol") is not None:
            found.add(Ability.POWER)
        if self._driver("ResetProtocol") is not None:
            found.add(Ability.RESET)
        if self._driver("ConsoleProtocol") is not None:
            found |= {Ability.CONSOLE, Ability.KEYBOARD}
        if self._strategy.storage is not None:
            found.add(Ability.STORAGE)
        if self.service is not None:
            found |= {Ability.COMMANDS, Ability.NETWORK}
        return frozenset(str(ability) for ability in found)

    @property
    def service(self) -> Service | None:
        """Where its SSH server is reached, or None."""
        try:
            resource = self._target.get_resource("NetworkService", wait_avail=False)
        except NoResourceFoundError:
            return None
        return Service(str(resource.address), int(resource.port))

    # Power and storage

    def on(self) -> None:
        """Switch it on."""
        with _told("switching it on"):
            self._power.on()

    def off(self) -> None:
        """Switch it off."""
        with _told("switching it off"):
            self._power.off()

    def reset(self) -> None:
        """Press the reset button, or switch it off and on."""
        with _told("the reset"):
            self._target.get_driver("ResetProtocol").reset()

    def flash(self, image: Path) -> None:
        """Leave it off, with ``image`` on its storage."""
        with _told(f"writing {image.name} to its storage"):
            self._strategy.image = str(image)
            self._strategy.status = Phase.unknown
            self._strategy.transition(Phase.flashed)

    # Console. As labgrid's own pexpect does, past its log of steps, which is for one thread.

    def read(self, seconds: float) -> bytes:
        """What has come on the serial line; b"" for nothing in ``seconds``."""
        try:
            return bytes(self._console._read(size=1, timeout=seconds))
        except TIMEOUT:
            return b""

    def write(self, data: bytes) -> None:
        """Type on it."""
        self._console._write(data)

    def close(self) -> None:
        """Give everything back."""
        if self._target is not None:
            with _told("the end of the lab"):
                self._environment.cleanup()
            self._target = None
