"""Which datastore Kubernetes starts with: settled at every boot, before its services start.

A slot that finds a datastore which a newer Kubernetes has written puts its own copy back and keeps
the newer one aside: an older API server drops fields that it does not know. Two renames do it. A
journal is on the disk before the first and stays until the last trace is written, so that a power
cut in between is made good at the next boot. Beside the copies (product.agent.datastore.copies):

``last.json``     who ran the datastore last: ``slot``, ``version``, ``kubernetes``, ``time``, and
                  ``event``, what was done when it took over (null: nothing)
``settled``       the same as the image's own bytes, so that a boot which changes nothing can tell
                  without this program: ``slot=A``, release.json, payload.json
``journal.json``  an exchange that is under way
``aside-TIME/``   what was replaced: ``data``, and ``about.json``, which says why
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import NamedTuple

from product.agent.bootloader.boot import SLOTS
from product.agent.config import Config, load_config
from product.agent.datastore import tree
from product.agent.datastore.copies import (
    HEADROOM,
    Copy,
    DatastoreError,
    drop_copy,
    find_copies,
    lock_path,
    make_room,
    read_copy,
)
from product.agent.errors import EXIT_DONE, EXIT_FAILED, AgentError
from product.agent.kubernetes.payload import Payload, parse_minor, read_payload
from product.agent.node import Node
from product.agent.records.history import History
from product.agent.system.clock import timestamp
from product.agent.system.files import make_directories, read_bounded, sync_directory, write_atomic
from product.agent.system.lock import exclusive
from product.agent.system.paths import Paths
from product.errors import KubesoloError
from product.version import rank

MAX_BYTES = 64 * 1024
JOURNAL = "journal.json"
LAST = "last.json"
SETTLED = "settled"


class Marker(NamedTuple):
    """Who ran the datastore last, and what was done when it took over."""

    slot: str
    version: str
    kubernetes: str
    time: str
    event: str | None = None


class Exchange(NamedTuple):
    """``source`` takes the place of ``live``, which goes to ``aside``; all are directories."""

    source: str
    live: str
    aside: str
    event: str


def settle(node: Node, config: Config) -> str | None:
    """Decide and do what must be done before Kubernetes starts; what that was, if anything.

    Reads the slot from early boot's notes: its report is written later. Raises AgentError.
    """
    payload = read_payload(node.paths)
    slot, data = read_early(node.paths)
    if payload is None or data != "persistent":
        return None
    with exclusive(lock_path(node.paths), wait=True):
        _require_down(node, payload)
        return _Settling(node, payload, slot).run(config.datastore_restore)


def restore_latest(node: Node, reason: str) -> str | None:
    """Replace a datastore that cannot be used by the latest copy that this Kubernetes can read.

    For the service that is about to start Kubernetes. Returns what was done, or None where there is
    no copy; the datastore is left alone then. ``reason`` says what is wrong with it. Raises
    AgentError.
    """
    payload = read_payload(node.paths)
    if payload is None:
        return None
    slot, _ = read_early(node.paths)
    with exclusive(lock_path(node.paths), wait=True):
        settling = _Settling(node, payload, slot)
        settling.resume()
        return settling.replace_damaged(reason)


def read_marker(paths: Paths) -> Marker | None:
    """None where no boot has left one. Raises DatastoreError."""
    path = f"{paths.datastore}/{LAST}"
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode())
        event = document.get("event")
        marker = Marker(*(str(document[key]) for key in ("slot", "version", "kubernetes", "time")))
        parse_minor(marker.kubernetes)
        return marker if event is None else marker._replace(event=str(event))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatastoreError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, AgentError) as error:
        raise DatastoreError(f"{path} is garbage: {error!r:.100}") from None


class _Settling:
    """The datastore's lock is held, and nothing writes the datastore."""

    def __init__(self, node: Node, payload: Payload, slot: str) -> None:
        self._node = node
        self._paths = node.paths
        self._payload = payload
        self._slot = slot
        self._home = node.paths.datastore
        self._version = node.release.version

    def run(self, policy: str) -> str | None:
        resumed = self.resume()
        try:
            marker = read_marker(self._paths)
        except DatastoreError as error:
            self._say(f"{error.message}; the present datastore is taken over")
            marker = None
        event = resumed
        if resumed is None and marker is not None:
            event = self._judge(marker, policy)
        if resumed is None and (marker is None or not self._is_own(marker)):
            self._record(event)
        self._write_settled()
        return event

    def resume(self) -> str | None:
        """Finish an exchange that a power cut interrupted; what it was."""
        path = f"{self._home}/{JOURNAL}"
        try:
            document = json.loads(read_bounded(path, MAX_BYTES).decode())
            keys = ("source", "live", "aside", "event")
            exchange = Exchange(*(str(document[key]) for key in keys))
        except FileNotFoundError:
            self._sweep()
            return None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            # It is written in one step, so this is damage and no power cut.
            self._say(f"{path} is garbage ({error!r:.100}) and is put aside")
            os.replace(path, f"{path}.corrupt")
            return None
        self._carry_out(exchange)
        return exchange.event

    def replace_damaged(self, reason: str) -> str | None:
        for copy in find_copies(self._paths):
            if copy.minor > self._payload.minor:
                continue
            if damage := tree.find_damage(copy.directory, copy.files):
                self._say(f"the copy of slot {copy.slot} is damaged: {damage}")
                continue
            # The copy itself stays paired with its slot.
            need = tree.content(copy.directory)
            make_room(self._paths, need + need // 10 + HEADROOM, self._say)
            source = f"{self._home}/incoming-{os.urandom(4).hex()}"
            tree.copy(copy.directory, source)
            tree.seal(source)
            event = self._describe(copy, f"the datastore was damaged ({reason})", "made since")
            self._exchange(source, event)
            return event[1]
        return None

    def _judge(self, marker: Marker, policy: str) -> str | None:
        kubernetes = parse_minor(marker.kubernetes)
        newer = kubernetes > self._payload.minor
        # On the way back from a release with an older Kubernetes, too; not on the way to a newer.
        if (policy == "always" and not self._is_own(marker)) or kubernetes != self._payload.minor:
            newer = newer or rank(marker.version) > rank(self._version)
        if not newer:
            return None
        cause = (
            f"release {marker.version} with Kubernetes {marker.kubernetes} ran the datastore last, "
            f"this is {self._version} with {self._payload.kubernetes}"
        )
        if policy == "never":
            return self._keep(f"{cause}; datastore_restore is never, so it is kept")
        try:
            copy = read_copy(self._paths, self._slot)
        except DatastoreError as error:
            return self._keep(f"{cause}; it is kept, for {error.message}")
        if copy is None or copy.version != self._version:
            found = f"only one of {copy.version}" if copy else "no copy"
            return self._keep(f"{cause}; it is kept, for slot {self._slot} has {found}")
        if damage := tree.find_damage(copy.directory, copy.files):
            return self._keep(f"{cause}; it is kept, for the copy is damaged: {damage}")
        event = self._describe(copy, cause, f"made since, under {self._version} too,")
        self._exchange(copy.directory, event)
        return event[1]

    def _keep(self, event: str) -> str:
        self._tell("kept", event)
        return event

    def _describe(self, copy: Copy, cause: str, made: str) -> tuple[str, str]:
        """The directory that will hold what is replaced, and the event in words."""
        aside = self._new_aside()
        text = f"{cause}: the copy of {copy.taken_at} was put back"
        if os.path.isdir(self._payload.datastore):
            text += f"; changes {made} are kept in {aside}/data"
        return aside, text

    def _exchange(self, source: str, event: tuple[str, str]) -> None:
        aside, text = event
        exchange = Exchange(source, self._payload.datastore, aside, text)
        self._write_journal(exchange)
        self._carry_out(exchange)

    def _carry_out(self, exchange: Exchange) -> None:
        """Do what is still to be done of ``exchange``; any part may be done already."""
        source, live, aside, event = exchange
        _require_unused(live)
        if os.path.isdir(source):
            if os.path.isdir(live):
                if os.path.exists(f"{aside}/data"):
                    # Kubernetes was started in between and made a datastore of its own.
                    aside = self._new_aside()
                    exchange = exchange._replace(aside=aside)
                    self._write_journal(exchange)
                make_directories(aside)
                about = json.dumps({"time": self._now(), "reason": event}, indent=2) + "\n"
                write_atomic(f"{aside}/about.json", about.encode())
                _move(live, f"{aside}/data")
            try:
                _move(source, live)
            except OSError:
                # Rather the newer datastore than none.
                if not os.path.exists(live) and os.path.isdir(f"{aside}/data"):
                    _move(f"{aside}/data", live)
                raise
        elif not os.path.isdir(live) and os.path.isdir(f"{aside}/data"):
            event = f"{source} is gone, so {aside}/data was put back"
            _move(f"{aside}/data", live)
        if source.startswith(f"{self._home}/{self._slot}/"):
            # What was this slot's copy is in use now.
            drop_copy(self._paths, self._slot)
        self._tell("restored", event)
        self._record(event)
        os.unlink(f"{self._home}/{JOURNAL}")
        sync_directory(self._home)

    def _write_journal(self, exchange: Exchange) -> None:
        text = json.dumps(exchange._asdict(), indent=2) + "\n"
        write_atomic(f"{self._home}/{JOURNAL}", text.encode())

    def _record(self, event: str | None) -> None:
        marker = Marker(self._slot, self._version, self._payload.kubernetes, self._now(), event)
        text = json.dumps(marker._asdict(), indent=2) + "\n"
        write_atomic(f"{self._home}/{LAST}", text.encode())

    def _write_settled(self) -> None:
        own = f"slot={self._slot}\n".encode()
        own += read_bounded(self._paths.release, MAX_BYTES)
        own += read_bounded(self._paths.payload, MAX_BYTES)
        path = f"{self._home}/{SETTLED}"
        with suppress(OSError, ValueError):
            if read_bounded(path, 3 * MAX_BYTES) == own:
                return
        write_atomic(path, own)

    def _sweep(self) -> None:
        """Remove what an interrupted preparation left; no journal names it."""
        with suppress(OSError):
            for name in os.listdir(self._home):
                path = f"{self._home}/{name}"
                empty = name.startswith("aside-") and not os.path.exists(f"{path}/data")
                if name.startswith("incoming-") or empty:
                    tree.remove(path)

    def _is_own(self, marker: Marker) -> bool:
        own = (self._slot, self._version, self._payload.kubernetes)
        return (marker.slot, marker.version, marker.kubernetes) == own

    def _new_aside(self) -> str:
        base = f"{self._home}/aside-{self._now().replace(':', '').replace('-', '')}"
        names = [base, *(f"{base}-{number}" for number in range(2, 100))]
        return next(name for name in names if not os.path.exists(name))

    def _now(self) -> str:
        return timestamp(self._node.clock.now())

    def _tell(self, outcome: str, event: str) -> None:
        """On the console and in the history."""
        self._say(event)
        History(self._paths.history).add(
            self._node.clock.now(), "datastore", outcome, to_version=self._version, reason=event
        )

    def _say(self, text: str) -> None:
        self._node.print_console(f"kubesolo-update: datastore: {text}")


def _move(source: str, target: str) -> None:
    """Rename a directory and bring both ends to the disk."""
    make_directories(os.path.dirname(target))
    os.rename(source, target)
    sync_directory(os.path.dirname(target))
    sync_directory(os.path.dirname(source))


def read_early(paths: Paths) -> tuple[str, str]:
    """Slot and kind of data partition, from the ``key=value`` lines that early boot leaves."""
    try:
        lines = read_bounded(paths.early, MAX_BYTES).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError) as error:
        raise DatastoreError(f"early boot's notes cannot be read: {error}") from None
    notes = dict(line.partition("=")[::2] for line in lines)
    if notes.get("slot") not in SLOTS:
        raise DatastoreError(f"{paths.early} names no slot")
    return notes["slot"], notes.get("data", "persistent")


def _require_down(node: Node, payload: Payload) -> None:
    from product.agent.datastore.freeze import service_pid

    if service_pid(f"{node.paths.services}/{payload.writer}"):
        raise DatastoreError(
            f"{payload.writer} is started already",
            hint="the datastore is settled at boot, before the services start",
            code="datastore-in-use",
        )


def _require_unused(directory: str) -> None:
    """Whatever the supervisor says: a directory must not be moved from under its writer."""
    from product.agent.datastore.freeze import find_writers

    if pids := find_writers(directory):
        raise DatastoreError(f"process {pids[0]} writes {directory}", code="datastore-in-use")


def main(node: Node | None = None) -> int:
    """What early boot runs; the exit code. Kubernetes is started in any case."""
    node = node or Node()
    try:
        settle(node, load_config(node.paths.config))
    except (KubesoloError, OSError) as error:
        node.print_console(f"kubesolo-update: datastore: cannot be settled: {error}")
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE
