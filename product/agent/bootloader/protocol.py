"""The boot environment: which slot the boot loader starts, and how often it may try.

``active_slot`` A or B, ``boot_counter`` 3 to 0, ``boot_success`` 0 or 1. While boot_success is 0
the boot loader spends one of the tries at each boot; when none is left it returns to the other
slot. Beside these, ``trial`` names the attempt that armed the slot (see the state file), and
``rescued`` the confirmed slot that early boot could not start and gave up for the other one.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from product.agent.errors import AgentError

BOOT_TRIES = 3
RESCUED = "rescued"


class BootEnvError(AgentError):
    """The boot environment cannot be written."""

    code = "environment-unwritable"


class Environment(NamedTuple):
    """What was read; where it is not ``valid``, the boot loader cannot rely on it either.

    ``odd``: the boot loader reads it, and perhaps cannot write it; the next write repairs it.
    ``untried``: no boot of the slot that ``trial`` names was ever seen, where the boot loader needs
    a firmware's help to try one.
    """

    active_slot: str | None
    boot_counter: int | None
    boot_success: bool | None
    trial: str | None = None
    problems: tuple[str, ...] = ()
    odd: bool = False
    untried: bool = False

    @property
    def valid(self) -> bool:
        """Whether all three values could be read."""
        return None not in (self.active_slot, self.boot_counter, self.boot_success)

    def confirms(self, slot: str) -> bool:
        """Whether ``slot`` is the active one and has been committed."""
        return self.valid and self.active_slot == slot and self.boot_success is True

    def tries(self, slot: str) -> bool:
        """Whether ``slot`` is the active one and still on trial."""
        return self.valid and self.active_slot == slot and self.boot_success is False


class BootEnv(Protocol):
    """One boot loader's way to keep the environment. Writing raises BootEnvError."""

    def read(self) -> Environment:
        """What is there; never raises for its content."""
        ...

    def arm(self, slot: str, trial: str) -> None:
        """Let ``slot`` be tried from the next boot on, with all tries, whatever was before."""
        ...

    def commit(self, slot: str) -> None:
        """Confirm ``slot``, the one that runs."""
        ...

    def force_rollback(self, slot: str) -> None:
        """Make ``slot``, the known-good one, the confirmed one from the next boot on."""
        ...

    def repair(self) -> None:
        """Write what is there anew where it is valid and odd; the values stay."""
        ...
