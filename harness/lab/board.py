"""What a target in a lab needs of its rig, whatever is behind it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from harness.lab.settings import LabSettings


class Service(NamedTuple):
    """An SSH server's address, as this host reaches it."""

    host: str
    port: int


class Board(Protocol):
    """A board and its rig; every method but ``read`` and ``write`` raises LabError."""

    settings: LabSettings

    @property
    def abilities(self) -> frozenset[str]:
        """What can be done with it."""
        ...

    @property
    def service(self) -> Service | None:
        """Where its SSH server is reached."""
        ...

    def connect(self) -> None:
        """Reserve it, once."""
        ...

    def on(self) -> None:
        """Switch it on."""
        ...

    def off(self) -> None:
        """Switch it off."""
        ...

    def reset(self) -> None:
        """Press its reset button."""
        ...

    def flash(self, image: Path) -> None:
        """Leave it off, with ``image`` on its storage."""
        ...

    def read(self, seconds: float) -> bytes:
        """What came on the serial line, b"" for nothing in ``seconds``; one thread may call it."""
        ...

    def write(self, data: bytes) -> None:
        """Type on it; one other thread may call it."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...
