"""The host programs that the harness runs, wherever they come from."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from harness.errors import LaunchError

# Where distributions put firmware and data files.
_ROOTS = (Path("/"), Path("/usr/local"))


class HostTools(Protocol):
    """QEMU and its firmware, or another set of programs."""

    def argv(self, program: str, *args: str) -> list[str]:
        """The command line that runs ``program`` with ``args``; its first item is absolute."""
        ...

    def path(self, relative: str) -> Path:
        """A file below the tools' root, such as ``usr/share/OVMF/OVMF_CODE_4M.fd``."""
        ...


class InstalledTools:
    """What this host has installed: programs on PATH, firmware where Debian puts it."""

    def argv(self, program: str, *args: str) -> list[str]:
        """As HostTools. Raises LaunchError where PATH has no such program."""
        found = shutil.which(program)
        if found is None:
            raise LaunchError(
                f"{program} is not on PATH",
                hint="install its package, or let the profile's tools name another place",
            )
        return [str(Path(found).absolute()), *args]

    def path(self, relative: str) -> Path:
        """As HostTools. Raises LaunchError where there is no such file."""
        return _first(relative, (root / relative for root in _ROOTS))


def _first(relative: str, candidates: Iterable[Path]) -> Path:
    tried = list(candidates)
    for path in tried:
        if path.exists():
            return path
    raise LaunchError(
        f"there is no {relative}: tried {', '.join(map(str, tried))}",
        hint="install its package, or let the profile's tools name another place",
    )


def installed_tools(_purpose: str) -> HostTools:
    """The host's own programs, whatever they are for."""
    return InstalledTools()
