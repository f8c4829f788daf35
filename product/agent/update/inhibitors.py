"""Programs that want no update now: files in ``/run/kubesolo/inhibit.d``.

Format: a file's name is the inhibitor's; its lines ``owner=...`` and ``reason=...`` say who asks
and why. A file without them counts as well, and so does what is no readable file: a doubt keeps the
node as it is. A name that begins with a dot counts for nothing, so that a file can be written and
then renamed. All of it is gone with the boot.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from product.agent.errors import AgentError

MAX_BYTES = 4096
# Of each value, and of inhibitors that are named.
MAX_LENGTH = 200
MAX_NAMED = 20


class InhibitorError(AgentError):
    """Nobody can say whether somebody wants no update."""

    code = "inhibitors-unreadable"


class Inhibitor(NamedTuple):
    """Who wants no update, and why."""

    name: str
    owner: str
    reason: str

    def describe(self) -> str:
        """For a sentence."""
        return f"{self.name} of {self.owner}: {self.reason}"


def find_inhibitors(folder: str) -> list[Inhibitor]:
    """All of them by name. Raises InhibitorError."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InhibitorError(f"{folder} cannot be read: {error.strerror}") from None
    return [_read(folder, name) for name in names]


def _read(folder: str, name: str) -> Inhibitor:
    shown = _plain(name)
    try:
        # No pipe, and no terminal: the agent must not wait for whoever made it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(f"{folder}/{name}", flags)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return Inhibitor(shown, "unknown", "it is no file, which counts as one")
            text = os.read(descriptor, MAX_BYTES).decode("utf-8-sig", "replace")
        finally:
            os.close(descriptor)
    except OSError as error:
        return Inhibitor(shown, "unknown", f"it cannot be read: {error.strerror}")
    pairs = (line.partition("=") for line in text.splitlines())
    values = {key.strip(): _plain(value.strip()) for key, _, value in pairs}
    owner = values.get("owner") or f"user {found.st_uid}"
    return Inhibitor(shown, owner, values.get("reason") or "no reason is given")


def _plain(text: str) -> str:
    """Short, and nothing that a terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_LENGTH])
