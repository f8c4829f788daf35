"""What the agent did, one JSON object a line, the latest last.

Keys: ``time`` (ISO 8601, UTC), ``event`` (apply, activate, trial, rollback,
datastore, hook, delta), ``outcome`` (staged, applied, up-to-date, refused, failed, activated,
success, rolled_back, restored, kept), ``from_version``, ``to_version``,
``digest``, ``reason``, ``bypassed`` (of apply: gates that were not asked, and why; older entries
have no such key), ``source`` (of apply: where the release came from), ``evidence`` (only where a
failed boot left any: the file with its last console); absent values are null or have no key. The
file keeps the last entries only.
"""

from __future__ import annotations

import json
import os

from product.agent.system.clock import timestamp
from product.agent.system.files import make_directories, write_all, write_atomic

KEPT = 200
# Rewriting at each entry would cost flash; the file may grow by this many entries between.
SLACK = 50


class History:
    """The list in the file at ``path``. A failing disk never stops the agent from acting."""

    def __init__(self, path: str) -> None:
        self._path = path

    def entries(self) -> list[dict[str, object]]:
        """All entries that can be read; a torn line is left out."""
        try:
            with open(self._path, "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                entry = json.loads(line.decode())
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                found.append(entry)
        return found[-KEPT:]

    def add(
        self,
        now: float,
        event: str,
        outcome: str,
        *,
        from_version: str | None = None,
        to_version: str | None = None,
        digest: str | None = None,
        reason: str | None = None,
        bypassed: str | None = None,
        evidence: str | None = None,
        source: str | None = None,
    ) -> str | None:
        """Append an entry; the problem where it could not be kept."""
        entry = {
            "time": timestamp(now),
            "event": event,
            "outcome": outcome,
            "from_version": from_version,
            "to_version": to_version,
            "digest": digest,
            "reason": reason,
            "bypassed": bypassed,
        }
        if evidence:
            entry["evidence"] = evidence
        if source:
            entry["source"] = source
        try:
            self._append((json.dumps(entry) + "\n").encode())
            self._bound()
        except OSError as error:
            return f"cannot write {self._path}: {error.strerror}"
        return None

    def _append(self, line: bytes) -> None:
        make_directories(os.path.dirname(self._path))
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # A power cut tore the last line; it must not take this one with it.
                line = b"\n" + line
            write_all(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _bound(self) -> None:
        with open(self._path, "rb") as file:
            lines = file.read().splitlines(keepends=True)
        if len(lines) > KEPT + SLACK:
            write_atomic(self._path, b"".join(lines[-KEPT:]))
