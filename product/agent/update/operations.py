"""An operator's or a pod's operations, each with a result that commands print and services send.

What changes the node takes the agent's lock and raises BusyError where another agent holds it. Each
raises RefusedError where a gate refuses, AgentError and OSError for what fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from product.agent.config import Config
from product.agent.errors import EXIT_AVAILABLE, EXIT_DONE, EXIT_REFUSED
from product.agent.node import Node
from product.agent.system.lock import exclusive
from product.agent.update.attempt import Attempt, Offer, Say, check
from product.agent.update.gates import (
    BYPASSED,
    LABEL_GATE,
    PASS,
    REBOOT_GATES,
    REFUSE,
    GateContext,
    Verdict,
    describe_bypassed,
    evaluate,
)
from product.agent.update.power import reboot_in_window, require_counted


class CheckResult(NamedTuple):
    """``running`` is this node's version; ``offer`` is None where the node is up to date."""

    running: str
    offer: Offer | None

    @property
    def refusals(self) -> list[Verdict]:
        """The gates that would refuse the offered release."""
        return [v for v in self.offer.verdicts if v.result == REFUSE] if self.offer else []

    @property
    def exit_code(self) -> int:
        """Up to date, available, or refused by a gate."""
        if self.offer is None:
            return EXIT_DONE
        return EXIT_REFUSED if self.refusals else EXIT_AVAILABLE

    def as_text(self) -> str:
        """For people."""
        if self.offer is None:
            return f"{self.running} is up to date"
        lines = [f"{self.offer.release.version} is available, {self.running} runs"]
        terms = self.offer.release.terms
        if terms.allow_downgrade or terms.allow_respin:
            lines += [v.reason for v in self.offer.verdicts if v[:2] == ("downgrade", PASS)]
        lines += [f"gate {verdict.gate} refuses: {verdict.reason}" for verdict in self.refusals]
        return "\n".join(lines)

    def as_document(self) -> dict[str, object]:
        """For programs: ``version``, ``available``, ``digest``, ``notes``, ``gates``."""
        release = self.offer.release if self.offer else None
        return {
            "version": self.running,
            "available": release.version if release else None,
            "digest": release.digest if release else None,
            "notes": release.notes if release else None,
            "gates": [v._asdict() for v in self.offer.verdicts] if self.offer else [],
        }


class ApplyResult(NamedTuple):
    """``staged``, ``slot`` and ``digest`` are None where the node was up to date."""

    version: str
    staged: str | None
    slot: str | None
    digest: str | None
    bypassed: str | None

    def as_text(self) -> str:
        """For people."""
        if self.staged is None:
            return f"{self.version} is up to date"
        return f"{self.staged} is staged in slot {self.slot}"


class ActivateResult(NamedTuple):
    """The armed slot, and what the gates said that stand before a reboot."""

    activated: str
    reboot: bool
    verdicts: tuple[Verdict, ...] = ()

    @property
    def bypassed(self) -> str | None:
        """Which gates were passed unasked, and why."""
        return describe_bypassed(self.verdicts)

    def as_text(self) -> str:
        """For people."""
        return f"slot {self.activated} boots next, on trial"


def check_for_release(node: Node, config: Config) -> CheckResult:
    """Look for a release. Raises RefusedError on a live system, as all that follow."""
    node.require_installed()
    return CheckResult(node.release.version, check(node, config))


def rehearse(node: Node, config: Config, *, force: bool, say: Say) -> CheckResult:
    """Everything up to the first write, recording nothing."""
    node.require_installed()
    offer = Attempt(node, config, force=force, say=say).rehearse()
    return CheckResult(node.release.version, offer)


def apply_release(node: Node, config: Config, *, force: bool, say: Say) -> ApplyResult:
    """Write the channel's release into the passive slot; ``say`` gets the progress."""
    node.require_installed()
    with exclusive(node.paths.lock):
        attempt = Attempt(node, config, force=force, say=say)
        release = attempt.run()
        if release is None:
            return ApplyResult(node.release.version, None, None, None, attempt.bypassed)
        return ApplyResult(
            node.release.version,
            release.version,
            node.boot.passive,
            release.digest,
            attempt.bypassed,
        )


def require_reboot_allowed(node: Node, config: Config, *, force: bool) -> tuple[Verdict, ...]:
    """Ask window, inhibitors and the node's block label. Raises RefusedError."""
    verdicts = evaluate((*REBOOT_GATES, LABEL_GATE), GateContext(node, config, force))
    require_counted(node, verdicts)
    return tuple(verdicts)


def activate_release(
    node: Node,
    config: Config,
    *,
    say: Say,
    reboot: bool = False,
    force: bool = False,
    copy_datastore: bool = True,
    announce: Callable[[ActivateResult], None] = lambda _: None,
) -> ActivateResult:
    """Arm the slot that was written; with ``reboot``, nothing is armed outside the window.

    ``announce`` gets the result before the reboot, from which nothing may come back. Raises
    ConfigError before anything else.
    """
    from product.agent.update.activation import activate

    node.require_installed()
    config.require_usable()
    with exclusive(node.paths.lock):
        verdicts = require_reboot_allowed(node, config, force=force) if reboot else ()
        for verdict in verdicts:
            if verdict.result == BYPASSED:
                say(f"gate {verdict.gate}: bypassed ({verdict.reason})")
        slot = activate(node, config, say=say, copy_datastore=copy_datastore)
        result = ActivateResult(slot, reboot, verdicts)
        if reboot:
            reboot_in_window(node, config, force=force, announce=lambda: announce(result))
        else:
            announce(result)
    return result
