"""What the console says about boots, in the words of a profile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from harness.journal.journal import Event, Source, is_failure, is_reset
from harness.profile import Profile, facts


@dataclass(frozen=True, slots=True)
class Boot:
    """One decision of the boot loader, with the values it left in its environment.

    ``time`` is on the host's monotonic clock. Where the profile has no boot line it is a start or
    a reset of the machine, and says nothing of slots.
    """

    slot: str
    counter: int
    success: bool
    time: float

    @classmethod
    def from_event(cls, event: Event, profile: Profile) -> Self | None:
        """The decision that an event reports, or None."""
        if profile.boot is None:
            return cls("", 0, True, event.time) if begins(event) else None
        if event.source is not Source.CONSOLE or event.kind != "line":
            return None
        found = facts(profile.boot, event.text)
        if found is None:
            return None
        return cls(
            found.get("slot", ""),
            int(found.get("counter", 0)),
            found.get("success", "1") == "1",
            event.time,
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """The system's line when it has finished with a boot.

    ``text`` is the line as it came; what it does not say is "", and confirmed.
    """

    version: str = ""
    slot: str = ""
    confirmed: bool = True
    text: str = field(default="", compare=False)

    @classmethod
    def from_event(cls, event: Event, profile: Profile) -> Self | None:
        """What a console line reports, or None."""
        if event.source is not Source.CONSOLE or event.kind != "line":
            return None
        return cls.parse(event.text, profile.ready)

    @classmethod
    def parse(cls, text: str, expression: str | None) -> Self | None:
        """What a line of text reports, or None; ``expression`` is the profile's ``ready``."""
        found = facts(expression, text)
        if found is None:
            return None
        confirmed = found.get("confirmed", "1") == "1"
        return cls(found.get("version", ""), found.get("slot", ""), confirmed, text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Boots:
    """Every boot among ``events()`` up to the moment of asking, in order.

    So a boot that nobody expected is among them, too.
    """

    events: Callable[[], Iterable[Event]]
    profile: Profile

    @property
    def all(self) -> list[Boot]:
        """The boot loader's decisions."""
        found = (Boot.from_event(event, self.profile) for event in self.events())
        return [boot for boot in found if boot is not None]

    @property
    def rollbacks(self) -> list[str]:
        """The slots that the boot loader went back to."""
        lines = (event for event in self.events() if event.source is Source.CONSOLE)
        found = (facts(self.profile.rollback, e.text) for e in lines if e.kind == "line")
        return [values.get("slot", "") for values in found if values is not None]

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
        return [
            [text for event in events if (text := _cause(event, self.profile))]
            for events in self._each
        ]

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
            if Boot.from_event(event, self.profile) is not None:
                found.append([])
            if found:
                found[-1].append(event)
        return found

    def __len__(self) -> int:
        return len(self.all)


def begins(event: Event) -> bool:
    """After this event the machine runs another boot than before."""
    started = event.source is Source.HARNESS and event.kind in ("start", "restored")
    return started or is_reset(event)


def _cause(event: Event, profile: Profile) -> str | None:
    """What an event tells of why a boot failed, or None."""
    if event.source is Source.QMP and (event.kind, event.text) == ("event", "WATCHDOG"):
        return event.text
    if event.source is not Source.CONSOLE:
        return None
    given_up = event.kind == "line" and facts(profile.given_up, event.text) is not None
    return event.text if given_up or is_failure(event) else None
