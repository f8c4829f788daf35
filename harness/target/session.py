"""What one scenario gets: machines within the pool's budget, and a directory of evidence."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.qemu.machine import Host
from harness.qemu.pool import Pool
from harness.qemu.snapshots import States
from harness.qemu.spec import MachineSpec
from harness.target.node import Node
from product.errors import KubesoloError

# A machine waits for its turn at most so long: every other one's scenario has deadlines of its own.
_TURN = 3600.0

_EVIDENCE = 10.0
_EVIDENCE_COMMANDS = (
    "kubesolo-update status",
    "dmesg | tail -n 50",
    "ps",
    "tail -n 40 /var/log/kubernetes/current /var/log/containerd/current 2> /dev/null",
    "mount",
    "df",
)


def directory_name(identity: str) -> str:
    """A test's identity as a name for a directory."""
    name = re.sub(r"[^A-Za-z0-9_.\[\]-]+", "-", identity.replace(".py::", "-"))
    return name.strip("-")


class Session:
    """The nodes of one running test and what is known about them.

    ``artefacts`` gets a directory a node, ``result.json`` and, after a failure, each node's disk
    and what it could still say.
    """

    def __init__(
        self,
        test: str,
        spec: MachineSpec,
        host: Host,
        *,
        image: str,
        states: States,
        pool: Pool,
        artefacts: Path,
        reproduce: str,
    ) -> None:
        self.test = test
        self.artefacts = artefacts
        self.nodes: list[Node] = []
        self._spec = spec
        self._host = host
        self._image = image
        self._states = states
        self._pool = pool
        self._reproduce = reproduce
        self._scope = contextlib.ExitStack()
        self._begun = time.monotonic()
        self._turn_seconds = 0.0

    def node(self, name: str = "node", **fields: Any) -> Node:
        """A new node that is off; ``fields`` replace those of the scenario's MachineSpec."""
        spec = self._spec
        if fields:
            spec = MachineSpec.model_validate({**spec.model_dump(), **fields})
        begun = time.monotonic()
        deadline = Deadline.after(_TURN, self._host.scale)
        lease = self._pool.lease(spec.cpus, spec.pool_mib, deadline, further=bool(self.nodes))
        self._scope.enter_context(lease)
        self._turn_seconds += time.monotonic() - begun
        node = Node(
            spec,
            self._host,
            self.artefacts / name,
            image=self._image,
            states=self._states,
            name=name,
            reproduce=self._reproduce,
        )
        self.nodes.append(node)
        return node

    def end(self) -> None:
        """Switch every node off. Raises GuestFailureError for a failure that no wait reported."""
        for node in self.nodes:
            if node.started:
                node.end()

    def close(self, failure: str | None) -> dict[str, Any]:
        """End every node; returns what result.json holds."""
        self.artefacts.mkdir(parents=True, exist_ok=True)
        failures = []
        for node in self.nodes:
            collect = [_collect] if failure is not None and node.started else []
            # Evidence that cannot be kept must not keep this node and the others from their end.
            for step in (*collect, Node.close):
                try:
                    step(node)
                except (OSError, KubesoloError) as error:
                    failures.append(f"{node.name}: {error}")
        self._scope.close()
        result = self._result(failure)
        (self.artefacts / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        if failures:
            raise HarnessError(f"the scenario's end failed: {'; '.join(failures)}")
        return result

    def _result(self, failure: str | None) -> dict[str, Any]:
        seconds = time.monotonic() - self._begun
        guest = sum(node.journal.guest_seconds() for node in self.nodes if node.started)
        cpu = sum(node.journal.cpu_seconds() for node in self.nodes if node.started)
        making = sum(node.make_seconds for node in self.nodes)
        overhead = max(0.0, seconds - guest - making - self._turn_seconds)
        return {
            "schema": 1,
            "test": self.test,
            "arch": self._spec.arch.value,
            "accelerator": self._host.accelerator,
            "host_scale": round(self._host.scale, 2),
            "outcome": "passed" if failure is None else "failed",
            "failure": failure,
            "reproduce": self._reproduce,
            "nodes": [node.name for node in self.nodes if node.started],
            "seconds": round(seconds, 3),
            "guest_seconds": round(guest, 3),
            "cpu_seconds": round(cpu, 3),
            "making_seconds": round(making, 3),
            "turn_seconds": round(self._turn_seconds, 3),
            "overhead_seconds": round(overhead, 3),
        }


def _collect(node: Node) -> None:
    """Evidence of a failure, before the node is gone: what it can still say, then its disk."""
    machine = node.machine
    lines: list[str] = []
    if machine.running and machine.channel.up:
        with contextlib.suppress(KubesoloError):
            for command in _EVIDENCE_COMMANDS:
                deadline = machine.deadline(_EVIDENCE)
                done = machine.channel.exec(["/bin/sh", "-c", command], deadline)
                lines.append(f"{done}\n")
    if lines:
        (machine.artefacts / "evidence.txt").write_text("\n".join(lines))
    with contextlib.suppress(KubesoloError):
        machine.quit()
    machine.keep_disk()
