"""What was wrong before an update: ``/var/lib/kubesolo/update/baseline.json``.

Format: one JSON object with ``trial`` (the attempt's token in the state file), ``version``,
``taken_at`` (ISO 8601, UTC), ``complete`` (false where the node was still starting: nothing is
excused then), ``faults``, a list of ``name``, ``reason``, ``subjects`` and ``limit`` of each
failed check, and ``network``, a list of the fields of product.agent.net.interfaces.Interface; an
older agent's file has no ``limit`` and no ``network``, and then the network is not judged.

A check that fails on trial with the same subjects, or fewer, is not the update's fault. The disk
is not among the checks: without one that can be written no update could be either.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from product.agent.config import Config
from product.agent.errors import AgentError, hide_logins
from product.agent.health.checks import CHECKS, FAIL, KNOWN, HealthContext, Result
from product.agent.health.report import read_report
from product.agent.health.runner import run_until
from product.agent.net.interfaces import Interface
from product.agent.node import Node
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded, write_atomic

MAX_BYTES = 256 * 1024
# A fault that goes away by itself within this time is none.
SECONDS = 10
NOT_JUDGED = ("data_partition", "disk_writable", "slot_integrity", "network")
JUDGED = tuple(c for c in CHECKS if c.name not in NOT_JUDGED)


class BaselineError(AgentError):
    """The baseline cannot be kept, or cannot be read."""

    code = "baseline-unusable"


class Baseline(NamedTuple):
    """The file's content."""

    trial: str
    version: str
    taken_at: str
    complete: bool
    faults: tuple[Result, ...]
    network: tuple[Interface, ...] | None = None

    def excuse(self, result: Result) -> Result:
        """``result``, or the same as known where it failed before for the same subjects."""
        if result.result != FAIL or not self.complete:
            return result
        for fault in self.faults:
            same = set(result.subjects) <= set(fault.subjects)
            # On trial nothing is known of the pods of a node that is not Ready.
            hidden = fault.name == "node_ready" and result.name == "kube_system"
            if (
                (fault.name == result.name or hidden)
                and same
                and bool(result.subjects) == bool(fault.subjects)
            ):
                return result._replace(result=KNOWN, before=fault.reason)
        return result

    def as_json(self) -> dict[str, object]:
        """What the file and the status report show."""
        faults = [
            {"name": f.name, "reason": f.reason, "subjects": list(f.subjects), "limit": f.limit}
            for f in self.faults
        ]
        network = None if self.network is None else [one._asdict() for one in self.network]
        return {**self._asdict(), "faults": faults, "network": network}


def take_baseline(node: Node, config: Config, trial: str, say: Callable[[str], None]) -> Baseline:
    """Look at the node and keep what is wrong. Raises BaselineError."""
    restless = config.kube_system_settle
    context = HealthContext(node, config, unconfirmed=False, restless=restless)
    # Before the boot-time service has judged, a part that is down may merely not be up yet.
    complete = read_report(node) is not None or not context.has_kubernetes
    results = run_until(context, SECONDS if complete else 0, JUDGED)
    faults = tuple(r for r in results if r.result == FAIL)
    for fault in faults:
        say(f"before the update, {fault.name} fails already: {fault.reason}")
    if faults and not complete:
        say("the node is still starting: what fails now is not excused after the update")
    network = node.read_network().interfaces
    version = node.release.version
    baseline = Baseline(trial, version, timestamp(node.clock.now()), complete, faults, network)
    try:
        text = json.dumps(baseline.as_json(), indent=2) + "\n"
        write_atomic(node.paths.baseline, text.encode())
    except OSError as error:
        raise BaselineError(f"cannot write {node.paths.baseline}: {error.strerror}") from None
    return baseline


def read_baseline(node: Node) -> Baseline | None:
    """None where none was taken. Raises BaselineError."""
    path = node.paths.baseline
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode())
        return Baseline(
            str(document["trial"]),
            str(document["version"]),
            str(document["taken_at"]),
            document["complete"] is True,
            tuple(map(_fault, document["faults"])),
            None if (kept := document.get("network")) is None else tuple(map(_interface, kept)),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = error.strerror or str(error)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        problem = f"it is garbage ({error!r:.100})"
    raise BaselineError(f"{path} cannot be read: {problem}")


def _fault(kept: dict[str, Any]) -> Result:
    """Raises ValueError, TypeError or KeyError for what is none."""
    limit = kept.get("limit")
    return Result(
        str(kept["name"]),
        FAIL,
        str(kept["reason"]),
        # An older agent kept a URL's login.
        tuple(hide_logins(str(subject)) for subject in kept["subjects"]),
        limit=None if limit is None else float(limit),
    )


def _interface(kept: dict[str, Any]) -> Interface:
    """Raises TypeError or KeyError for what is none; a newer agent's further fields are left."""
    speed, link, waited = kept["speed"], kept["link"], kept["waited"]
    return Interface(
        str(kept["name"]),
        None if kept["driver"] is None else str(kept["driver"]),
        str(kept["mac"]),
        str(kept["device"]),
        None if link is None else link is True,
        None if speed is None else int(speed),
        tuple(map(str, kept["addresses"])),
        None if waited is None else int(waited),
        # An older agent knew of cards alone.
        str(kept.get("mode", "dhcp")),
        str(kept.get("kind", "card")),
    )
