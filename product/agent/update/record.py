"""What the agent writes down about an update: state, history and quarantine, in one hand.

Only the holder of the lock has a Record.
"""

from __future__ import annotations

from product.agent.errors import AgentError
from product.agent.node import Node
from product.agent.records.history import History
from product.agent.records.quarantine import Quarantine
from product.agent.records.state import UpdateState


class Record:
    """The update's state as last written; ``problems`` collects what could not be kept."""

    def __init__(self, node: Node) -> None:
        """Read the state, setting garbage aside."""
        self.node = node
        loaded = node.load_state(set_aside=True)
        self.state = loaded.state
        self.problems: list[str] = list(loaded.problems)

    def save(self, state: UpdateState) -> None:
        """Write ``state``. Raises StateError."""
        self.state = self.node.save_state(state)

    def try_save(self, state: UpdateState) -> None:
        """Write ``state`` if the disk lets us: a boot is judged even where it does not."""
        try:
            self.save(state)
        except AgentError as error:
            self.state = state
            self.problems.append(error.message)

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
        )
        if problem:
            self.problems.append(problem)
