"""GRUB's environment block as the agent's boot environment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from product.agent.bootloader.boot import SLOTS
from product.agent.bootloader.grubenv import Block, format_block, parse_block
from product.agent.bootloader.in_place import overwrite
from product.agent.bootloader.protocol import BOOT_TRIES, RESCUED, BootEnvError, Environment
from product.agent.errors import AgentError

# GRUB reads a block of any size; what lies beyond this nobody wrote on purpose.
MAX_BYTES = 1024 * 1024


class GrubBootEnv:
    """GRUB's environment block in a file on the EFI partition.

    It is changed in place, see product.agent.bootloader.in_place.
    """

    def __init__(self, partition: Callable[[bool], AbstractContextManager[str]], name: str) -> None:
        """``partition(writable)`` mounts the partition; ``name`` is the file's path in it."""
        self._partition = partition
        self._name = name

    def read(self) -> Environment:
        """See BootEnv."""
        try:
            with self._partition(False) as directory:
                return self._read(f"{directory}/{self._name}")[0]
        except AgentError as error:
            return _invalid(f"the boot environment cannot be reached: {error.message}")

    def arm(self, slot: str, trial: str) -> None:
        """See BootEnv."""
        self._write(slot, counter=BOOT_TRIES, success=False, trial=trial)

    def commit(self, slot: str) -> None:
        """See BootEnv."""
        self._write(slot, counter=None, success=True, trial=None)

    def force_rollback(self, slot: str) -> None:
        """See BootEnv; the trial's token stays, as it does when GRUB itself rolls back."""
        self._write(slot, counter=0, success=True, trial=None)

    def repair(self) -> None:
        """See BootEnv."""
        env = self.read()
        if env.odd and env.active_slot is not None and env.boot_success is not None:
            self._write(env.active_slot, counter=None, success=env.boot_success, trial=None)

    def _write(self, slot: str, *, counter: int | None, success: bool, trial: str | None) -> None:
        """None keeps the value that is there."""
        with self._partition(True) as directory:
            path = f"{directory}/{self._name}"
            before, others = self._read(path)
            if counter is None:
                counter = BOOT_TRIES if before.boot_counter is None else before.boot_counter
            first = {
                "active_slot": slot,
                "boot_counter": str(counter),
                "boot_success": "1" if success else "0",
            }
            token = trial or before.trial
            if token:
                first["trial"] = token
            if trial:
                # An update overwrites the slot that could not be started.
                others.pop(RESCUED.encode(), None)
            try:
                overwrite(path, format_block(first, others))
            except OSError as error:
                raise BootEnvError(
                    f"cannot write the boot environment {path}: {error.strerror}",
                    hint="the EFI partition must be writable and not full",
                ) from None

    def _read(self, path: str) -> tuple[Environment, dict[bytes, bytes]]:
        """The environment, and all its variables."""
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES)
        except FileNotFoundError:
            return _invalid("the boot environment is missing"), {}
        except OSError as error:
            return _invalid(f"the boot environment cannot be read: {error.strerror}"), {}
        try:
            block = parse_block(data)
        except ValueError as error:
            return _invalid(f"the boot environment is garbage: {error}"), {}
        return _interpret(block), block.variables


def _interpret(block: Block) -> Environment:
    variables = {name: value.decode("latin-1") for name, value in block.variables.items()}
    problems = []
    if block.oddity:
        problems.append(f"the boot environment is odd: {block.oddity}; the next write repairs it")
    slot = variables.get(b"active_slot")
    if slot not in SLOTS:
        problems.append(f"the boot environment has active_slot={_shown(slot)}")
        slot = None
    counter = None
    if (text := variables.get(b"boot_counter")) in ("0", "1", "2", "3"):
        counter = int(text)
    else:
        problems.append(f"the boot environment has boot_counter={_shown(text)}")
    found = variables.get(b"boot_success")
    success = {"0": False, "1": True}.get(found or "")
    if success is None:
        problems.append(f"the boot environment has boot_success={_shown(found)}")
    if (rescued := variables.get(RESCUED.encode())) is not None:
        problems.append(f"slot {_shown(rescued):.1} could not be started, the other slot took over")
    trial = variables.get(b"trial")
    if trial is not None and not trial.isascii():
        trial = None  # It is none that arming wrote.
    odd = block.oddity is not None
    return Environment(slot, counter, success, trial, tuple(problems), odd)


def _shown(value: str | None) -> str:
    """For a sentence: on one line, and short."""
    return "None" if value is None else ascii(value)[1:-1][:20]


def _invalid(problem: str) -> Environment:
    return Environment(None, None, None, None, (problem,))
