"""Arming the slot that was written, so that the next boot tries it."""

from __future__ import annotations

from collections.abc import Callable

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.kubernetes.payload import read_payload
from product.agent.node import Node, boot_disk_copies
from product.agent.records.state import Phase
from product.agent.slots.content import SlotError
from product.agent.slots.store import SlotStore
from product.agent.system.clock import timestamp
from product.agent.update.reconcile import reconcile
from product.agent.update.record import Record

# A reboot follows the arming within this time, or what was kept for a rollback is kept anew.
RECENT_SECONDS = 600


def activate(
    node: Node, config: Config, *, say: Callable[[str], None], copy_datastore: bool = True
) -> str:
    """Arm the staged slot, or find it armed already; returns it. The caller holds the lock.

    What fails already is noted, and Kubernetes' datastore is copied, so that this slot can have it
    back; without a copy nothing is armed unless ``copy_datastore`` is false. By the time of arming
    the slot is unmounted: GRUB reads no journal, so what is not in place yet it cannot see. What
    was noted and copied some time before is renewed: a rollback would lose what came since. Raises
    AgentError.
    """
    if node.boot.environment == "unsaved":
        raise AgentError(
            "the boot loader could not write its environment at this boot: it tries no release, "
            "because it could not count the tries",
            hint="see whether the disk or its first partition is damaged; a reboot asks it again",
            code="environment-unsaved",
        )
    if copies := boot_disk_copies(node):
        raise AgentError(
            f"{', '.join(copies)} is a copy of the boot disk {node.boot.disk}: the next boot could "
            "not tell them apart",
            hint="unplug one of them, or write an image to it",
            code="two-boot-disks",
        )
    record = Record(node)
    env = node.boot_env.read()
    reconcile(record, env, node.boot.slot)
    state = record.state
    slot = state.to_slot
    if state.phase is Phase.ACTIVATED and slot is not None:
        if not _is_recent(node):
            _keep_what_is(node, config, state.trial, say, copy_datastore=copy_datastore)
        return slot
    if state.phase is not Phase.STAGED or slot is None:
        raise AgentError(
            f"nothing is staged: the update is {state.phase}",
            hint="kubesolo-update apply stages a release",
            code="nothing-staged",
        )
    if slot == node.boot.slot:
        raise SlotError(f"slot {slot} was staged, and it is the one that runs now")
    if env.tries(node.boot.slot):
        raise AgentError(f"slot {node.boot.slot} is on trial itself", code="unconfirmed-boot")
    _, digest = SlotStore(node.paths, node.volumes, node.boot).require_valid(slot)
    if digest != state.to_digest:
        raise SlotError(
            f"slot {slot} holds another release than the one that was staged",
            hint="kubesolo-update apply stages it anew",
            code="digest-mismatch",
        )
    if not state.trial:
        raise SlotError(f"the state names no trial for slot {slot}", code="nothing-staged")
    _follow_slot(node, slot, say)
    _keep_what_is(node, config, state.trial, say, copy_datastore=copy_datastore)
    node.boot_env.arm(slot, state.trial)
    record.save(state.to(Phase.ACTIVATED))
    record.note("activate", "activated")
    return slot


def _follow_slot(node: Node, slot: str, say: Callable[[str], None]) -> None:
    """Write what the firmware starts, where it reads no slot. Raises AgentError."""
    partition = node.boot_partition
    if partition is None:
        return
    try:
        if partition.follow(slot):
            say(f"slot {slot}: its boot partition is written, read back and compared")
    except OSError as error:
        raise AgentError(
            f"the boot partition of slot {slot} cannot be written: {error.strerror or error}",
            hint="the slot is not armed, and nothing else has changed",
            code="boot-partition",
        ) from None


def _is_recent(node: Node) -> bool:
    """Whether the baseline, and with it the datastore's copy, was taken just now."""
    from product.agent.update.baseline import read_baseline

    try:
        baseline = read_baseline(node)
    except AgentError:
        return False
    now = node.clock.now()
    return baseline is not None and (
        timestamp(now - RECENT_SECONDS) <= baseline.taken_at <= timestamp(now)
    )


def _keep_what_is(
    node: Node,
    config: Config,
    trial: str | None,
    say: Callable[[str], None],
    *,
    copy_datastore: bool,
) -> None:
    """Note what fails already, and copy the datastore. Raises AgentError."""
    from product.agent.update.baseline import take_baseline

    take_baseline(node, config, trial or "", say)
    payload = read_payload(node.paths)
    if payload is not None and copy_datastore:
        from product.agent.datastore.copies import save_copy

        save_copy(node, payload, say)
    elif payload is not None:
        from product.agent.datastore.copies import forget_copy

        # An older one would be put back in its place.
        forget_copy(node)
        say("datastore: not copied; a rollback keeps what the new release makes of it")
