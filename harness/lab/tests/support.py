"""A board whose serial line, power and storage are variables."""

from __future__ import annotations

import queue
from pathlib import Path

from harness.lab.board import Service
from harness.lab.settings import LabSettings

SETTINGS = LabSettings.model_validate(
    {
        "name": "bench-3", "arch": "aarch64", "host_address": "192.0.2.1",
        "own_address": "192.0.2.9", "watchdog": None,
    }
)  # fmt: skip


class FakeBoard:
    """Says what is put into ``line``; remembers what was done to it."""

    def __init__(self, settings: LabSettings = SETTINGS) -> None:
        self.settings = settings
        self.abilities = frozenset({"power", "console", "storage"})
        self.service: Service | None = Service("127.0.0.1", 9)
        self.line: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self.typed = b""
        self.done: list[str] = []

    def connect(self) -> None:
        """Nothing to reserve."""

    def on(self) -> None:
        self.done.append("on")

    def off(self) -> None:
        self.done.append("off")

    def reset(self) -> None:
        self.done.append("reset")

    def flash(self, image: Path) -> None:
        self.done.append(f"flash {image.read_text()}")

    def read(self, seconds: float) -> bytes:
        try:
            said = self.line.get(timeout=seconds)
        except queue.Empty:
            return b""
        if isinstance(said, Exception):
            raise said
        return said

    def write(self, data: bytes) -> None:
        self.typed += data

    def close(self) -> None:
        self.done.append("close")
