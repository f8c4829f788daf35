"""What the agent writes down about an update: state, history and quarantine, in one hand.

Only the holder of the lock has a Record.
"""

from __future__ import annotations

import os

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.node import Node
from product.agent.records.history import History
from product.agent.records.quarantine import Quarantine
from product.agent.records.state import Phase, UpdateState

# Hooks that stand after a step, see product.agent.update.hooks.
AFTER_APPLY, AFTER_COMMIT, AFTER_ROLLBACK = "after-apply", "after-commit", "after-rollback"


class Record:
    """The update's state as last written; ``problems`` collects what could not be kept."""

    def __init__(self, node: Node) -> None:
        """Read the state, setting garbage aside."""
        self.node = node
        loaded = node.load_state(set_aside=True)
        self.state = loaded.state
        self.saved = loaded.state.phase
        # Where an attempt's release comes from, for the history.
        self.source: str | None = None
        self.problems: list[str] = list(loaded.problems)

    def save(self, state: UpdateState) -> None:
        """Write ``state``, and tell the webhook of a step. Raises StateError."""
        before, self.state = self.saved, self.node.save_state(state)
        self._tell(before)

    def try_save(self, state: UpdateState) -> None:
        """Write ``state`` if the disk lets us: a boot is judged even where it does not."""
        try:
            self.save(state)
        except AgentError as error:
            before, self.state = self.saved, state
            self.problems.append(error.message)
            self._tell(before)

    def _tell(self, before: Phase) -> None:
        from product.agent.update.webhook import tell

        self.saved = self.state.phase
        if self.saved is not before and (problem := tell(self.node, before, self.state)):
            self.problems.append(problem)

    def run_hooks(self, config: Config, event: str) -> None:
        """Run the hooks that stand after a step; what fails is a problem, and in the history."""
        if not os.path.isdir(self.node.paths.hooks):
            return
        from product.agent.update.hooks import run_hooks

        for problem in run_hooks(self.node, config, event, self.state):
            self.problems.append(problem)
            self.note("hook", "failed", problem)

    def quarantine(self, digest: str | None, version: str | None, reason: str) -> None:
        """Put a release on the list, if it is known and the disk lets us."""
        if digest is None:
            return
        try:
            Quarantine(self.node.paths.quarantine).add(
                digest, version or "unknown", reason, self.node.clock.now()
            )
        except AgentError as error:
            self.problems.append(error.message)

    @property
    def evidence(self) -> str | None:
        """The last console of the latest failed boot that this boot found, if there is one."""
        from product.agent.logs.boots import latest_crash

        crash = latest_crash(self.node.paths)
        return crash.path if crash else None

    def note(
        self,
        event: str,
        outcome: str,
        reason: str | None = None,
        *,
        bypassed: str | None = None,
        evidence: str | None = None,
    ) -> None:
        """Append to the history what became of the attempt in ``state``."""
        problem = History(self.node.paths.history).add(
            self.node.clock.now(),
            event,
            outcome,
            from_version=self.state.from_version,
            to_version=self.state.to_version,
            digest=self.state.to_digest,
            reason=reason,
            bypassed=bypassed,
            evidence=evidence,
            source=self.source if event == "apply" else None,
        )
        if problem:
            self.problems.append(problem)
