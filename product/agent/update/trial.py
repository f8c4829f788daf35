"""Judging this boot: what the boot-time service does.

A slot on trial is committed when all checks pass. When they do not, the boot is given up: by a
reboot, which spends one of the boot loader's tries, or, after ``auto_rollback_after`` of them, by a
return to the other slot. A confirmed slot is left alone whatever the checks say: on an image with
Kubernetes they are waited for and reported, without the lock, so that an update can mend a node
that does not become healthy. Where there is no way back the node stays up and reports.

What a confirmed boot does not need (slots, hashing) is imported only by those that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from product.agent.bootloader.boot import TRYBOOT
from product.agent.bootloader.protocol import Environment
from product.agent.config import Config
from product.agent.errors import EXIT_DONE, EXIT_FAILED, AgentError
from product.agent.health.checks import CHECKS, KNOWN, KUBERNETES, HealthContext, Result
from product.agent.health.report import write_report
from product.agent.health.runner import (
    all_pass,
    describe_failures,
    disk_answers,
    run_once,
    run_until,
)
from product.agent.node import Node
from product.agent.records.state import Phase
from product.agent.update.reconcile import ROLLED_BACK_PREFIX, Finding, reconcile
from product.agent.update.record import AFTER_COMMIT, AFTER_ROLLBACK, Record
from product.errors import KubesoloError

if TYPE_CHECKING:
    from product.agent.update.baseline import Baseline


class BootTrial:
    """One run of the boot-time service: ``run`` under the lock, then ``finish`` without it."""

    def __init__(self, node: Node, config: Config) -> None:
        """Reads the state, setting garbage aside."""
        self._node = node
        self._config = config
        self._record = Record(node)
        self._record.problems[:0] = [*node.boot.problems, *config.problems]
        self._results: Sequence[Result] = ()
        self._confirmed = False

    def run(self) -> int | None:
        """Judge, act, report; the exit code, or None where ``finish`` has it. May reboot."""
        slot = self._node.boot.slot
        env = self._node.boot_env.read()
        self._record.problems += env.problems
        self._ask_firmware()
        if env.valid and env.active_slot != slot:
            self._record.problems.append(
                f"slot {slot} was booted although slot {env.active_slot} is the active one"
            )
        if env.boot_success is False:
            self._repair(env)
        finding = reconcile(self._record, env, slot)
        if finding in (Finding.ROLLED_BACK, Finding.LOST):
            self._announce_rollback()
            self._record.run_hooks(self._config, AFTER_ROLLBACK)
        elif finding is Finding.NEVER_TRIED:
            state = self._record.state
            self._say(f"not tried version={state.to_version} reason={state.last_error}")
        elif finding is Finding.COMMITTED:
            self._record.run_hooks(self._config, AFTER_COMMIT)
        if env.tries(slot) or not env.valid or self._stranded(env):
            settle = self._config.kube_system_settle
            baseline = self._read_baseline()
            context = HealthContext(
                self._node,
                self._config,
                unconfirmed=True,
                settle=settle,
                network=baseline.network if baseline else None,
            )
            excuse = baseline.excuse if baseline else None
            self._results = run_until(context, context.deadline, excuse=excuse)
            if not all_pass(self._results):
                return self._give_up(env, finding, context)
            try:
                self._commit(env)
            except AgentError as error:
                return self._stay("commit", error.message)
            self._follow_loader()
            return self._ready(confirmed=True)
        self._confirmed = env.confirms(slot)
        if self._confirmed:
            self._follow_loader()
        return None

    def _ask_firmware(self) -> None:
        """It only confirms: the kernel's argument says which slot runs."""
        node = self._node
        if node.boot.loader != TRYBOOT:
            return
        from product.agent.bootloader.tryboot import contradiction, read_firmware
        from product.disk.autoboot import PARTITIONS

        found = contradiction(read_firmware(node.paths.proc), node.boot.slot, PARTITIONS)
        if found:
            self._record.problems.append(found)

    def _repair(self, env: Environment) -> None:
        """The boot loader counts a trial's boots in the block, and can write a whole one only."""
        if env.odd:
            try:
                self._node.boot_env.repair()
            except AgentError as error:
                self._record.problems.append(error.message)

    def finish(self) -> int:
        """Wait for Kubernetes on a boot that nothing hangs on, and report; the exit code."""
        # Without a settle time: no verdict hangs on it, and the line would come so much later.
        context = HealthContext(self._node, self._config, unconfirmed=False)
        if not context.has_kubernetes:
            return self._ready(confirmed=self._confirmed)
        results = run_until(context, context.deadline, KUBERNETES)
        others = run_once(context, [check for check in CHECKS if check not in KUBERNETES])
        self._results = [*results, *others]
        if not all_pass(results):
            return self._stay("health", describe_failures(results), confirmed=self._confirmed)
        if not all_pass(others):
            self._record.problems.append(describe_failures(others))
        return self._ready(confirmed=self._confirmed)

    def _ready(self, *, confirmed: bool) -> int:
        self._report("ready", confirmed=confirmed)
        version, slot = self._node.release.version, self._node.boot.slot
        known = ",".join(r.name for r in self._results if r.result == KNOWN)
        self._say(
            f"ready version={version} slot={slot} confirmed={int(confirmed)}"
            + (f" known={known}" if known else "")
        )
        return EXIT_DONE

    def _read_baseline(self) -> Baseline | None:
        """That of this very attempt."""
        from product.agent.update.baseline import read_baseline

        try:
            baseline = read_baseline(self._node)
        except AgentError as error:
            self._record.problems.append(error.message)
            return None
        trial = self._record.state.trial
        return baseline if baseline and trial and baseline.trial == trial else None

    def _stranded(self, env: Environment) -> bool:
        """Whether the boot loader came here because the confirmed slot holds nothing to boot.

        Until this slot is committed in its place, no update could be applied any more.
        """
        node = self._node
        if env.active_slot is None or env.active_slot == node.boot.slot or not env.boot_success:
            return False
        from product.agent.slots.store import SlotStore

        content = SlotStore(node.paths, node.volumes, node.boot).inspect(env.active_slot)
        return content.problem is not None

    def _commit(self, env: Environment) -> None:
        """The boot environment first: what it says holds even if the power fails before the
        state is written, and the next boot will find the update a success."""
        slot = self._node.boot.slot
        self._node.boot_env.commit(slot)
        written = self._node.boot_env.read()
        if not written.confirms(slot):
            raise AgentError(
                f"slot {slot} was committed, and the boot environment does not say so: {written}",
                code="environment-unwritable",
            )
        if self._record.state.phase is Phase.VERIFYING:
            self._record.try_save(self._record.state.succeed())
            self._record.note("trial", "success")
            self._record.run_hooks(self._config, AFTER_COMMIT)
            return
        state = self._record.state
        proved = state._replace(
            health_check_failures=0, unproved=None if state.unproved == slot else state.unproved
        )
        if proved != state:
            self._record.try_save(proved)

    def _follow_loader(self) -> None:
        """Not before the commit: the other slot's release started with the boot loader as it is."""
        from product.agent.update.loader import follow_loader

        try:
            if follow_loader(self._node):
                self._say(f"boot loader of {self._node.release.version} installed")
        except (KubesoloError, OSError) as error:
            self._record.problems.append(f"the boot loader stays as it was: {error}")

    def _give_up(self, env: Environment, finding: Finding, context: HealthContext) -> int:
        state = self._record.state
        reason = describe_failures(self._results)
        if not disk_answers(context):
            # Writing the reason down would hang for ever. The boot loader has counted the boot.
            if not env.tries(self._node.boot.slot):
                return self._stay("health", reason)
            return self._try_again(reason)
        failures = state.health_check_failures + 1
        state = state._replace(health_check_failures=failures)
        if state.phase is Phase.VERIFYING:
            state = state._replace(last_error=f"unhealthy: {reason}")
        self._record.try_save(state)
        if not env.tries(self._node.boot.slot) and finding is not Finding.TRIAL:
            # Nobody counts these boots, so a reboot could repeat for ever.
            return self._stay("health", reason)
        limit = self._config.auto_rollback_after
        if (limit and failures >= limit) or not env.valid:
            version = self._node.release.version
            count = "1 failed health check" if failures == 1 else f"{failures} failed health checks"
            return self._roll_back(f"{ROLLED_BACK_PREFIX}{count} of {version}: {reason}")
        return self._try_again(reason)

    def _try_again(self, reason: str) -> int:
        self._report("unhealthy", confirmed=False)
        self._complain("health", reason)
        self._node.reboot()
        return EXIT_FAILED

    def _roll_back(self, reason: str) -> int:
        from product.agent.update.rollback import roll_back

        node, state = self._node, self._record.state
        on_trial = state.to_slot == node.boot.slot
        try:
            roll_back(
                node,
                self._record,
                leave=node.boot.slot,
                reason=reason,
                version=node.release.version,
                digest=state.to_digest if on_trial else None,
                unattended=True,
            )
        except AgentError as error:
            return self._stay("rollback", f"{reason}; no way back: {error.message}")
        self._announce_rollback()
        self._record.run_hooks(self._config, AFTER_ROLLBACK)
        self._report("rolled_back", confirmed=False)
        node.reboot()
        return EXIT_FAILED

    def _stay(self, cause: str, reason: str, *, confirmed: bool = False) -> int:
        """Report and leave the node up: neither a reboot nor a rollback would help."""
        self._record.problems.append(reason)
        self._report("unhealthy", confirmed=confirmed)
        self._complain(cause, reason)
        return EXIT_FAILED

    def _complain(self, cause: str, reason: str) -> None:
        version, slot = self._node.release.version, self._node.boot.slot
        failures = self._record.state.health_check_failures
        self._say(
            f"unhealthy version={version} slot={slot} cause={cause} failures={failures} "
            f"reason={reason}"
        )

    def _announce_rollback(self) -> None:
        state = self._record.state
        version = state.to_version or "unknown"
        self._say(f"rolled back version={version} reason={state.last_error}")

    def _report(self, outcome: str, *, confirmed: bool) -> None:
        try:
            write_report(
                self._node,
                outcome,
                confirmed=confirmed,
                results=self._results,
                problems=self._record.problems,
            )
        except OSError as error:
            self._say(f"cannot write {self._node.paths.report}: {error.strerror}")

    def _say(self, text: str) -> None:
        self._node.print_console(f"kubesolo-update: {text}")
