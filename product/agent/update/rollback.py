"""Returning to the other slot on purpose: by an operator, or after failed health checks."""

from __future__ import annotations

from product.agent.bootloader.boot import other_slot
from product.agent.bootloader.protocol import Environment
from product.agent.node import Node
from product.agent.records.quarantine import Quarantine, QuarantineError
from product.agent.records.state import Phase
from product.agent.slots.content import SlotError
from product.agent.slots.store import SlotStore
from product.agent.update.reconcile import MANUAL_REASON
from product.agent.update.record import Record


def roll_back(
    node: Node,
    record: Record,
    *,
    leave: str,
    reason: str,
    version: str | None,
    digest: str | None,
    unattended: bool = False,
) -> None:
    """Make the slot other than ``leave`` the confirmed one, quarantining ``digest``.

    The reason is written before the boot environment, so that a power cut between the two loses
    neither; see product.agent.update.reconcile. ``unattended``: nobody is there to repair a
    quarantine that cannot be read, and the other slot was confirmed when this one was armed.
    Raises SlotError where the other slot is not known-good.
    """
    target = other_slot(leave)
    _require_known_good(node, record, target, unattended)
    record.try_save(record.state._replace(last_error=reason))
    node.boot_env.force_rollback(target)
    record.quarantine(digest, version, reason)
    record.try_save(record.state.roll_back(reason))
    record.note("rollback", "rolled_back", reason)


def roll_back_manually(node: Node, record: Record, env: Environment) -> str:
    """What ``kubesolo-update rollback`` does; returns the slot that boots next.

    An armed slot that did not come to run is only let go; any other is quarantined.
    """
    leave = (env.active_slot if env.valid else None) or node.boot.slot
    version, digest = None, None
    if leave == node.boot.slot or record.state.phase is not Phase.ACTIVATED:
        content = SlotStore(node.paths, node.volumes, node.boot).inspect(leave)
        version = content.manifest.version if content.manifest else record.state.to_version
        digest = content.digest
        if digest is None and record.state.to_slot == leave:
            digest = record.state.to_digest
    roll_back(node, record, leave=leave, reason=MANUAL_REASON, version=version, digest=digest)
    return other_slot(leave)


def _require_known_good(node: Node, record: Record, target: str, unattended: bool) -> None:
    """The boot loader starts a confirmed slot without counting, so one that cannot boot would be
    started for ever. Raises SlotError for a slot that is empty, quarantined or never proved."""
    _, digest = SlotStore(node.paths, node.volumes, node.boot).require_valid(target)
    try:
        entry = Quarantine(node.paths.quarantine).entries().get(digest)
    except QuarantineError:
        if not unattended:
            raise
        entry = None
    if entry is not None:
        raise SlotError(
            f"slot {target} holds {entry.version}, which is quarantined: {entry.reason}",
            hint="kubesolo-update apply writes another release into it",
            code="quarantine",
        )
    state = record.state
    if state.to_slot == target and state.phase is not Phase.SUCCESS:
        raise SlotError(
            f"slot {target} holds {state.to_version}, which has not passed a health check",
            hint="kubesolo-update activate tries it, and returns by itself if it fails",
            code="unproved-slot",
        )
