"""``autoboot.txt`` of a Raspberry Pi as the agent's boot environment.

The firmware gives one try for each time that its flag is set, counts nothing and writes nothing. So
the system counts: before a restart that sets the flag it takes one of the tries away, and the
known-good slot, when it boots while tries are left, does the same and restarts. A try that ends in
any way, by a power cut as well, has been counted before it began.

The default partition is the known-good slot's until the new one is committed; the filter
``[tryboot]`` names the slot on trial, and the same slot as the default where none is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import NamedTuple

from product.agent.bootloader.boot import SLOTS, other_slot
from product.agent.bootloader.in_place import overwrite
from product.agent.bootloader.protocol import BOOT_TRIES, RESCUED, BootEnvError, Environment
from product.agent.errors import AgentError
from product.disk.autoboot import (
    FILE_BYTES,
    NAME,
    Content,
    format_autoboot,
    parse_autoboot,
)

# What lies beyond what the firmware reads nobody wrote on purpose.
_MAX_READ = 64 * 1024
# Whether a boot of the slot on trial was seen; written by its early boot (images/boot/init).
TRIED = "tried"
_KNOWN = ("active_slot", "boot_counter", "boot_success", TRIED, "trial", RESCUED)


class Step(Enum):
    """What early boot has to do next."""

    GO_ON = "go on"
    TRY = "restart with the firmware's flag"
    LEAVE = "restart into the other slot"


class _Found(NamedTuple):
    """What was read: the environment, and the file where it is one of ours."""

    environment: Environment
    content: Content | None = None


class TrybootEnv:
    """autoboot.txt on the first FAT partition, changed by one write in place and an fsync."""

    def __init__(
        self, partition: Callable[[bool], AbstractContextManager[str]], name: str = NAME
    ) -> None:
        """``partition(writable)`` mounts the partition; ``name`` is the file's path in it."""
        self._partition = partition
        self._name = name

    def read(self) -> Environment:
        """See BootEnv."""
        return self._find().environment

    def arm(self, slot: str, trial: str) -> None:
        """See BootEnv. The default stays the other slot."""
        variables = _variables(slot, BOOT_TRIES, success=False, tried=False)
        self._write(Content(other_slot(slot), slot, {**variables, "trial": trial}))

    def commit(self, slot: str) -> None:
        """See BootEnv."""
        self._settle_on(slot, None, tried=True)

    def force_rollback(self, slot: str) -> None:
        """See BootEnv; the trial's token stays. That the slot was never tried does not: somebody
        wanted this."""
        self._settle_on(slot, 0, tried=True)

    def repair(self) -> None:
        """See BootEnv."""
        found = self._find()
        if found.environment.odd and found.content is not None:
            self._write(found.content)

    def settle(self, running: str) -> Step:
        """What the first steps of a boot of slot ``running`` do while another one is on trial.

        The known-good slot spends the next try, or, where none is left, is the confirmed one again.
        A slot on trial that boots by default, without the flag, counts its own boots. Raises
        BootEnvError, after which nothing may be tried: it could not be counted.
        """
        env, content = self._find()
        if content is None or not env.valid or env.boot_success:
            return Step.GO_ON
        assert env.boot_counter is not None
        if env.active_slot == running:
            if content.default != running:
                return Step.GO_ON
            # It was given the default by the other slot, which could not be started.
            if env.boot_counter:
                self._count(content, env.boot_counter - 1)
                return Step.GO_ON
            self._settle_on(other_slot(running), 0)
            return Step.LEAVE
        if env.boot_counter:
            self._count(content, env.boot_counter - 1)
            return Step.TRY
        self._settle_on(running, 0)
        return Step.GO_ON

    def spend_try(self) -> bool:
        """What a planned restart does at its very end: whether it has to set the firmware's flag.

        A restart is the beginning of a try where a slot is on trial and tries are left; it is
        counted. Raises BootEnvError; the flag must not be set then.
        """
        env, content = self._find()
        if content is None or not env.valid or env.boot_success or not env.boot_counter:
            return False
        if content.default == env.active_slot:
            return False  # it boots without the flag
        self._count(content, env.boot_counter - 1)
        return True

    def _count(self, content: Content, counter: int) -> None:
        variables = {**content.variables, "boot_counter": str(counter)}
        self._write(content._replace(variables=variables))

    def _settle_on(self, slot: str, counter: int | None, *, tried: bool | None = None) -> None:
        """Make ``slot`` the confirmed one; None keeps what is there."""
        env, content = self._find()
        before = content.variables if content else {}
        if counter is None:
            counter = BOOT_TRIES if env.boot_counter is None else env.boot_counter
        if tried is None:
            tried = before.get(TRIED) != "0"
        variables = {**before, **_variables(slot, counter, success=True, tried=tried)}
        if env.trial is None:
            variables.pop("trial", None)
        self._write(Content(slot, slot, variables))

    def _write(self, content: Content) -> None:
        known = {name: content.variables[name] for name in _KNOWN if name in content.variables}
        try:
            data = format_autoboot(content._replace(variables=known))
            with self._partition(True) as directory:
                overwrite(f"{directory}/{self._name}", data)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BootEnvError(
                f"cannot write the boot environment {self._name}: {reason}",
                hint="KSOLOEFI must be writable and not full",
            ) from None

    def _find(self) -> _Found:
        try:
            with self._partition(False) as directory:
                data = _read(f"{directory}/{self._name}")
        except FileNotFoundError:
            return _Found(_invalid(f"{self._name} is missing: the firmware takes the first slot"))
        except OSError as error:
            return _Found(_invalid(f"{self._name} cannot be read: {error.strerror}"))
        except AgentError as error:
            return _Found(_invalid(f"{self._name} cannot be reached: {error.message}"))
        try:
            content = parse_autoboot(data)
        except ValueError as error:
            return _Found(_invalid(f"{self._name} is garbage: {error}"))
        return _Found(_interpret(content, data), content)


def _variables(slot: str, counter: int, *, success: bool, tried: bool) -> dict[str, str]:
    return {
        "active_slot": slot,
        "boot_counter": str(counter),
        "boot_success": "1" if success else "0",
        TRIED: "1" if tried else "0",
    }


def _interpret(content: Content, data: bytes) -> Environment:
    variables = content.variables
    problems = []
    slot = variables.get("active_slot")
    if slot not in SLOTS:
        problems.append(f"{NAME} has active_slot={slot}")
        slot = None
    counter = None
    if (text := variables.get("boot_counter")) in ("0", "1", "2", "3"):
        counter = int(text)
    else:
        problems.append(f"{NAME} has boot_counter={text}")
    found = variables.get("boot_success")
    success = {"0": False, "1": True}.get(found or "")
    if success is None:
        problems.append(f"{NAME} has boot_success={found}")
    # The firmware goes by its own properties alone: they are what is true.
    if slot is not None and content.tryboot != slot:
        problems.append(f"{NAME} says that slot {slot} is active, and tries {content.tryboot}")
        slot = None
    elif success and content.default != slot:
        problems.append(f"{NAME} says that slot {slot} is confirmed, and boots {content.default}")
        slot = None
    if (rescued := variables.get(RESCUED)) is not None:
        problems.append(f"slot {rescued:.1} could not be started, the other slot took over")
    odd = len(data) != FILE_BYTES
    if odd:
        problems.append(
            f"{NAME} is odd: it is {len(data)} bytes, not {FILE_BYTES}; the next write repairs it"
        )
    untried = variables.get(TRIED) == "0" and success is True and counter == 0
    trial = variables.get("trial") or None
    return Environment(slot, counter, success, trial, tuple(problems), odd, untried)


def _invalid(problem: str) -> Environment:
    return Environment(None, None, None, None, (problem,))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_READ)


class Reading(NamedTuple):
    """What the firmware says of this boot; None where it says nothing."""

    partition: int | None
    tryboot: int | None


def read_firmware(proc: str) -> Reading:
    """The nodes ``chosen/bootloader/partition`` and ``tryboot``, big-endian numbers of 32 bits."""
    values = []
    for name in ("partition", "tryboot"):
        try:
            data = _read(f"{proc}/device-tree/chosen/bootloader/{name}")
        except OSError:
            data = b""
        values.append(int.from_bytes(data, "big") if len(data) == 4 else None)
    return Reading(*values)


def contradiction(reading: Reading, slot: str, partitions: Mapping[str, int]) -> str | None:
    """What the firmware says against ``slot`` being the one that runs, for a report.

    The kernel's argument decides: releases of the firmware leave the nodes out, or say 0 or what a
    reset left in a register (32, 63).
    """
    known = {number: name for name, number in partitions.items()}
    said = known.get(reading.partition or 0)
    if said is None or said == slot:
        return None
    return f"the firmware says that it booted partition {reading.partition}, and slot {slot} runs"
