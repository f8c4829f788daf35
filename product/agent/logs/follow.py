"""Lines as services of this boot write them, across svlogd's rotations."""

from __future__ import annotations

import os
from typing import BinaryIO

from product.agent.logs.lines import Line, parse_line, services_of


class Follower:
    """Each ``poll`` gives what was written since the one before; the first begins at the end."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._rests: dict[str, bytes] = {}
        for service in services_of(folder):
            self._open(service, at_end=True)

    def poll(self) -> list[Line]:
        """Whole lines, by service."""
        found = []
        for service in services_of(self._folder):
            if service not in self._files and not self._open(service):
                continue
            data = self._rests.pop(service, b"") + self._files[service].read()
            if self._is_replaced(service):
                # What came last into the old one, then the new one.
                data += self._files[service].read()
                self._files.pop(service).close()
                if self._open(service):
                    data += self._files[service].read()
            *lines, rest = data.split(b"\n")
            self._rests[service] = rest
            found += [parse_line(service, line.decode(errors="replace")) for line in lines]
        return found

    def close(self) -> None:
        """Let go of all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _open(self, service: str, *, at_end: bool = False) -> bool:
        try:
            file = open(f"{self._folder}/{service}/current", "rb")  # noqa: SIM115 # kept open
        except OSError:
            return False
        if at_end:
            file.seek(0, os.SEEK_END)
        self._files[service] = file
        return True

    def _is_replaced(self, service: str) -> bool:
        try:
            now = os.stat(f"{self._folder}/{service}/current")
        except OSError:
            return True
        return now.st_ino != os.fstat(self._files[service].fileno()).st_ino
