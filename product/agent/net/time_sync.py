"""Whether the node's clock is right, as chronyd says."""

from __future__ import annotations

import os
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system import program
from product.agent.system.clock import timestamp
from product.agent.system.paths import Paths

# Fields of `chronyc -c tracking`.
_NAME, _UPDATED, _OFFSET, _LEAP, _FIELDS = 1, 3, 4, 13, 14
# Servers that somebody named and that have not answered in this time will not do so by themselves.
PATIENCE_SECONDS = 3600


class TimeSync(NamedTuple):
    """``synchronised``: None where nobody can be asked. ``offset``: seconds that the clock is
    behind (negative: before) by the latest answer, of ``updated``. ``since`` is when this boot was
    first synchronised; both are ISO 8601. ``from_``: whose word the servers are, "configuration",
    "firmware", "DHCP" or "image"; ``servers``: their names; ``fault``: why nobody
    can be asked whom the configuration names."""

    synchronised: bool | None = None
    source: str | None = None
    offset: float | None = None
    updated: str | None = None
    since: str | None = None
    from_: str | None = None
    servers: tuple[str, ...] = ()
    fault: str | None = None

    def as_json(self) -> dict[str, object]:
        """For reports."""
        document = self._asdict()
        document["from"] = document.pop("from_")
        # It is among the status' problems.
        del document["fault"]
        return {**document, "servers": [*self.servers]}

    def describe(self) -> str:
        """As in ``synchronised with 10.0.2.2, 0.3 ms off, since 2026-11-21T10:55:24Z``."""
        if self.synchronised is None:
            return "unknown"
        if self.synchronised:
            off = f"{abs(self.offset or 0.0) * 1000:.1f} ms off"
            return f"synchronised with {self.source}, {off}, since {self.since or 'just now'}"
        if not self.servers:
            return "not synchronised: no server is named"
        return f"not synchronised ({self.from_}: {', '.join(self.servers)})"

    def problem(self, uptime: float) -> str | None:
        """What an operator should know ``uptime`` seconds after the start."""
        if self.fault:
            return self.fault
        named = self.servers and self.from_ != "image"
        if self.synchronised is not False or not named or uptime < PATIENCE_SECONDS:
            return None
        return f"time: {', '.join(self.servers)} (by {self.from_}) cannot be asked for the time"


def read_time_sync(paths: Paths) -> TimeSync:
    """What chronyd says now; asks nobody where it does not run."""
    from_ = _text(f"{paths.time}/from") or None
    servers = tuple(_servers(_text(f"{paths.time}/sources/kubesolo.sources")))
    fault = _text(f"{paths.time}/problem") or None
    known = TimeSync(from_=from_, servers=servers, fault=fault)
    if not os.path.exists(paths.chrony):
        return known
    try:
        status, output = program.run(["chronyc", "-c", "-n", "-h", paths.chrony, "tracking"])
        fields = output.split(",")
        if status != 0 or len(fields) < _FIELDS:
            return known
        if fields[_LEAP] == "Not synchronised":
            return known._replace(synchronised=False)
        since = _text(f"{paths.time}/since")
        return known._replace(
            synchronised=True,
            source=fields[_NAME],
            offset=float(fields[_OFFSET]),
            updated=timestamp(float(fields[_UPDATED])),
            since=timestamp(float(since)) if since else None,
        )
    except (AgentError, ValueError, OverflowError):
        return known


def _servers(text: str) -> list[str]:
    """Names, with a port that is not NTP's."""
    found = []
    for words in map(str.split, text.splitlines()):
        if words[:1] in (["server"], ["pool"]) and len(words) > 1:
            port = words[words.index("port") + 1] if "port" in words[:-1] else None
            found.append(words[1] if port is None else f"{words[1]}:{port}")
    return found


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read(65536).strip()
    except (OSError, ValueError):
        return ""
