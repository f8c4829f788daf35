"""A fault that a scenario arms on purpose, and that has to happen.

Each fault is a context manager named by its ability (``harness.abilities``). The journal says when
it was armed, when it fired, how often and by which evidence, and when it was lifted. Leaving the
context raises NeverFiredError unless it fired: no scenario passes with a fault that did not happen.
"""

from __future__ import annotations

import abc
import contextlib
import time
from types import TracebackType
from typing import ClassVar, Self

from harness.abilities import Ability
from harness.deadline import Deadline
from harness.errors import DeadlineError, HarnessError
from harness.journal.journal import Journal, Source

# Seconds between two looks at whether a fault has fired.
_LOOK = 0.1


class NeverFiredError(HarnessError):
    """A fault was armed, and nothing met it."""


class Fault(abc.ABC):
    """``what`` says in a few words what goes wrong, for the journal and for errors.

    ``count`` is how often it has fired, as of the last look; ``evidence`` says what showed it.
    """

    ability: ClassVar[Ability]

    def __init__(self, journal: Journal, what: str) -> None:
        self.what = what
        self.count = 0
        self.evidence = ""
        self._journal = journal

    @abc.abstractmethod
    def arm(self) -> None:
        """Let it happen from now on. Raises HarnessError where that cannot be done."""

    @abc.abstractmethod
    def lift(self) -> None:
        """Let it happen no more; also of a machine that is off by now."""

    @abc.abstractmethod
    def look(self) -> tuple[int, str]:
        """How often it has fired since it was armed, and what shows it.

        It is asked while the fault is armed and once after it was lifted.
        """

    @property
    def fired(self) -> bool:
        """Whether it has happened by now."""
        self._see()
        return self.count > 0

    def wait_fired(self, deadline: Deadline) -> None:
        """Return once it has happened. Raises DeadlineError, or what the console showed."""
        while not self.fired:
            self._journal.check(f"{self} fired")
            if deadline.passed:
                raise DeadlineError(
                    f"the fault {self} did not fire within {deadline.seconds:.0f} s"
                )
            time.sleep(_LOOK)

    def __enter__(self) -> Self:
        self.count, self.evidence = 0, ""
        try:
            self.arm()
        except BaseException:
            # What was done of it is undone; why it could not be armed is the error to tell.
            with contextlib.suppress(HarnessError):
                self.lift()
            raise
        self._tell("armed", str(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as tolerant:
            if kind is not None:
                # The scenario's own error is the one to tell.
                tolerant.enter_context(contextlib.suppress(HarnessError))
            try:
                self._see()
            finally:
                self.lift()
                self._tell("lifted", str(self), count=self.count)
            self._see()
        if kind is None and not self.count:
            raise NeverFiredError(
                f"the fault {self} never fired: {self.evidence or 'nothing met it'}",
                hint="let it last until what it is for has happened, or arm it earlier",
            )

    def __str__(self) -> str:
        return f"{self.ability}: {self.what}"

    def _see(self) -> None:
        first = not self.count
        self.count, self.evidence = self.look()
        if first and self.count:
            self._tell("fired", f"{self}: {self.evidence}", count=self.count)

    def _tell(self, kind: str, text: str, **data: int) -> None:
        self._journal.append(Source.FAULT, kind, text, ability=str(self.ability), **data)
