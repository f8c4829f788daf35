"""The host programs that the harness runs, wherever they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class HostTools(Protocol):
    """QEMU and its firmware; ``product.image.tools`` has the project's own."""

    def argv(self, program: str, *args: str) -> list[str]:
        """The command line that runs ``program`` with ``args``; its first item is absolute."""
        ...

    def path(self, relative: str) -> Path:
        """A file below the tools' root, such as ``usr/share/OVMF/OVMF_CODE_4M.fd``."""
        ...
