"""What one scenario gets: machines within the pool's budget, and a directory of evidence."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.journal.journal import Source
from harness.qemu import left
from harness.qemu.machine import Machine
from harness.qemu.pool import Need, Pool
from harness.qemu.snapshots import States
from harness.qemu.spec import MachineSpec
from harness.target.node import Node
from harness.target.protocols import Bench

# A machine waits for its turn at most so long: every other one's scenario has deadlines of its own.
_TURN = 3600.0

_EVIDENCE = 10.0


def directory_name(identity: str) -> str:
    """A test's identity as a name for a directory."""
    name = re.sub(r"[^A-Za-z0-9_.\[\]-]+", "-", identity.replace(".py::", "-"))
    return name.strip("-")


class Session:
    """The nodes of one running test and what is known about them.

    ``artefacts`` gets a directory a node, ``result.json`` and, after a failure, each node's disk
    and what it could still say. ``reproduce`` is the command that runs the test again.
    """

    def __init__(
        self,
        test: str,
        spec: MachineSpec,
        host: Bench,
        *,
        image: str,
        states: States,
        pool: Pool,
        artefacts: Path,
        reproduce: str,
        memory: bool = False,
    ) -> None:
        """With ``memory`` a failure keeps the memory of machines, too."""
        self.test = test
        self.artefacts = artefacts
        self.nodes: list[Node] = []
        self._spec = spec
        self._host = host
        self._image = image
        self._states = states
        self._pool = pool
        self._memory = memory
        self.reproduce = reproduce
        self._scope = contextlib.ExitStack()
        self._begun = time.monotonic()
        self._turn_seconds = 0.0

    def node(self, name: str = "node", **fields: Any) -> Node:
        """The only node, off; ``fields`` replace those of the scenario's MachineSpec."""
        return self.nodes_at_once(name, **fields)[0]

    def nodes_at_once(
        self, *nodes: str | tuple[str, Mapping[str, Any]], **fields: Any
    ) -> list[Node]:
        """All nodes of the scenario, off, each by its name, or by that and fields of its own;
        ``fields`` are those of all.

        Returns when there is room for all of them. Raises HarnessError where the session has nodes
        already: who holds memory and waits for more may wait for somebody who does the same. Raises
        what Pool.lease raises.
        """
        wanted = {
            name: MachineSpec.model_validate({**self._spec.model_dump(), **fields, **own})
            for name, own in ((one, {}) if isinstance(one, str) else one for one in nodes)
        }
        if len(wanted) < len(nodes):
            raise HarnessError(f"two nodes have the same name among {', '.join(wanted)}")
        if self.nodes:
            present = ", ".join(node.name for node in self.nodes)
            raise HarnessError(
                f"{', '.join(wanted)} cannot be added to the running scenario's nodes: {present}",
                hint='ask for all at once, with the fixture nodes: nodes("one", "two")',
            )
        begun = time.monotonic()
        needs = [Need(spec.threads, spec.pool_mib) for spec in wanted.values()]
        deadline = Deadline.after(_TURN, self._host.scale)
        self._scope.enter_context(self._pool.lease(needs, deadline))
        self._turn_seconds += time.monotonic() - begun
        for name, spec in wanted.items():
            self.nodes.append(
                Node(
                    spec,
                    self._host,
                    self.artefacts / name,
                    image=self._image,
                    states=self._states,
                    name=name,
                    reproduce=self.reproduce,
                )
            )
        return list(self.nodes)

    def end(self) -> None:
        """Switch every node off. Raises GuestFailureError for a failure that no wait reported."""
        for node in self.nodes:
            if node.started:
                node.end()

    def close(self, failure: str | None, *, skipped: str | None = None) -> dict[str, Any]:
        """End every node; returns what result.json holds. ``skipped`` is what the target could not
        do, if that ended the scenario.

        Raises HarnessError where something of it failed; all the rest was done.
        """
        errors: list[tuple[str, BaseException]] = []
        for node in self.nodes:
            collect = [self._collect] if failure is not None and node.started else []
            # Evidence that cannot be kept must not keep this node and the others from their end,
            # and none of them the others' machines from their turn.
            for step in (*collect, Node.close):
                try:
                    step(node)
                except BaseException as error:
                    errors.append((node.name, error))
        self._scope.close()
        self.artefacts.mkdir(parents=True, exist_ok=True)
        result = self._result(failure, skipped)
        (self.artefacts / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        for _, reason in errors:
            if not isinstance(reason, Exception):
                raise reason  # The user's interrupt, say.
        if errors:
            told = "; ".join(f"{name}: {self._named(reason)}" for name, reason in errors)
            raise HarnessError(f"the scenario's end failed: {told}") from errors[0][1]
        return result

    def _collect(self, node: Node) -> None:
        """Evidence of a failure, before the node is gone: what it can still say, its memory where
        that is wanted, then its disk."""
        machine = node.target
        lines: list[str] = []
        if machine.running and machine.channel.up:
            with contextlib.suppress(HarnessError):
                for command in node.profile.evidence:
                    deadline = machine.deadline(_EVIDENCE)
                    done = machine.channel.exec(["/bin/sh", "-c", command], deadline)
                    lines.append(f"{done}\n")
        if lines:
            (machine.artefacts / "evidence.txt").write_text("\n".join(lines))
        if (
            self._memory
            and machine.running
            and isinstance(machine, Machine)
            and (why := left.save_memory(machine)) is not None
        ):
            machine.journal.append(Source.HARNESS, "note", f"its memory was not saved: {why}")
        with contextlib.suppress(HarnessError):
            machine.quit()
        machine.keep_disk()
        if isinstance(machine, Machine) and not machine.running:
            left.keep(machine)

    def _named(self, error: BaseException) -> str:
        """An error's words, with its kind where they are not meant for a user."""
        told: tuple[type[Exception], ...] = (HarnessError, *self._host.profile.errors)
        return str(error) if isinstance(error, told) else f"{type(error).__name__}: {error}"

    def _result(self, failure: str | None, skipped: str | None) -> dict[str, Any]:
        seconds = time.monotonic() - self._begun
        guest = sum(node.journal.guest_seconds() for node in self.nodes if node.started)
        cpu = sum(node.journal.cpu_seconds() for node in self.nodes if node.started)
        making = sum(node.make_seconds for node in self.nodes)
        overhead = max(0.0, seconds - guest - making - self._turn_seconds)
        outcome = "passed" if skipped is None else "skipped"
        if failure is not None:
            outcome = "failed"
        return {
            "schema": 1,
            "test": self.test,
            "arch": self._spec.arch.value,
            "accelerator": self._host.accelerator,
            "host_scale": round(self._host.scale, 2),
            "outcome": outcome,
            "failure": failure,
            **({"skipped": skipped} if outcome == "skipped" else {}),
            "reproduce": self.reproduce,
            "nodes": [node.name for node in self.nodes if node.started],
            "seconds": round(seconds, 3),
            "guest_seconds": round(guest, 3),
            "cpu_seconds": round(cpu, 3),
            "making_seconds": round(making, 3),
            "turn_seconds": round(self._turn_seconds, 3),
            "overhead_seconds": round(overhead, 3),
        }
