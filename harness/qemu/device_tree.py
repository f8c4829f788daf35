"""Changes to a device tree before a board's firmware, or QEMU in its place, hands it over.

The programs are those of Debian's device-tree-compiler, in the host programs of
``images/board-tools.toml``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from harness.errors import HarnessError
from harness.qemu.tools import HostTools

# What a property becomes: a text, or numbers of 32 bits each.
Value = str | tuple[int, ...]


class DeviceTreeError(HarnessError):
    """A device tree cannot be read, or has no such place."""


class DeviceTree:
    """A flattened device tree in a file, which ``set`` and ``disable`` change in place."""

    def __init__(self, path: Path, tools: HostTools) -> None:
        self.path = path
        self._tools = tools

    def nodes(self, node: str = "/") -> list[str]:
        """The names of a node's children. Raises DeviceTreeError."""
        return self._run("fdtget", "-l", str(self.path), node).split()

    def text(self, node: str, name: str) -> str | None:
        """A property as text; None where the node has none of that name.

        Raises DeviceTreeError for a node that is not there.
        """
        names = self._run("fdtget", "-p", str(self.path), node).split()
        if name not in names:
            return None
        return self._run("fdtget", "-t", "s", str(self.path), node, name).removesuffix("\n")

    def set(self, node: str, properties: Mapping[str, Value], *, create: bool = False) -> None:
        """Set properties of a node; with ``create`` make it and its parents where missing.

        Raises DeviceTreeError.
        """
        for name, value in properties.items():
            kind, words = ("s", [value]) if isinstance(value, str) else ("u", map(str, value))
            options = ["-p"] if create else []
            if not create:
                # fdtput itself would add a node of that name to its parent.
                self.nodes(node)
            self._run("fdtput", *options, "-t", kind, str(self.path), node, name, *words)

    def disable(self, node: str) -> None:
        """Let no driver see the device. Raises DeviceTreeError."""
        self.set(node, {"status": "disabled"})

    def remove(self, node: str) -> None:
        """Remove a node with all below it. Raises DeviceTreeError."""
        self._run("fdtput", "-r", str(self.path), node)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            self._tools.argv(program, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = (done.stderr or done.stdout).strip() or f"{program}: status {done.returncode}"
            raise DeviceTreeError(
                f"the device tree {self.path} cannot be read or changed: {words}",
                hint=f"what was tried: {program} {' '.join(arguments)}",
            )
        return done.stdout
