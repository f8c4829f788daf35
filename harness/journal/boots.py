"""What the boot loader and the agent say about boots on the console."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from harness.journal.journal import Event, Source

_BOOT = re.compile(r"kubesolo: boot slot=([AB]) counter=(\d) success=([01])")
_ROLLBACK = re.compile(r"kubesolo: rollback to slot=([AB])")
# Who gives a boot up says so: boot loader, early boot, the service health, the agent that tries
# again or returns, the stop; and the kernel's watchdog where the machine has none.
_GIVEN_UP = re.compile(
    r"kubesolo: boot failed|this try is given up|kubesolo-update: unhealthy |"
    r"kubesolo-update: rolled back .*failed health check|the stop takes too long: forced|"
    r"softdog: Initiating system reboot"
)
_READY = re.compile(r"kubesolo-update: ready version=(\S+) slot=([AB]) confirmed=([01])")


@dataclass(frozen=True, slots=True)
class Boot:
    """One decision of the boot loader, with the values it left in its environment.

    ``time`` is on the host's monotonic clock.
    """

    slot: str
    counter: int
    success: bool
    time: float

    @classmethod
    def from_event(cls, event: Event) -> Self | None:
        """The decision that a console line reports, or None."""
        if event.source is not Source.CONSOLE or event.kind != "line":
            return None
        match = _BOOT.search(event.text)
        if match is None:
            return None
        return cls(match[1], int(match[2]), match[3] == "1", event.time)


@dataclass(frozen=True, slots=True)
class Ready:
    """The agent's line when it has finished with a boot."""

    version: str
    slot: str
    confirmed: bool

    @classmethod
    def from_event(cls, event: Event) -> Self | None:
        """What a console line reports, or None."""
        if event.source is not Source.CONSOLE or event.kind != "line":
            return None
        return cls.parse(event.text)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What a line of text reports, or None."""
        match = _READY.search(text)
        return None if match is None else cls(match[1], match[2], match[3] == "1")

    def __str__(self) -> str:
        return (
            f"kubesolo-update: ready version={self.version} slot={self.slot} "
            f"confirmed={int(self.confirmed)}"
        )


@dataclass(frozen=True, slots=True)
class Boots:
    """Every boot among ``events()`` up to the moment of asking, in order.

    So a boot that nobody expected is among them, too.
    """

    events: Callable[[], Iterable[Event]]

    @property
    def all(self) -> list[Boot]:
        """The boot loader's decisions."""
        return [boot for event in self.events() if (boot := Boot.from_event(event)) is not None]

    @property
    def rollbacks(self) -> list[str]:
        """The slots that the boot loader went back to."""
        lines = (event for event in self.events() if event.source is Source.CONSOLE)
        matches = (_ROLLBACK.search(event.text) for event in lines if event.kind == "line")
        return [match[1] for match in matches if match]

    @property
    def slots(self) -> list[str]:
        """Each boot's slot."""
        return [boot.slot for boot in self.all]

    @property
    def counters(self) -> list[int]:
        """Each boot's counter after the decision: the tries that are left."""
        return [boot.counter for boot in self.all]

    @property
    def successes(self) -> list[bool]:
        """Whether each boot was of a confirmed slot."""
        return [boot.success for boot in self.all]

    @property
    def causes(self) -> list[list[str]]:
        """Why each boot failed, as its console says it, and ``WATCHDOG`` where that ended it.

        Failures count wherever they were expected. A boot that did not fail has none.
        """
        return [[text for event in events if (text := _cause(event))] for events in self._each]

    def saying(self, expression: str) -> list[bool]:
        """Whether a console line of each boot, from the decision on, matches."""
        compiled = re.compile(expression)
        return [
            any(event.kind == "line" and compiled.search(event.text) for event in events)
            for events in self._each
        ]

    @property
    def _each(self) -> list[list[Event]]:
        """Each boot's events, up to the next one's decision."""
        found: list[list[Event]] = []
        for event in self.events():
            if Boot.from_event(event) is not None:
                found.append([])
            if found:
                found[-1].append(event)
        return found

    def __len__(self) -> int:
        return len(self.all)


def _cause(event: Event) -> str | None:
    """What an event tells of why a boot failed, or None."""
    if event.source is Source.QMP and (event.kind, event.text) == ("event", "WATCHDOG"):
        return event.text
    if event.source is not Source.CONSOLE:
        return None
    given_up = event.kind == "line" and _GIVEN_UP.search(event.text)
    return event.text if given_up or event.kind == "failure" else None
