"""A stick with releases is plugged in: the node installs what is for it, without a network.

The service ``usb`` calls ``main`` when the disks of the node have changed: ``boot`` for those that
were there when it began, ``plugged`` later, ``again`` after the seconds that the file
``run/kubesolo/usb-again`` asked for. Who stands at the device reads on the console what happens.
Signatures, gates and quarantine are those of every update; the channel is the node's own.

A stick is tried once each time that it is plugged in. One that is left in is not tried again at the
next boot, be it the new system's or the one that it rolled back to, unless the try was cut off.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from product.agent.config import Config, load_config
from product.agent.errors import EXIT_DONE, AgentError, BusyError, RefusedError
from product.agent.node import Node
from product.agent.records.sticks import (
    DONE,
    FAILED,
    TRYING,
    WAITING,
    Stick,
    note_stick,
    read_sticks,
)
from product.agent.sources.volume import NOT_DISKS, VolumeSource, labelled_volumes
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded
from product.disk.labels import UPDATE_LABEL as LABEL
from product.disk.labels import Volume, read_volume
from product.errors import KubesoloError

# Where a repository may lie on it: at its top, or as the folder that the handbook calls it.
FOLDERS = ("", "/repository")
BOOT, PLUGGED, AGAIN = "boot", "plugged", "again"
# Tries that ended by a power cut or an error, after which a boot leaves the stick alone.
MAX_TRIES = 3
_TIMESTAMP = "metadata/timestamp.json"
_MAX_TIMESTAMP = 1 << 20
# Seconds after which what is in the way may have gone.
_SOON, _LATER = 60, 600
_PASSING = {"unconfirmed-boot": _SOON, "update-pending": _LATER}
_PASSING_GATES = ("maintenance_window", "inhibitor", "node_block_label")
_NEEDED = f"releases need a stick with FAT32, labelled {LABEL}"
# Sticks that are there for something else.
_OTHERS = ("ksolo", "cidata")
_KINDS = {"vfat": "FAT", "iso9660": "ISO 9660", "exfat": "exFAT", "ntfs": "NTFS", "ext4": "ext4"}


class Found(NamedTuple):
    """The stick: its device, ``server`` as the configuration names it, its timestamp's digest.

    ``insertion`` is another one each time that a disk is plugged in.
    """

    device: str
    server: str
    timestamp: str
    insertion: str


def is_due(when: str, tried: bool, known: Stick | None) -> bool:
    """Whether a stick is to be tried now; ``tried``: it was, since it was plugged in."""
    if when == AGAIN:
        return True
    if tried:
        return False
    if when == PLUGGED or known is None:
        return True
    return known.outcome != DONE and known.tries < MAX_TRIES


def main(arguments: Sequence[str], node: Node | None = None) -> int:
    """``boot``, ``plugged`` or ``again``; the exit code is of no interest to the service."""
    node = node or Node()
    with suppress(OSError):
        os.unlink(node.paths.ask_again)
    config = load_config(node.paths.config)
    if config.usb_updates == "no" or node.boot.live:
        return EXIT_DONE
    try:
        look(node, config, arguments[0] if arguments else PLUGGED)
    except (KubesoloError, OSError) as error:
        _say(node, _told(error))
    return EXIT_DONE


def look(node: Node, config: Config, when: str) -> None:
    """Find the stick, and try it if that is due. Raises KubesoloError, OSError."""
    found = _find(node, when)
    if found is None:
        return
    tried = _tried(node)
    known = read_sticks(node.paths.sticks).get(found.timestamp)
    due = is_due(when, found.insertion in tried, known)
    _keep_tried(node, [*tried, found.insertion])
    if not due:
        _log(f"the stick {found.device} was tried before: {known.reason if known else 'just now'}")
        return
    attempt = _Attempt(node, found, known)
    attempt.run(config.usb_updates == "check", quiet=when == AGAIN)


class _Attempt:
    """One try of one stick, which is written down before it begins and when it ends."""

    def __init__(self, node: Node, found: Found, known: Stick | None) -> None:
        self._node = node
        self._found = found
        self._before = known
        unfinished = known is not None and known.outcome in (TRYING, FAILED)
        self._tries = known.tries + 1 if known and unfinished else 1

    def run(self, only_check: bool, *, quiet: bool) -> None:
        """Say what happens, and reboot into what was staged."""
        config = load_config(self._node.paths.config, {"server": self._found.server})
        if not quiet:
            _say(self._node, f"{self._found.device} has releases; looking for this node's")
        self._note(TRYING, "begun")
        try:
            if only_check:
                self._check(config)
            else:
                self._install(config)
        except (KubesoloError, OSError) as error:
            self._end(config, error)

    def _install(self, config: Config) -> None:
        from product.agent.services.unattended import stage_and_arm
        from product.agent.update.operations import activate_release

        node = self._node
        armed = stage_and_arm(node, config, _Progress(node))
        if isinstance(armed, str):
            self._finish(DONE, f"{armed}; remove the stick any time")
            return
        # Before the reboot, from which the stick is still in.
        text = f"{armed.version} is staged in slot {armed.slot}: rebooting"
        self._finish(DONE, f"{text}; remove the stick any time")
        own = load_config(node.paths.config, {})
        activate_release(node, own, say=_log, reboot=True)

    def _check(self, config: Config) -> None:
        from product.agent.update.looks import noted_check
        from product.agent.update.operations import check_for_release

        result = noted_check(self._node, lambda: check_for_release(self._node, config))
        text = "; ".join(result.as_text().splitlines())
        hint = f"; install it: kubesolo-update apply --server {self._found.server}"
        self._finish(DONE, text + (hint if result.offer and not result.refusals else ""))

    def _end(self, config: Config, error: KubesoloError | OSError) -> None:
        """What an error means for the stick: another try, when, or none."""
        wait = _seconds_until_passed(self._node, config, error)
        text = _told(error)
        if wait is not None:
            again = f"leave the stick in: it is tried again in {_span(wait)}"
            before = self._before
            # The same reason is not said every few minutes.
            said = before is not None and (before.outcome, before.reason) == (WAITING, text)
            self._note(WAITING, text)
            (_log if said else self._say)(f"{text}; {again}")
            _ask_again(self._node, wait)
        elif isinstance(error, RefusedError):
            self._finish(DONE, f"refused: {text}", said=f"the stick is refused: {text}")
        else:
            self._finish(FAILED, text, said=f"the stick is of no use: {text}")

    def _finish(self, outcome: str, reason: str, *, said: str | None = None) -> None:
        self._note(outcome, reason)
        self._say(said or reason)

    def _say(self, text: str) -> None:
        _say(self._node, text)

    def _note(self, outcome: str, reason: str) -> None:
        moment = timestamp(self._node.clock.now())
        stick = Stick(self._found.timestamp, outcome, self._tries, reason, moment)
        note_stick(self._node.paths.sticks, stick)


class _Progress:
    """Everything to the service's log, and of an artifact its half and its end to the console."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __call__(self, text: str) -> None:
        _log(text)
        if text.endswith((": 50 %", ": 100 %")):
            self._node.print_console(f"kubesolo-update: usb: {text}; leave the stick in")


def _seconds_until_passed(node: Node, config: Config, error: KubesoloError | OSError) -> int | None:
    """After how long what is in the way may have gone; None where it stays."""
    if isinstance(error, BusyError):
        return _SOON
    if not isinstance(error, AgentError):
        return None
    if isinstance(error, RefusedError):
        if error.code not in _PASSING_GATES:
            return None
        if error.code != _PASSING_GATES[0]:
            return _LATER
        from product.agent.services.timer import into_window
        from product.agent.system.identity import node_identity

        # A window that is not known, or never opens, may be corrected meanwhile.
        return into_window(node, config, node_identity(node.paths), _LATER)
    return _PASSING.get(error.code)


def _find(node: Node, when: str) -> Found | None:
    """The one stick; None where there is none, which may be worth a word."""
    root = node.paths.root
    named = labelled_volumes(root, LABEL)
    if len(named) > 1:
        listed = " and ".join(f"/dev/{name}" for name in named)
        raise AgentError(
            f"{listed} are both labelled {LABEL}", hint="unplug one of them; none is taken"
        )
    if not named:
        _explain(node, when)
        return None
    ((name, _),) = named.items()
    for folder in FOLDERS:
        server = f"disk:{LABEL}{folder}"
        with VolumeSource(server, root=root) as source:
            answer = source.open(_TIMESTAMP)
            try:
                if answer.status != 200:
                    continue
                digest = hashlib.sha256()
                size = 0
                while data := answer.read1(_MAX_TIMESTAMP):
                    size += len(data)
                    digest.update(data)
                    if size > _MAX_TIMESTAMP:
                        raise AgentError(f"{_TIMESTAMP} of /dev/{name} is no timestamp: too large")
            finally:
                answer.close()
        return Found(f"/dev/{name}", server, digest.hexdigest(), _insertion(node, name))
    raise AgentError(
        f"/dev/{name} is labelled {LABEL} and has no release repository",
        hint="copy the folders metadata, targets and artifacts of one to its top",
    )


def _explain(node: Node, when: str) -> None:
    """Say what is needed, to who plugged in something else than that."""
    from product.disk.foreign import read_foreign

    root = node.paths.root
    block = os.path.join(root, "sys/class/block")
    own = os.path.basename(node.boot.disk)
    unlabelled = []
    for name in sorted(os.listdir(block)) if os.path.isdir(block) else []:
        path = os.path.realpath(os.path.join(block, name))
        if name.startswith(NOT_DISKS) or own in path.split("/"):
            continue
        device = os.path.join(root, "dev", name)
        volume = read_foreign(device) or read_volume(device)
        if volume is None:
            continue
        if any(label.lower() == LABEL.lower() for label in volume.labels):
            _say(node, f"/dev/{name} is labelled {LABEL}, with {_described(volume)}: {_NEEDED}")
            return
        other = any(label.lower().startswith(_OTHERS) for label in volume.labels)
        if "/usb" in path and not other and _insertion(node, name) not in _tried(node):
            unlabelled.append((name, volume))
    # Other disks are nobody's business at a boot, and each of them once.
    if when == PLUGGED:
        for name, volume in unlabelled:
            _say(node, f"/dev/{name} has {_described(volume)}: {_NEEDED}")
    _keep_tried(node, [*_tried(node), *(_insertion(node, name) for name, _ in unlabelled)])


def _described(volume: Volume) -> str:
    labels = " or ".join(repr(label) for label in volume.labels)
    return _KINDS.get(volume.kind, volume.kind) + (f" labelled {labels}" if labels else "")


def _insertion(node: Node, name: str) -> str:
    """The device and the number that the kernel gave its disk, which no other disk gets."""
    folder = os.path.realpath(os.path.join(node.paths.sys, "class/block", name))
    for place in (folder, os.path.dirname(folder)):
        with suppress(OSError, ValueError):
            return f"{name}:{read_bounded(os.path.join(place, 'diskseq'), 64).decode().strip()}"
    return name


def _tried(node: Node) -> list[str]:
    """The insertions of this boot that were tried."""
    try:
        return read_bounded(node.paths.tried_sticks, 64 * 1024).decode().split()
    except (OSError, ValueError):
        return []


def _keep_tried(node: Node, tried: Sequence[str]) -> None:
    with suppress(OSError), open(node.paths.tried_sticks, "w", encoding="ascii") as file:
        file.write("\n".join(dict.fromkeys(tried)) + "\n")


def _ask_again(node: Node, seconds: int) -> None:
    with suppress(OSError), open(node.paths.ask_again, "w", encoding="ascii") as file:
        file.write(f"{seconds}\n")


def _span(seconds: int) -> str:
    minutes = -(-seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{-(-minutes // 60)} h"


def _told(error: KubesoloError | OSError) -> str:
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{where}"
    # A gate's hint is a flag of the command line.
    hint = "" if isinstance(error, RefusedError) else error.hint
    return error.message + (f"; {hint}" if hint else "")


def _say(node: Node, text: str) -> None:
    """To the console, and to the service's log."""
    node.print_console(f"kubesolo-update: usb: {text}")
    _log(text)


def _log(text: str) -> None:
    print(text, flush=True)
