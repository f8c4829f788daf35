"""Bringing the recorded state into line with what the boot loader did.

The boot environment is the truth about slots, the state file only the story about it: a power cut
may come between the writing of the two, and the boot loader rolls back without telling anyone. The
token that arming leaves in the environment says whether the recorded attempt was ever armed, and
what was armed where the record is lost.
"""

from __future__ import annotations

from enum import Enum

from product.agent.bootloader.boot import other_slot
from product.agent.bootloader.protocol import BOOT_TRIES, Environment
from product.agent.records.state import TRIAL_PHASES, Phase, Rollback, UpdateState
from product.agent.update.record import Record
from product.agent.update.token import Token, parse_token

ROLLED_BACK_PREFIX = "rolled back: "
NEVER_TRIED_PREFIX = "never tried: "


class Finding(Enum):
    """What the environment says about the recorded attempt."""

    NOTHING = "nothing"
    PENDING = "armed and not booted yet"
    TRIAL = "running on trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    NEVER_TRIED = "armed, and never seen to run"
    LOST = "the environment lost it"


def judge(state: UpdateState, env: Environment, booted: str) -> Finding:
    """What became of the attempt in ``state``; ``booted`` is the slot that runs."""
    slot = state.to_slot
    if slot is None or state.phase not in TRIAL_PHASES:
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
    if not (armed and env.boot_success):
        return Finding.LOST
    return Finding.NEVER_TRIED if env.untried else Finding.ROLLED_BACK


def reconcile(record: Record, env: Environment, booted: str) -> Finding:
    """Write down what ``judge`` finds; a rollback also quarantines the release.

    A rollback that was cut off is finished first, or forgotten where it changed nothing.
    """
    if record.state.rollback is not None:
        if _is_done(record.state.rollback, env, booted):
            finish_rollback(record, record.state.rollback)
            return Finding.ROLLED_BACK
        record.try_save(record.state.abandon())
    _recover(record, env, booted)
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
    elif finding is Finding.NEVER_TRIED:
        _give_up_untried(record)
    elif finding is Finding.LOST:
        # The release did nothing wrong that we know of, so it is not quarantined.
        reason = f"{ROLLED_BACK_PREFIX}the boot environment was lost in the trial of "
        record.try_save(state.roll_back(f"{reason}{state.to_version}"))
        record.note("trial", "rolled_back", record.state.last_error)
    return finding


def finish_rollback(record: Record, rollback: Rollback) -> None:
    """Quarantine what was left, and say that the rollback is over; may be done twice."""
    record.quarantine(rollback.digest, rollback.version, rollback.reason)
    record.try_save(record.state._replace(rollback=rollback).roll_back(rollback.reason))
    record.note("rollback", "rolled_back", rollback.reason)


def _is_done(rollback: Rollback, env: Environment, booted: str) -> bool:
    """Whether the boot environment was changed; without one, the slot that runs has to tell."""
    target = other_slot(rollback.leave)
    return env.confirms(target) if env.valid else booted == target


def _recover(record: Record, env: Environment, booted: str) -> None:
    """Write down the trial that the boot environment tells of, where the state knows nothing of it:
    it was lost, and the release would be taken for one that was never tried."""
    state, token = record.state, parse_token(env.trial)
    if token is None or state.phase in TRIAL_PHASES or env.trial in (state.trial, state.settled):
        return
    # A rollback leaves no tries. A commit may, too, but then the slot is the active one.
    rolled_back = env.boot_success is True and env.boot_counter == 0
    if env.confirms(token.slot) or not (rolled_back or env.tries(token.slot)):
        return
    from product.agent.slots.store import SlotStore

    node = record.node
    store = SlotStore(node.paths, node.volumes, node.boot)
    content = store.inspect(token.slot)
    if content.manifest is None and rolled_back:
        _recover_without_slot(record, env, token)
        return
    if content.manifest is None or not (content.digest or "").startswith(token.digest):
        return  # The slot holds another release by now.
    assert content.digest is not None
    version, digest = content.manifest.version, content.digest
    before: str | None = node.release.version
    if booted == token.slot:
        other = store.inspect(other_slot(token.slot)).manifest
        before = other.version if other else None
    record.problems.append(f"the state of the trial of {version} was lost, it is made anew")
    lost = f"{ROLLED_BACK_PREFIX}the trial of {version} failed, its state was lost"
    recovered = UpdateState(
        phase=Phase.ACTIVATED,
        from_version=before,
        to_version=version,
        last_error=lost if rolled_back else None,
        attempt_count=1,
        to_slot=token.slot,
        to_digest=digest,
        trial=env.trial,
        unproved=token.slot,
    )
    record.try_save(recovered)


def _recover_without_slot(record: Record, env: Environment, token: Token) -> None:
    """A disk that lost both has lost the release's name: nobody is to blame but it."""
    lost = (
        f"{ROLLED_BACK_PREFIX}the trial of the release in slot {token.slot} failed, its state and "
        "what the slot held were lost: the disk may not keep what it acknowledges"
    )
    record.problems.append(f"the state of the trial in slot {token.slot} was lost")
    recovered = UpdateState(
        phase=Phase.ACTIVATED,
        from_version=record.node.release.version,
        last_error=lost,
        attempt_count=1,
        to_slot=token.slot,
        trial=env.trial,
        unproved=token.slot,
    )
    record.try_save(recovered)


def _roll_back(record: Record) -> None:
    state = record.state
    reason = state.last_error
    if reason is None or not reason.startswith(ROLLED_BACK_PREFIX):
        reason = f"{ROLLED_BACK_PREFIX}{BOOT_TRIES} failed boots of {state.to_version}"
    record.quarantine(state.to_digest, state.to_version, reason)
    record.try_save(state.roll_back(reason))
    record.note("trial", "rolled_back", reason, evidence=record.evidence)


def _give_up_untried(record: Record) -> None:
    """The release is set aside, or the node would restart for it again and again; the reason says
    that nothing is known against it."""
    state = record.state
    reason = (
        f"{NEVER_TRIED_PREFIX}{state.to_version} did not reach early boot in {BOOT_TRIES} restarts "
        "with the tryboot flag: firmware (EEPROM) or kernel ignore the flag, or its kernel does "
        "not start"
    )
    record.quarantine(state.to_digest, state.to_version, reason)
    if state.phase is Phase.STAGED:
        state = state.to(Phase.ACTIVATED)
    if state.phase is Phase.ACTIVATED:
        state = state.fail(reason)._replace(settled=state.trial)
    else:
        # It ran once: the record knows better than the boot environment.
        state = state.roll_back(reason)
    record.try_save(state)
    record.note("trial", "failed", reason, evidence=record.evidence)


def _verifying(state: UpdateState) -> UpdateState:
    """``state`` after the steps that lie between it and ``verifying``."""
    if state.phase is Phase.STAGED:
        state = state.to(Phase.ACTIVATED)
    if state.phase is Phase.ACTIVATED:
        state = state.to(Phase.VERIFYING)
    return state
