"""Where an update stands: ``/var/lib/kubesolo/update/state.json``.

Format: one JSON object with ``phase``, ``from_version``, ``to_version``, ``started_at``,
``updated_at`` (ISO 8601, UTC), ``last_error``, ``attempt_count``, ``health_check_failures``; beside
these, what ties an attempt to the slot it wrote: ``to_slot``, ``to_digest`` (SHA-256 of the
manifest) and ``trial``, a token that arming also writes into the boot environment, so that after a
power cut the next boot knows whether the slot was armed; and ``bypassed``, which gates the attempt
passed unasked, and why. Absent values are null. Keys that this version does not know are ignored.
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
    Phase.ACTIVATED: frozenset({Phase.VERIFYING, Phase.ROLLED_BACK}),
    Phase.VERIFYING: frozenset({Phase.SUCCESS, Phase.ROLLED_BACK}),
    Phase.SUCCESS: frozenset({Phase.CHECKING, Phase.ROLLED_BACK}),
    Phase.ROLLED_BACK: frozenset({Phase.CHECKING, Phase.ROLLED_BACK}),
    Phase.FAILED: frozenset({Phase.CHECKING, Phase.ROLLED_BACK}),
}

# While one of these is recorded, the slot the attempt wrote may be on trial.
TRIAL_PHASES = frozenset({Phase.STAGED, Phase.ACTIVATED, Phase.VERIFYING})


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
            # to_slot stays: until the passive slot is written, it still holds what it held.
            trial=None,
            bypassed=None,
        )

    def set_target(self, version: str) -> UpdateState:
        """Name the version that the running attempt is for; a new one restarts the count."""
        count = self.attempt_count if version == self.to_version else 1
        return self._replace(to_version=version, attempt_count=count)

    def fail(self, error: str) -> UpdateState:
        """End the attempt with ``error``."""
        return self.to(Phase.FAILED)._replace(last_error=error)

    def succeed(self) -> UpdateState:
        """End the attempt well."""
        return self.to(Phase.SUCCESS)._replace(
            last_error=None, attempt_count=0, health_check_failures=0
        )

    def roll_back(self, reason: str) -> UpdateState:
        """End the attempt by a return to the other slot."""
        return self.to(Phase.ROLLED_BACK)._replace(last_error=reason)


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
        write_atomic(path, (json.dumps(stamped._asdict(), indent=2) + "\n").encode())
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
        elif isinstance(default, int):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{field} is {value!r}")
        elif value is not None and not isinstance(value, str):
            raise ValueError(f"{field} is {value!r}")
        values[field] = value
    # Each value was checked above; a mapping cannot carry its field's type.
    return UpdateState(**values)  # type: ignore[arg-type]
