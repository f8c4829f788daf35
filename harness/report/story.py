"""What a timeline tells: boots and their phases, commands, and the moments that matter.

All times are seconds since the timeline's start. The input is the content of ``timeline.json``
(harness.journal.journal); whatever is missing from it is left out of the story, since a report of
a run that broke is wanted most.
"""

from __future__ import annotations

import enum
import os.path
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from harness.abilities import Ability
from harness.journal.boots import Ready
from harness.journal.journal import Source
from harness.profile import facts

# Failures of one kind this close together are one: a panic prints several lines.
_SAME_FAILURE = 2.0
# A watchdog's event comes this long before the reset that it causes, at most.
_WATCHDOG_RESET = 1.0
# A failed wait's message (harness.journal.journal), quoted as Python quotes.
_WAITED = re.compile(r"""waited ([\d.]+) s for .* in step ["'](.+?)["']: nothing within""")
_SIGKILL = -9
_SHELLS = ("sh", "ash", "bash")


class Phase(enum.StrEnum):
    """A part of a boot, in the order in which they come."""

    FIRMWARE = "firmware"
    LOADER = "boot loader"
    KERNEL = "kernel"
    INITRAMFS = "initramfs"
    STAGES = "early boot stages"
    AGENT = "services and agent"
    UP = "up"
    STOPPING = "stopping"


# What any machine says; the other phases begin with lines that the profile names.
_OF_ALL = (
    (Phase.LOADER, r"BdsDxe: starting |Booting from Hard Disk|Welcome to GRUB"),
    (Phase.KERNEL, r"\] Linux version \d"),
)
_ORDER = list(Phase)


class Tone(enum.StrEnum):
    """What a moment means to whoever reads the picture."""

    GOOD = "good"
    NEUTRAL = "neutral"
    WARNING = "warning"
    FAULT = "fault"  # done to the machine on purpose
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: a short label, and the full text that it stands for."""

    time: float
    label: str
    tone: Tone
    detail: str


@dataclass(frozen=True, slots=True)
class Words:
    """How the system says what it does: expressions of its profile, as the timeline has them.

    ``phases`` are from the last to the first. What cannot be read of them is left out.
    """

    ready: str | None
    boot: str | None
    phases: Sequence[tuple[Phase, str]]
    moments: Sequence[tuple[str, str, Tone]]

    @classmethod
    def of(cls, document: object) -> Self:
        """``words`` of a timeline document."""
        known = document if isinstance(document, dict) else {}
        ready, boot = (w if isinstance(w := known.get(n), str) else None for n in ("ready", "boot"))
        phases = [(Phase(name), text) for name, text in _rows(known.get("phases"), 2, Phase)]
        if ready is not None:
            phases.append((Phase.UP, ready))
        if boot is not None:
            phases.append((Phase.KERNEL, boot))
        phases.extend(_OF_ALL)
        phases.sort(key=lambda phase: -_ORDER.index(phase[0]))
        rows = _rows(known.get("moments"), 3, Tone)
        moments = [(text, label, Tone(tone)) for text, label, tone in rows]
        return cls(ready, boot, phases, moments)


@dataclass
class Boot:
    """From power on or reset to the next end; ``decided`` is the boot loader's moment.

    ``slot`` and ``counter`` are None where the boot loader said nothing: the boot ended before,
    or the machine was restored from a snapshot.
    """

    begin: float
    end: float
    restored: bool = False
    decided: float | None = None
    slot: str | None = None
    counter: int | None = None
    confirmed: bool = False
    phases: list[tuple[Phase, float]] = field(default_factory=list)  # each with its begin

    @property
    def spans(self) -> Iterator[tuple[Phase, float, float]]:
        """Each phase with begin and end."""
        ends = [begin for _, begin in self.phases[1:]] + [self.end]
        for (phase, begin), end in zip(self.phases, ends, strict=True):
            yield phase, begin, end

    def __str__(self) -> str:
        if self.slot is None:
            return "restored" if self.restored else "?"
        return self.slot if self.counter is None else f"{self.slot}{self.counter}"


@dataclass
class Command:
    """A request to the node; ``exit`` is None for what has no status, ``answered`` says if lost."""

    begin: float
    end: float
    text: str
    exit: int | None = None
    answered: bool = False

    @property
    def name(self) -> str:
        """What it does, as short as may be: a shell's script, with its arguments put in."""
        return short_name(self.text)


@dataclass
class Step:
    """A step of the harness; ``depth`` counts the steps around it. ``ended`` says if it did."""

    begin: float
    end: float
    text: str
    depth: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """All of one timeline."""

    machine: str
    arch: str
    started: str  # ISO 8601
    seconds: float
    boots: list[Boot]
    commands: list[Command]
    decisions: list[Mark]  # of the boot loader and of the agent
    faults: list[Mark]  # and resets, failures, ends
    console: list[str]
    steps: list[Step]

    @classmethod
    def of(cls, timeline: Mapping[str, Any]) -> Self:
        """The story of a timeline document."""
        events = [event for event in timeline.get("events", []) if isinstance(event, dict)]
        words = Words.of(timeline.get("words"))
        seconds = max((_time(event) for event in events), default=0.0)
        return cls(
            machine=str(timeline.get("machine", "")),
            arch=str(timeline.get("arch", "")),
            started=str(timeline.get("started", "")),
            seconds=seconds,
            boots=list(_boots(events, seconds, words)),
            commands=_commands(events, seconds),
            decisions=list(_decisions(events, words)),
            faults=list(_faults(events)),
            console=[_text(event) for event in events if _is(event, Source.CONSOLE, "line")],
            steps=list(_steps(events, seconds)),
        )

    @property
    def decided_boots(self) -> list[Boot]:
        """The boots that the boot loader, or a snapshot, got to run."""
        return [boot for boot in self.boots if boot.slot is not None or boot.restored]

    @property
    def fault_kinds(self) -> list[str]:
        """What kinds of faults were done to the machine, each once, by name."""
        told = {fault_kind(one.label) for one in self.faults if one.tone is Tone.FAULT}
        return sorted(told)

    def boot_at(self, time: float) -> Boot | None:
        """The boot that a moment belongs to."""
        return next((one for one in reversed(self.boots) if one.begin <= time <= one.end), None)

    def slot_seconds(self) -> dict[str, float]:
        """Seconds that the machine ran from each slot, from the boot loader's decision on."""
        found: dict[str, float] = {}
        for boot in self.boots:
            if boot.slot and boot.decided is not None:
                found[boot.slot] = found.get(boot.slot, 0.0) + boot.end - boot.decided
        return found

    def deciding(self, failure: str) -> Mark | None:
        """The moment that ended a scenario with ``failure``, where this machine's journal has it.

        That is the first failure that nobody expected, or the end of the wait that gave up.
        """
        if not failure:
            return None
        for mark in self.faults:
            if mark.tone is Tone.FAILURE:
                return mark
        if waited := _WAITED.match(failure):
            step = waited[2].rpartition(" > ")[2]
            ended = sorted((one for one in self.steps if one.ended), key=lambda one: -one.end)
            for one in ended:
                if one.text == step:
                    return Mark(one.end, f"gave up after {waited[1]} s", Tone.FAILURE, failure)
        return None


def _rows(found: object, length: int, kind: type[enum.StrEnum]) -> Iterator[Any]:
    """Rows of texts, of which the first or the last of three is a ``kind``; garbage is left out."""
    for row in found if isinstance(found, list) else ():
        if not isinstance(row, list) or len(row) != length:
            continue
        known = (row[0] if length == 2 else row[-1]) in list(kind)
        if known and all(isinstance(cell, str) for cell in row):
            yield row


def short_name(command: str) -> str:
    """A command line as a label: a shell's script instead of the shell, on one line."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    if len(words) >= 3 and os.path.basename(words[0]) in _SHELLS and words[1] == "-c":
        script, arguments = " ".join(words[2].split()), words[3:]
        for number, argument in enumerate(arguments):
            script = script.replace(f'"${number}"', argument).replace(f"${number}", argument)
        return script
    if words:
        words[0] = os.path.basename(words[0])
    return " ".join(" ".join(words).split())


def fault_kind(label: str) -> str:
    """The kind of a fault: its ability, its first two words, or that a web server did it."""
    ability, colon, _ = label.partition(": ")
    if colon and ability in {one.value for one in Ability}:
        return ability.replace("-", " ")
    words = label.removeprefix("the ").split()
    if any(word.startswith("/") for word in words[:4]):
        return "web server"
    return " ".join(words[:1] if words[:1] == ["disk"] else words[:2])


def _time(event: Mapping[str, Any]) -> float:
    return float(event.get("time", 0.0))


def _text(event: Mapping[str, Any]) -> str:
    return str(event.get("text", ""))


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


def _is_reset(event: Mapping[str, Any]) -> bool:
    return _is(event, Source.QMP, "event", "RESET") or _is(event, Source.LAB, "event", "RESET")


def _is(event: Mapping[str, Any], source: Source, kind: str, text: str | None = None) -> bool:
    return (
        event.get("source") == source
        and event.get("kind") == kind
        and (text is None or event.get("text") == text)
    )


def _boots(events: Iterable[Mapping[str, Any]], last: float, words: Words) -> Iterator[Boot]:
    boot: Boot | None = None
    for event in events:
        time = _time(event)
        begins = _is(event, Source.HARNESS, "start") or _is_reset(event)
        if boot is not None and (begins or _is(event, Source.HARNESS, "exit")):
            boot.end = time
            yield boot
            boot = None
        if begins:
            boot = Boot(time, last, phases=[(Phase.FIRMWARE, time)])
        elif boot is None:
            continue
        elif _is(event, Source.HARNESS, "restored"):
            boot.restored, boot.decided = True, time
            boot.phases = [(Phase.UP, time)]
        elif _is(event, Source.HARNESS, "note") and boot.restored:
            if (ready := Ready.parse(_text(event), words.ready)) is not None:
                boot.slot, boot.confirmed = ready.slot, ready.confirmed
        elif _is(event, Source.CONSOLE, "line"):
            decision = facts(words.boot, _text(event))
            if decision is not None and boot.decided is not None:
                # The boot loader came again without a reset: its kernel did not start.
                boot.end = time
                yield boot
                boot = Boot(time, last)
            if decision is not None:
                boot.restored, boot.decided = False, time
                boot.slot, boot.counter = decision.get("slot", ""), int(decision.get("counter", 0))
                boot.confirmed = decision.get("success", "1") == "1"
            _enter(boot, _text(event), time, words)
    if boot is not None:
        yield boot


def _enter(boot: Boot, line: str, time: float, words: Words) -> None:
    """Go on to the phase that the line begins; nothing goes back."""
    for phase, begins in words.phases:
        if re.search(begins, line):
            if not boot.phases or _ORDER.index(phase) > _ORDER.index(boot.phases[-1][0]):
                boot.phases.append((phase, time))
            return


def _steps(events: Iterable[Mapping[str, Any]], last: float) -> Iterator[Step]:
    """Steps by their begin; one that never ended goes on to the end."""
    found: list[Step] = []
    running: list[Step] = []
    for event in events:
        if not _is(event, Source.HARNESS, "step"):
            continue
        phase = _data(event).get("phase")
        if phase == "begin":
            running.append(Step(_time(event), last, _text(event), len(running)))
            found.append(running[-1])
        elif phase == "end":
            step = next((one for one in reversed(running) if one.text == _text(event)), None)
            if step is None:  # the timeline begins after the step did
                step = Step(0.0, last, _text(event))
                found.append(step)
            else:
                del running[running.index(step) :]
            step.end, step.ended = _time(event), True
    return iter(found)


def _commands(events: Iterable[Mapping[str, Any]], last: float) -> list[Command]:
    every: list[Command] = []
    waiting: dict[str, Command] = {}
    for event in events:
        identity = str(_data(event).get("id", ""))
        if _is(event, Source.CHANNEL, "request"):
            waiting[identity] = Command(_time(event), last, _text(event))
            every.append(waiting[identity])
        elif _is(event, Source.CHANNEL, "reply") and identity in waiting:
            command = waiting.pop(identity)
            command.end, command.answered = _time(event), True
        elif _is(event, Source.CHANNEL, "command"):
            # Recorded once the caller has its result; it names the command and not the request.
            for command in reversed(every):
                if command.text == _text(event) and command.answered and command.exit is None:
                    command.exit = int(_data(event).get("exit", 0))
                    break
        elif _is(event, Source.HARNESS, "command"):
            data = _data(event)
            begin = _time(event) - float(data.get("seconds", 0))
            status = int(data.get("exit", 0))
            every.append(Command(begin, _time(event), _text(event), status, answered=True))
        elif _is(event, Source.HARNESS, "exit") or _is_reset(event):
            for command in waiting.values():
                command.end = _time(event)
            waiting.clear()
    return every


def _decisions(events: Iterable[Mapping[str, Any]], words: Words) -> Iterator[Mark]:
    for event in events:
        if not _is(event, Source.CONSOLE, "line"):
            continue
        for expression, label, tone in words.moments:
            if match := re.search(expression, _text(event)):
                yield Mark(_time(event), label.format(*match.groups()), tone, _text(event))
                break


def _faults(events: Sequence[Mapping[str, Any]]) -> Iterator[Mark]:
    watchdog = -_WATCHDOG_RESET
    seen: dict[str, float] = {}
    for number, event in enumerate(events):
        time, text, data = _time(event), _text(event), _data(event)
        if event.get("source") == Source.FAULT:
            kind = event.get("kind")
            if kind == "fired":
                yield Mark(time, text, Tone.FAULT, f"fault: {text}")
            else:
                yield Mark(time, f"{text} ({kind})", Tone.NEUTRAL, f"fault {kind}: {text}")
        elif _is(event, Source.CONSOLE, "failure"):
            name = str(data.get("pattern", "failure"))
            last = seen.get(name, -_SAME_FAILURE)
            seen[name] = time
            if time - last >= _SAME_FAILURE:
                why = str(data.get("disbelieved") or "")
                tone = Tone.WARNING if data.get("allowed") or why else Tone.FAILURE
                label = name.lower().replace("_", " ")
                yield Mark(time, label, tone, f"{text} (not believed: {why})" if why else text)
        elif _is(event, Source.QMP, "event", "WATCHDOG"):
            watchdog = time
            yield Mark(time, "watchdog", Tone.WARNING, f"watchdog: {data.get('action', '')}")
        elif _is_reset(event):
            reason = str(data.get("reason", ""))
            if time - watchdog < _WATCHDOG_RESET:
                yield Mark(time, "reset", Tone.NEUTRAL, "reset by the watchdog")
            elif reason == "guest-reset":
                yield Mark(time, "reset", Tone.NEUTRAL, "reset by the guest")
            else:
                yield Mark(time, "reset button", Tone.FAULT, f"reset from outside ({reason})")
        elif _is(event, Source.QMP, "event", "SHUTDOWN") and data.get("guest"):
            yield Mark(time, "power off", Tone.NEUTRAL, "switched off by the guest")
        elif _is(event, Source.HARNESS, "exit") and _ended_badly(data, events[number + 1 :]):
            yield Mark(time, "QEMU ended", Tone.FAILURE, text)


def _ended_badly(data: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> bool:
    """Whether QEMU ended by itself; the harness kills it for a power cut and at the end."""
    status = data.get("status")
    if status != _SIGKILL:
        return status != 0
    for event in later:
        if _is(event, Source.FAULT, "fired", "power cut"):
            return False
        if _is(event, Source.HARNESS, "start"):
            return True
    return False
