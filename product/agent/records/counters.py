"""What the agent did since the node was installed: ``/var/lib/kubesolo/update/counters.json``.

Format: one JSON object with ``attempts``, ``installs``, ``rollbacks`` and ``failures`` (numbers),
``refusals`` (a gate's name to a number), ``bytes`` (full, delta or copied to a number) and
``last_rollback`` (``time``, ``version``, ``reason``; or null). Numbers only grow. The history keeps
its last entries alone, so it cannot tell them; where there is no file yet, or garbage in its place,
counting goes on from what the history has. A power cut may cost the last change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.records.history import History
from product.agent.system.files import read_bounded, write_atomic
from product.agent.system.lock import exclusive

MAX_BYTES = 64 * 1024
MAX_REASON = 300
# More names than there are gates: a damaged file must not grow without end.
MAX_NAMES = 64
FULL, DELTA, COPIED = "full", "delta", "copied"
KINDS = (FULL, DELTA, COPIED)


class LastRollback(NamedTuple):
    """The latest rollback, also after the history has forgotten it."""

    time: str
    version: str | None
    reason: str | None


class Counters(NamedTuple):
    """The file's content. ``installs`` are releases that were confirmed, ``failures`` attempts
    that ended by an error, refusals not among them."""

    attempts: int = 0
    installs: int = 0
    rollbacks: int = 0
    failures: int = 0
    refusals: Mapping[str, int] = {}
    bytes: Mapping[str, int] = {}
    last_rollback: LastRollback | None = None

    def as_json(self) -> dict[str, object]:
        """What the file and the status report hold."""
        last = self.last_rollback
        return {
            **self._asdict(),
            "refusals": dict(sorted(self.refusals.items())),
            "bytes": {kind: self.bytes.get(kind, 0) for kind in KINDS},
            "last_rollback": last._asdict() if last else None,
        }

    def attempted(self) -> Counters:
        """One more attempt has begun."""
        return self._replace(attempts=self.attempts + 1)

    def refused(self, gate: str) -> Counters:
        """``gate`` refused once more."""
        return self._replace(refusals=_more(self.refusals, {gate: 1}))

    def moved(self, amounts: Mapping[str, int]) -> Counters:
        """So many bytes more came into a slot, by kind."""
        return self._replace(bytes=_more(self.bytes, amounts))

    def ended(self, entry: Mapping[str, object]) -> Counters:
        """What an entry of the history adds, the bytes and the refusing gate left out."""
        outcome = entry.get("outcome")
        if entry.get("event") == "apply" and outcome == "failed":
            return self._replace(failures=self.failures + 1)
        if entry.get("event") == "trial" and outcome == "success":
            return self._replace(installs=self.installs + 1)
        if outcome == "rolled_back":
            version, reason = entry.get("to_version"), entry.get("reason")
            last = LastRollback(
                str(entry.get("time")),
                None if version is None else str(version),
                None if reason is None else str(reason)[:MAX_REASON],
            )
            return self._replace(rollbacks=self.rollbacks + 1, last_rollback=last)
        return self


_Step = Callable[[Counters], Counters]


class CounterFile:
    """The file at ``path``; a failing disk never stops the agent from acting."""

    def __init__(self, path: str, history: str, lock: str) -> None:
        """``history`` is where counting begins; ``lock`` is held for a moment by who counts."""
        self._path = path
        self._history = history
        self._lock = lock

    def read(self) -> Counters:
        """The numbers as they stand."""
        return self._read()[0]

    def begin(self) -> str | None:
        """Take over what the history has, before it gets its next entry."""
        return self.change(lambda counters: counters)

    def change(self, step: _Step) -> str | None:
        """Write what ``step`` makes of the numbers; the problem where they could not be kept."""
        try:
            with exclusive(self._lock, wait=True):
                before, problem = self._read()
                after = step(before)
                if after != before or not os.path.exists(self._path):
                    text = json.dumps(after.as_json(), indent=2) + "\n"
                    write_atomic(self._path, text.encode())
                return problem
        except OSError as error:
            return f"cannot write {self._path}: {error.strerror}"
        except AgentError as error:
            return f"cannot write {self._path}: {error.message}"

    def _read(self) -> tuple[Counters, str | None]:
        try:
            return _parse(read_bounded(self._path, MAX_BYTES)), None
        except FileNotFoundError:
            problem = None
        except OSError as error:
            problem = f"{self._path} cannot be read: {error.strerror}"
        except (ValueError, RecursionError) as error:
            problem = f"{self._path} holds no counters ({error}): they begin with the history"
        return _from_history(History(self._history).entries()), problem


def _more(before: Mapping[str, int], by: Mapping[str, int]) -> dict[str, int]:
    found = dict(before)
    for name, number in by.items():
        if number > 0 and (name in found or len(found) < MAX_NAMES):
            found[name] = found.get(name, 0) + number
    return found


def _from_history(entries: list[dict[str, object]]) -> Counters:
    found = Counters()
    for entry in entries:
        if entry.get("event") == "apply":
            found = found.attempted()
        gate = entry.get("gate")
        if isinstance(gate, str):
            found = found.refused(gate)
        amounts = entry.get("bytes")
        if isinstance(amounts, dict):
            found = found.moved({k: n for k, n in amounts.items() if k in KINDS and _is_count(n)})
        found = found.ended(entry)
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _parse(data: bytes) -> Counters:
    document = json.loads(data.decode())
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    values: dict[str, object] = {}
    for field, default in Counters._field_defaults.items():
        value = document.get(field, default)
        if isinstance(default, int):
            if not _is_count(value):
                raise ValueError(f"{field} is {value!r:.100}")
        elif field == "last_rollback":
            value = None if value is None else _parse_rollback(value)
        elif (
            not isinstance(value, dict)
            or len(value) > MAX_NAMES
            or not all(_is_count(number) for number in value.values())
        ):
            raise ValueError(f"{field} is {value!r:.100}")
        values[field] = value
    if isinstance(values["bytes"], dict):
        values["bytes"] = {kind: n for kind, n in values["bytes"].items() if n}
    # Each value was checked above; a mapping cannot carry its field's type.
    return Counters(**values)  # type: ignore[arg-type]


def _parse_rollback(value: object) -> LastRollback:
    if not isinstance(value, dict) or not isinstance(value.get("time"), str):
        raise ValueError(f"last_rollback is {value!r:.100}")
    found = {field: value.get(field) for field in LastRollback._fields}
    if not all(text is None or isinstance(text, str) for text in found.values()):
        raise ValueError(f"last_rollback is {value!r:.100}")
    return LastRollback(**found)  # type: ignore[arg-type]
