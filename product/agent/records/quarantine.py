"""Releases that rolled back: never applied again until an operator clears them.

Format of ``quarantine.json``: an object from the manifest's SHA-256 to ``version``, ``reason`` and
``since`` (ISO 8601, UTC).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded, write_atomic

MAX_BYTES = 256 * 1024
# So that the list stays readable for ever: the oldest go first.
MAX_ENTRIES = 100
MAX_REASON = 1000


class QuarantineError(AgentError):
    """The list cannot be read or written."""

    code = "quarantine-unusable"


class Entry(NamedTuple):
    """Why and since when a release is not to be applied."""

    version: str
    reason: str
    since: str


class Quarantine:
    """The list in the file at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path

    def entries(self) -> dict[str, Entry]:
        """Digest to entry. Raises QuarantineError: an unreadable list must not look empty."""
        try:
            document = json.loads(read_bounded(self._path, MAX_BYTES).decode())
            if not isinstance(document, dict):
                raise ValueError("it is not a JSON object")
            return {
                digest: Entry(str(e["version"]), str(e["reason"]), str(e["since"]))
                for digest, e in document.items()
            }
        except FileNotFoundError:
            return {}
        except OSError as error:
            problem = error.strerror or str(error)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            problem = f"it is garbage ({error})"
        raise QuarantineError(
            f"{self._path} cannot be read: {problem}",
            hint="kubesolo-update quarantine clear --all begins a new list",
        )

    def add(self, digest: str, version: str, reason: str, now: float) -> None:
        """Put a release on the list; an entry that is there keeps its date."""
        try:
            entries = self.entries()
        except QuarantineError:
            # A new entry counts more than a list that nobody can read, which is kept for people.
            entries = {}
            with suppress(OSError):
                os.replace(self._path, f"{self._path}.corrupt")
        if digest not in entries:
            for oldest in sorted(entries, key=lambda key: entries[key].since)[: -MAX_ENTRIES + 1]:
                del entries[oldest]
            entries[digest] = Entry(version, reason[:MAX_REASON], timestamp(now))
            self._save(entries)

    def clear(self, digest: str) -> bool:
        """Take a release, given by its digest or at least its first 8 digits, off the list."""
        entries = self.entries()
        found = [name for name in entries if name.startswith(digest) and len(digest) >= 8]
        if len(found) != 1:
            return False
        del entries[found[0]]
        self._save(entries)
        return True

    def clear_all(self) -> None:
        """Begin a new list, whatever the old one is."""
        self._save({})

    def _save(self, entries: dict[str, Entry]) -> None:
        document = {digest: entry._asdict() for digest, entry in entries.items()}
        try:
            write_atomic(self._path, (json.dumps(document, indent=2) + "\n").encode())
        except OSError as error:
            raise QuarantineError(f"cannot write {self._path}: {error.strerror}") from None
