"""What is at hand, answered as a server would."""

from __future__ import annotations

import os
from typing import BinaryIO

from product.agent.net.connections import TransientError


class FileAnswer:
    """A file, or a part of it; None: there is no such file."""

    def __init__(
        self, place: str, file: BinaryIO | None, start: int = 0, end: int | None = None
    ) -> None:
        self._place = place
        self._file = file
        self._headers: dict[str, str] = {}
        self._left = 0
        self.status = 404
        if file is None:
            return
        size = file.seek(0, os.SEEK_END)
        last = size - 1 if end is None else min(end, size - 1)
        self.status = 200
        if start or end is not None:
            self.status = 206 if start <= last else 416
            span = f"{start}-{last}" if start <= last else "*"
            self._headers["content-range"] = f"bytes {span}/{size}"
        file.seek(start)
        self._left = max(last + 1 - start, 0)
        self._headers["content-length"] = str(self._left)

    def header(self, name: str) -> str | None:
        """As of a server that says no more than sizes."""
        return self._headers.get(name.lower())

    def read1(self, limit: int) -> bytes:
        """At most ``limit`` bytes; empty at the end. Raises TransientError for a bad medium."""
        try:
            data = self._file.read(min(limit, self._left)) if self._file else b""
        except OSError as error:
            raise unreadable(self._place, error) from None
        self._left -= len(data)
        return data

    def allow(self, seconds: float) -> None:
        """It takes the time that it takes."""

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def unreadable(place: str, error: OSError) -> TransientError:
    """What to raise for a medium that fails, or was pulled out."""
    return TransientError(
        f"{place} cannot be read: {error.strerror}",
        hint="plug the stick in again, the next try goes on from there; if it stays so, write it "
        "anew",
    )
