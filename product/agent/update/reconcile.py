"""Bringing the recorded state into line with what the boot loader did.

The boot environment is the truth about slots, the state file only the story about it: a power cut
may come between the writing of the two, and the boot loader rolls back without telling anyone. The
token that arming leaves in the environment says whether the recorded attempt was ever armed.
"""

from __future__ import annotations

from enum import Enum

from product.agent.bootloader.protocol import BOOT_TRIES, Environment
from product.agent.records.state import TRIAL_PHASES, Phase, UpdateState
from product.agent.update.record import Record

MANUAL_REASON = "manual rollback"
ROLLED_BACK_PREFIX = "rolled back: "


class Finding(Enum):
    """What the environment says about the recorded attempt."""

    NOTHING = "nothing"
    PENDING = "armed and not booted yet"
    TRIAL = "running on trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    LOST = "the environment lost it"


def judge(state: UpdateState, env: Environment, booted: str) -> Finding:
    """What became of the attempt in ``state``; ``booted`` is the slot that runs."""
    slot = state.to_slot
    if slot is None:
        return Finding.NOTHING
    if state.phase not in TRIAL_PHASES:
        left = env.confirms("A" if slot == "B" else "B")
        if state.phase is Phase.SUCCESS and state.last_error == MANUAL_REASON and left:
            return Finding.ROLLED_BACK
        return Finding.NOTHING
    if not env.valid:
        if booted == slot:
            return Finding.TRIAL
        return Finding.NOTHING if state.phase is Phase.STAGED else Finding.LOST
    armed = state.trial is not None and env.trial == state.trial
    if state.phase is Phase.STAGED and not armed:
        return Finding.NOTHING
    if env.active_slot == slot:
        if env.boot_success:
            return Finding.COMMITTED
        return Finding.TRIAL if booted == slot else Finding.PENDING
    return Finding.ROLLED_BACK if armed and env.boot_success else Finding.LOST


def reconcile(record: Record, env: Environment, booted: str) -> Finding:
    """Write down what ``judge`` finds; a rollback also quarantines the release."""
    state = record.state
    finding = judge(state, env, booted)
    if finding is Finding.PENDING and state.phase is Phase.STAGED:
        record.try_save(state.to(Phase.ACTIVATED))
    elif finding is Finding.TRIAL and state.phase is not Phase.VERIFYING:
        record.try_save(_verifying(state))
    elif finding is Finding.COMMITTED:
        record.try_save(_verifying(state).succeed())
        record.note("trial", "success")
    elif finding is Finding.ROLLED_BACK:
        _roll_back(record)
    elif finding is Finding.LOST:
        # The release did nothing wrong that we know of, so it is not quarantined.
        reason = f"{ROLLED_BACK_PREFIX}the boot environment was lost in the trial of "
        record.try_save(state.roll_back(f"{reason}{state.to_version}"))
        record.note("trial", "rolled_back", record.state.last_error)
    elif state.phase is Phase.SUCCESS and state.last_error:
        # A manual rollback was cut off before it changed anything.
        record.try_save(state._replace(last_error=None))
    return finding


def _roll_back(record: Record) -> None:
    state = record.state
    reason = state.last_error
    forced = reason == MANUAL_REASON or (reason or "").startswith(ROLLED_BACK_PREFIX)
    if reason is None or not forced:
        reason = f"{ROLLED_BACK_PREFIX}{BOOT_TRIES} failed boots of {state.to_version}"
    if reason != MANUAL_REASON or state.phase in (Phase.VERIFYING, Phase.SUCCESS):
        record.quarantine(state.to_digest, state.to_version, reason)
    record.try_save(state.roll_back(reason))
    if reason == MANUAL_REASON:
        record.note("rollback", "rolled_back", reason)
    else:
        record.note("trial", "rolled_back", reason, evidence=record.evidence)


def _verifying(state: UpdateState) -> UpdateState:
    """``state`` after the steps that lie between it and ``verifying``."""
    if state.phase is Phase.STAGED:
        state = state.to(Phase.ACTIVATED)
    if state.phase is Phase.ACTIVATED:
        state = state.to(Phase.VERIFYING)
    return state
