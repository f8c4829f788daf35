"""The table of services in docs/security.md, and what a running machine says of them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.target.node import Node

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/security.md"
LOGS = "the log of each"
# Capabilities by their bits: linux/capability.h.
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
_STATUS = re.compile(r"^(Uid|CapEff|CapBnd|NoNewPrivs):\s*(\S+)", re.MULTILINE)
# The process of each service that runs, then of its log; `down` has none.
_LOOK = """
for folder in /run/service/*; do
    for part in '' /log; do
        pid=''
        read -r pid < "$folder$part/supervise/pid" || continue
        echo "@ ${folder##*/}$part"
        cat "/proc/$pid/status"
    done
done 2> /dev/null
"""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a row says: ``capabilities`` is None for all; ``writes`` is its text."""

    user: str
    capabilities: frozenset[str] | None
    writes: str


@dataclass(frozen=True, slots=True)
class Process:
    """What ``/proc/PID/status`` says of a service's process."""

    uid: int
    effective: frozenset[str]
    bounding: frozenset[str]
    bound: bool


def table() -> dict[str, Rights]:
    """The rows by service."""
    section = PAGE.read_text().partition("\n## Services\n")[2].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 5 or cells[0] == "service" or set(cells[0]) == {"-"}:
            continue
        named = cells[2]
        some = frozenset() if named == "none" else frozenset(named.split(", "))
        found[cells[0].strip("`")] = Rights(cells[1], None if named == "all" else some, cells[3])
    return found


def run_scripts() -> Iterator[tuple[str, str]]:
    """Name and text of each service's run script in the image's sources."""
    for path in sorted((ROOT / "images").glob("**/usr/lib/kubesolo/services/*/run")):
        yield path.parent.name, path.read_text()
    yield LOGS, (ROOT / "images/overlay/usr/lib/kubesolo/log-service").read_text()


def users() -> dict[str, int]:
    """The image's users."""
    lines = (ROOT / "images/overlay/etc/passwd").read_text().splitlines()
    return {fields[0]: int(fields[2]) for fields in (line.split(":") for line in lines)}


def running(node: Node) -> dict[str, Process]:
    """The processes of all services that run, those of their logs as ``NAME/log``."""
    found = {}
    for part in node.succeed(_LOOK).text.split("@ ")[1:]:
        name, _, status = part.partition("\n")
        values = dict(_STATUS.findall(status))
        if len(values) == 4:
            found[name] = Process(
                int(values["Uid"]),
                _names(values["CapEff"]),
                _names(values["CapBnd"]),
                values["NoNewPrivs"] == "1",
            )
    return found


def settled(node: Node, seconds: int = 60) -> dict[str, Process]:
    """What runs once each has its rights, or after that time.

    Services begin as root and then give rights up.
    """
    end = time.monotonic() + seconds
    while differences(found := running(node)) and time.monotonic() < end:
        time.sleep(1)
    return found


def _names(mask: str) -> frozenset[str]:
    bits = int(mask, 16)
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1)


def differences(found: dict[str, Process]) -> list[str]:
    """Where what runs is not what the table says, a line each."""
    rows, uids, wrong = table(), users(), []
    for name, process in found.items():
        row = rows.get(LOGS if name.endswith("/log") else name)
        if row is None:
            wrong.append(f"{name} has no row")
            continue
        if process.uid != uids[row.user]:
            wrong.append(f"{name} is user {process.uid}, not {row.user}")
        if row.capabilities is None:
            continue
        if process.bounding != row.capabilities:
            wrong.append(f"{name} may have {sorted(process.bounding ^ row.capabilities)}")
        if not process.effective <= row.capabilities:
            wrong.append(f"{name} has {sorted(process.effective - row.capabilities)}")
        if not process.bound:
            wrong.append(f"{name} may gain rights")
    return wrong
