"""Boots whose logs are kept, by their numbers, and the evidence that failed boots left.

Stage 21 gives each boot a folder ``boots/NNNNNNNN`` on the data partition, with a file ``boot`` of
``key=value`` lines and a folder for each service. Numbers only grow, so that their order holds
whatever the clock said. ``crash/NNNNNNNN-K.txt`` is what boot N found in the firmware: it is of a
boot after the last one before N that has a folder, or of that one.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

MAX_BYTES = 64 * 1024
_CRASH = re.compile(r"(\d{8})-(\d+)\.txt")
# What of a dump says best why the boot ended, the best first.
_REASONS = (
    re.compile(r"Kernel panic - not syncing: .*"),
    re.compile(r"kubesolo: boot failed: .*"),
    re.compile(r"kubesolo: no verdict after .*"),
    re.compile(r"kubesolo: the stop takes too long: .*"),
)


class NoSuchBootError(AgentError):
    """No log is kept of the boot that was asked for."""

    code = "no-such-boot"


class BootLog(NamedTuple):
    """One boot: ``started`` is what its clock said, in seconds since 1970; 0 is unknown."""

    number: int
    folder: str
    boot_id: str
    slot: str
    version: str
    started: int


class Crash(NamedTuple):
    """The last of a failed boot's kernel log: ``found_by`` is the number of the boot that found it;
    ``reason`` is the line that says best why it ended."""

    path: str
    found_by: int
    reason: str


def list_boots(paths: Paths) -> list[BootLog]:
    """The boots whose logs are there, the oldest first; this one is the last."""
    folder = f"{paths.logs}/boots"
    names = sorted(name for name in _listing(folder) if name.isdigit())
    if names:
        return [_read(f"{folder}/{name}", int(name)) for name in names]
    return [_read(paths.own_logs, 1)]


def boot_number(paths: Paths) -> int:
    """The number of the present boot, without a look into the logs."""
    names = [name for name in _listing(f"{paths.logs}/boots") if name.isdigit()]
    return max(map(int, names), default=1)


def find_boot(boots: list[BootLog], wanted: int) -> BootLog:
    """``wanted``: a boot's number, 0 for the present one, -1 for the one before it.

    Raises NoSuchBootError.
    """
    if wanted <= 0:
        if -wanted < len(boots):
            return boots[wanted - 1]
    else:
        for boot in boots:
            if boot.number == wanted:
                return boot
    numbers = f"{boots[0].number} to {boots[-1].number}"
    raise NoSuchBootError(
        f"there are no logs of boot {wanted}: those of {len(boots)} boots are kept, {numbers}",
        hint="kubesolo-update logs --list names them",
    )


def list_crashes(paths: Paths) -> list[Crash]:
    """What failed boots left, the oldest first."""
    found = []
    folder = f"{paths.logs}/crash"
    for name in sorted(_listing(folder), key=_crash_order):
        if match := _CRASH.fullmatch(name):
            # Under this path, the node's users know it.
            path = f"{paths.own_logs}/crash/{name}"
            found.append(Crash(path, int(match[1]), _reason(f"{folder}/{name}")))
    return found


def list_consoles(paths: Paths) -> list[str]:
    """Files of ``crash`` with the console of a boot, however it ended, the oldest first."""
    return sorted(name for name in _listing(f"{paths.logs}/crash") if "-console-" in name)


def crashes_of(crashes: list[Crash], boots: list[BootLog], boot: BootLog) -> list[Crash]:
    """Those that came between the start of ``boot`` and that of the next one that has logs."""
    later = [other.number for other in boots if other.number > boot.number]
    if not later:
        return []
    # What is between was found by a boot whose own logs have made room.
    return [crash for crash in crashes if boot.number < crash.found_by <= later[0]]


def latest_crash(paths: Paths) -> Crash | None:
    """The latest that this boot found."""
    crashes = list_crashes(paths)
    if crashes and crashes[-1].found_by == list_boots(paths)[-1].number:
        return crashes[-1]
    return None


def crash_text(paths: Paths, crash: Crash) -> str:
    """The whole dump; an error in place of what cannot be read."""
    try:
        with open(f"{paths.logs}/crash/{os.path.basename(crash.path)}", "rb") as file:
            return file.read(1 << 20).decode(errors="replace")
    except OSError as error:
        return f"{crash.path} cannot be read: {error.strerror}\n"


def _crash_order(name: str) -> tuple[int, int]:
    match = _CRASH.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def reason_in(text: str) -> str:
    """The line of a dump that says best why the boot ended; its last one where none does."""
    for pattern in _REASONS:
        if found := pattern.findall(text):
            return str(found[0]).strip()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return lines[-1].strip() if lines else "it is empty"


def _reason(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return reason_in(file.read(1 << 20).decode(errors="replace"))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _read(folder: str, number: int) -> BootLog:
    """A power cut may have left the file empty."""
    values: dict[str, str] = {}
    try:
        text = read_bounded(f"{folder}/boot", MAX_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        values[key] = value
    started = values.get("started", "")
    return BootLog(
        number,
        folder,
        values.get("boot_id") or "unknown",
        values.get("slot") or "unknown",
        values.get("version") or "unknown",
        int(started) if started.isdecimal() else 0,
    )


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
