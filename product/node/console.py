"""What the person at the console and the agent's status get to know."""

from __future__ import annotations

import os

from product.node.paths import NodePaths


class Reporter:
    """Lines for the console; problems are kept for the status as well."""

    def __init__(self, paths: NodePaths) -> None:
        self._paths = paths

    def say(self, text: str) -> None:
        """One line; nothing depends on its being seen."""
        line = "kubesolo: " + " ".join(text.split()) + "\n"
        _append(self._paths.console, line, os.O_NOCTTY)
        # The kernel's log keeps it; as a debug message it comes to no console a second time.
        _append(self._paths.kmsg, f"<7>{line}", 0)

    def problem(self, text: str) -> None:
        """Say it, and keep it until the next boot; a known one is not repeated."""
        text = " ".join(text.split())
        try:
            with open(self._paths.problems, encoding="utf-8", errors="replace") as file:
                known = file.read().splitlines()
        except OSError:
            known = []
        if text in known:
            return
        self.say(f"problem: {text}")
        os.makedirs(self._paths.run, exist_ok=True)
        _append(self._paths.problems, text + "\n", os.O_CREAT)


def _append(path: str, text: str, flags: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o644)
    except OSError:
        return
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return
    finally:
        os.close(descriptor)
