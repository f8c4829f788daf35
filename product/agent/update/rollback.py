"""Returning to the other slot on purpose: by an operator, or after failed health checks."""

from __future__ import annotations

from product.agent.bootloader.boot import other_slot
from product.agent.bootloader.protocol import Environment
from product.agent.errors import AgentError
from product.agent.node import Node
from product.agent.records.quarantine import Quarantine, QuarantineError
from product.agent.records.state import MANUAL_REASON, Phase, Rollback
from product.agent.slots.content import SlotError
from product.agent.slots.store import SlotStore
from product.agent.update.migrations import Migrator
from product.agent.update.reconcile import finish_rollback
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

    What is to be done is written before the boot environment, so that a power cut between the two
    loses neither; see product.agent.update.reconcile. ``unattended``: nobody is there to repair a
    quarantine that cannot be read, and the other slot was confirmed when this one was armed.
    Raises SlotError where the other slot is not known-good.
    """
    target = other_slot(leave)
    returns_to = _require_known_good(node, record, target, unattended)
    rollback = Rollback(leave, reason, version, digest, returns_to)
    record.try_save(record.state.intend(rollback))
    # Where this fails, the intention stays: what it came to, the environment says at the next look.
    node.boot_env.force_rollback(target)
    finish_rollback(record, rollback)


def roll_back_manually(node: Node, record: Record, env: Environment) -> str:
    """What ``kubesolo-update rollback`` does; returns the slot that boots next.

    An armed slot that did not come to run is only let go; any other is quarantined.
    """
    leave = (env.active_slot if env.valid else None) or node.boot.slot
    version, digest = None, None
    if leave == node.boot.slot or record.state.phase is not Phase.ACTIVATED:
        content = SlotStore(node.paths, node.volumes, node.boot).inspect(leave)
        if content.manifest is not None:
            version, digest = content.manifest.version, content.digest
        elif record.state.to_slot == leave:
            version, digest = record.state.to_version, record.state.to_digest
    if leave == node.boot.slot:
        _prepare_data(node, record, other_slot(leave))
    roll_back(node, record, leave=leave, reason=MANUAL_REASON, version=version, digest=digest)
    return other_slot(leave)


def _prepare_data(node: Node, record: Record, target: str) -> None:
    """Where that fails, the boot puts back the data as they were before the update."""
    try:
        Migrator(node.paths.data, node.boot.slot, node.release.version).prepare_return(target)
    except AgentError as error:
        record.problems.append(f"{error.message}; the data return as they were before the update")


def _require_known_good(node: Node, record: Record, target: str, unattended: bool) -> str:
    """The version in ``target``. The boot loader starts a confirmed slot without counting, so one
    that cannot boot would be started for ever. Raises SlotError for a slot that is empty,
    quarantined or never proved."""
    manifest, digest = SlotStore(node.paths, node.volumes, node.boot).require_valid(target)
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
    if record.state.unproved == target:
        raise SlotError(
            f"slot {target} holds {manifest.version}, which has not passed a health check",
            hint="kubesolo-update activate tries it, and returns by itself if it fails",
            code="unproved-slot",
        )
    if (partition := node.boot_partition) is not None:
        partition.require(target)
    return manifest.version
