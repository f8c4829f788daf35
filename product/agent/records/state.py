"""Where an update stands: ``/var/lib/kubesolo/update/state.json``.

Format: one JSON object with ``phase``, ``from_version``, ``to_version``, ``started_at``,
``updated_at`` (ISO 8601, UTC), ``last_error``, ``attempt_count``, ``health_check_failures``; beside
these, what ties an attempt to the slot it wrote: ``to_slot``, ``to_digest`` (SHA-256 of the
manifest) and ``trial``, a token that arming also writes into the boot environment, so that after a
power cut the next boot knows whether the slot was armed; ``bypassed``, which gates the attempt
passed unasked, and why; ``unproved``, the slot whose content has not passed a health check;
``settled``, the token of the latest trial whose end is recorded; and ``rollback``, a rollback that
has begun, with ``leave`` (slot), ``reason``, ``version``, ``digest`` and ``returns_to`` (version).
Absent values are null. Keys that this version does not know are ignored. An older agent's file
lacks the last three keys.
"""

from __future__ import annotations

import json
import os
import time
from enum import StrEnum
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded, write_atomic

MAX_BYTES = 64 * 1024
MANUAL_REASON = "manual rollback"


class StateError(AgentError):
    """The state cannot be written, or a step does not follow from it."""

    code = "state-unwritable"


class Phase(StrEnum):
    """The steps of an update; the last three say how the latest one ended."""

    IDLE = "idle"
    CHECKING = "checking"
    DOWNLOADING = "downloading"
    STAGED = "staged"
    ACTIVATED = "activated"
    VERIFYING = "verifying"
    SUCCESS = "success"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


# An agent that was killed left checking or downloading behind: a new attempt may start from there.
# From activated and verifying none may: the passive slot is the only known-good one then.
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.CHECKING, Phase.ROLLED_BACK}),
    Phase.CHECKING: frozenset(
        {Phase.CHECKING, Phase.IDLE, Phase.DOWNLOADING, Phase.FAILED, Phase.ROLLED_BACK}
    ),
    Phase.DOWNLOADING: frozenset({Phase.CHECKING, Phase.STAGED, Phase.FAILED, Phase.ROLLED_BACK}),
    Phase.STAGED: frozenset({Phase.CHECKING, Phase.ACTIVATED, Phase.ROLLED_BACK}),
    # To failed: a firmware that was asked to try the slot never did.
    Phase.ACTIVATED: frozenset({Phase.VERIFYING, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.VERIFYING: frozenset({Phase.SUCCESS, Phase.ROLLED_BACK}),
    Phase.SUCCESS: frozenset({Phase.CHECKING, Phase.ROLLED_BACK}),
    Phase.ROLLED_BACK: frozenset({Phase.CHECKING, Phase.ROLLED_BACK}),
    Phase.FAILED: frozenset({Phase.CHECKING, Phase.ROLLED_BACK}),
}

# While one of these is recorded, the slot the attempt wrote may be on trial.
TRIAL_PHASES = frozenset({Phase.STAGED, Phase.ACTIVATED, Phase.VERIFYING})
# What an older agent recorded in one of these may name the slot of one attempt and the digest of
# the next.
_MIXED_PHASES = frozenset({Phase.IDLE, Phase.CHECKING, Phase.FAILED})
# An older agent learns of a rollback that was cut off from ``last_error``, in these alone.
_TOLD_PHASES = frozenset({Phase.VERIFYING, Phase.SUCCESS})


class Rollback(NamedTuple):
    """A rollback that has begun: ``version`` and ``digest`` are what slot ``leave`` holds, and are
    to be quarantined; null where an armed slot is only let go. ``returns_to`` is a version."""

    leave: str
    reason: str
    version: str | None = None
    digest: str | None = None
    returns_to: str | None = None


class UpdateState(NamedTuple):
    """The content of the state file; methods return a changed copy."""

    phase: Phase = Phase.IDLE
    from_version: str | None = None
    to_version: str | None = None
    started_at: str | None = None
    updated_at: str | None = None
    last_error: str | None = None
    attempt_count: int = 0
    health_check_failures: int = 0
    to_slot: str | None = None
    to_digest: str | None = None
    trial: str | None = None
    bypassed: str | None = None
    unproved: str | None = None
    settled: str | None = None
    rollback: Rollback | None = None

    def as_json(self) -> dict[str, object]:
        """What the file and the status report hold."""
        return {**self._asdict(), "rollback": self.rollback and self.rollback._asdict()}

    def to(self, phase: Phase) -> UpdateState:
        """Step to ``phase``; raises StateError where the table has no such step."""
        if phase not in TRANSITIONS[self.phase]:
            raise StateError(
                f"an update cannot go from {self.phase} to {phase}",
                hint="kubesolo-update status shows where it stands",
                code="illegal-transition",
            )
        return self._replace(phase=phase)

    def begin(self, from_version: str, now: float) -> UpdateState:
        """Start an attempt: every entry into ``checking`` is one."""
        return self.to(Phase.CHECKING)._replace(
            from_version=from_version,
            started_at=timestamp(now),
            attempt_count=self.attempt_count + 1,
            health_check_failures=0,
            last_error=None,
            trial=None,
            bypassed=None,
        )

    def set_target(self, version: str, digest: str) -> UpdateState:
        """Name the release that the running attempt is for; a new version restarts the count.

        No slot was written for another release than the last one.
        """
        count = self.attempt_count if version == self.to_version else 1
        slot = self.to_slot if digest == self.to_digest else None
        return self._replace(
            to_version=version, to_digest=digest, to_slot=slot, attempt_count=count
        )

    def download(self, slot: str, trial: str) -> UpdateState:
        """Begin to write ``slot``, which from now on holds nothing that has proved itself."""
        return self.to(Phase.DOWNLOADING)._replace(to_slot=slot, unproved=slot, trial=trial)

    def fail(self, error: str) -> UpdateState:
        """End the attempt with ``error``."""
        return self.to(Phase.FAILED)._replace(last_error=error)

    def succeed(self) -> UpdateState:
        """End the attempt well."""
        return self.to(Phase.SUCCESS)._replace(
            last_error=None,
            attempt_count=0,
            health_check_failures=0,
            unproved=None,
            settled=self.trial,
        )

    def intend(self, rollback: Rollback) -> UpdateState:
        """Before the boot environment is changed, so that a power cut forgets nothing."""
        told = self.phase in _TOLD_PHASES
        return self._replace(
            rollback=rollback, last_error=rollback.reason if told else self.last_error
        )

    def abandon(self) -> UpdateState:
        """The rollback was cut off before it changed anything."""
        manual = self.last_error == MANUAL_REASON
        return self._replace(rollback=None, last_error=None if manual else self.last_error)

    def roll_back(self, reason: str) -> UpdateState:
        """End the attempt, or the rollback that has begun, by a return to the other slot."""
        ended = self.to(Phase.ROLLED_BACK)._replace(
            last_error=reason, rollback=None, settled=self.trial or self.settled
        )
        left = self.rollback
        if left is None or left.version is None:
            return ended
        return ended._replace(
            from_version=left.returns_to,
            to_version=left.version,
            to_slot=left.leave,
            to_digest=left.digest,
        )


class LoadedState(NamedTuple):
    """What was read, and what was wrong with it."""

    state: UpdateState
    problems: tuple[str, ...] = ()


def load_state(path: str, *, set_aside: bool = False) -> LoadedState:
    """Read the state; a missing file is a fresh one.

    Garbage is never fatal: it is named in ``problems`` and, with ``set_aside`` (for those who hold
    the lock), renamed to ``<path>.corrupt-<time>`` so that the next save cannot destroy it.
    """
    try:
        return LoadedState(_parse(read_bounded(path, MAX_BYTES)))
    except FileNotFoundError:
        return LoadedState(UpdateState())
    except OSError as error:
        return LoadedState(UpdateState(), (f"{path} cannot be read: {error.strerror}",))
    except (ValueError, RecursionError) as error:
        problem = f"{path} is not an update state: {error}"
    if set_aside:
        aside = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        try:
            os.rename(path, aside)
            problem += f"; set aside as {aside}"
        except OSError as error:
            problem += f"; it could not be set aside: {error.strerror}"
    return LoadedState(UpdateState(), (problem,))


def save_state(path: str, state: UpdateState, now: float) -> UpdateState:
    """Write ``state``, stamped with ``now``. Raises StateError where that is impossible."""
    stamped = state._replace(updated_at=timestamp(now))
    try:
        write_atomic(path, (json.dumps(stamped.as_json(), indent=2) + "\n").encode())
    except OSError as error:
        raise StateError(
            f"cannot write {path}: {error.strerror}",
            hint="the data partition must be mounted, writable and not full",
        ) from None
    return stamped


def _parse(data: bytes) -> UpdateState:
    document = json.loads(data.decode())
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    values: dict[str, object] = {}
    for field, default in UpdateState._field_defaults.items():
        value = document.get(field, default)
        if field == "phase":
            value = Phase(str(value))
        elif field == "rollback":
            value = None if value is None else _parse_rollback(value)
        elif isinstance(default, int):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{field} is {value!r}")
        elif value is not None and not isinstance(value, str):
            raise ValueError(f"{field} is {value!r}")
        values[field] = value
    # Each value was checked above; a mapping cannot carry its field's type.
    state = UpdateState(**values)  # type: ignore[arg-type]
    return state if "rollback" in document else _from_older(state)


def _parse_rollback(document: object) -> Rollback:
    if not isinstance(document, dict):
        raise ValueError(f"rollback is {document!r:.100}")
    found = {field: document.get(field) for field in Rollback._fields}
    for field, value in found.items():
        if not isinstance(value, str) and (value is not None or field in ("leave", "reason")):
            raise ValueError(f"rollback's {field} is {value!r:.100}")
    if found["leave"] not in ("A", "B"):
        raise ValueError(f"rollback's leave is {found['leave']!r:.100}")
    return Rollback(**found)  # type: ignore[arg-type]


def _from_older(state: UpdateState) -> UpdateState:
    """What an older agent's file says, in the words of this one."""
    slot = state.to_slot
    if state.phase is Phase.SUCCESS:
        if slot is not None and state.last_error == MANUAL_REASON:
            left = Rollback(slot, MANUAL_REASON, state.to_version, state.to_digest)
            return state._replace(rollback=left)
        return state
    if state.phase in _MIXED_PHASES:
        return state._replace(unproved=slot, to_slot=None)
    return state._replace(unproved=slot)
