"""What these scenarios share: settings of a node, and the mounts that docs/security.md lists."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from harness.target.node import Node
from scenarios.set_up import set_up

SECURITY_CONF = "/etc/kubesolo/security.conf"
REFUSED = "/run/kubesolo/modules-refused"
# An account without rights that every node has.
STRANGER = "chpst -u _metrics"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/security.md"
FLAGS = frozenset({"nosuid", "nodev", "noexec"})
# Of the machines here: with UEFI, and nothing configured.
EVERYWHERE = frozenset({"every node", "UEFI"})
_ROW = re.compile(
    r"^\| `(?P<point>/[^`]*)` \| (?P<flags>[^|]*) \| (?P<where>[^|]*) \| [^|]*\|$", re.M
)


class Row(NamedTuple):
    """A row of the table: ``point`` is a glob, ``where`` names the nodes that have such a mount."""

    point: str
    flags: frozenset[str]
    where: str


def documented() -> list[Row]:
    """The rows of docs/security.md on mounts."""
    text = DOCUMENT.read_text()
    rows = [
        Row(match["point"], _flags(match["flags"]), match["where"]) for match in _ROW.finditer(text)
    ]
    assert rows, f"{DOCUMENT} has no table of mounts"
    return rows


def _flags(text: str) -> frozenset[str]:
    words = text.replace("all", ",".join(FLAGS)).split(",")
    return frozenset(word.strip() for word in words) & FLAGS


def mount_faults(mounts: str, where: frozenset[str]) -> list[str]:
    """How /proc/mounts differs from the documents: a mount without a row, a row of ``where``
    without a mount, other flags."""
    rows = documented()
    faults = []
    seen = set()
    for line in mounts.splitlines():
        _, point, _, options, *_ = line.split()
        fit = [row for row in rows if fnmatch(point, row.point) and row.where != "KubeSolo"]
        if not fit:
            faults.append(f"{point} has no row")
            continue
        # The narrowest of several.
        row = max(fit, key=lambda row: len(row.point))
        seen.add(row)
        if (found := FLAGS & set(options.split(","))) != row.flags:
            faults.append(f"{point} has {sorted(found)}, documented are {sorted(row.flags)}")
    missing = [row for row in rows if row.where in where and row not in seen]
    return faults + [f"no mount fits {row.point}" for row in missing]


@set_up
def restart_with(node: Node, *lines: str) -> None:
    """Reboot with these lines of security.conf."""
    node.put("".join(f"{line}\n" for line in lines), SECURITY_CONF)
    node.succeed("sync")
    node.reboot()
    node.wait_ready()


def wait_locked(node: Node) -> None:
    """Return when the node has locked its modules."""
    node.succeed("until [ -e /run/kubesolo/modules-locked ]; do sleep 0.2; done", seconds=120)


def refused(node: Node) -> list[str]:
    """Modules that something asked for in vain since they were locked."""
    return node.succeed(f"ls {REFUSED} 2> /dev/null || true").text.split()
