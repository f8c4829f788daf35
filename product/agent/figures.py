"""The figures that ``status --json`` and the metrics share: both come from ``read_figures``.

It reads files and the boot environment, and mounts no slot, so that a service may ask every minute.
"""

from __future__ import annotations

from typing import NamedTuple

from product.agent.bootloader.protocol import Environment
from product.agent.health.report import read_report
from product.agent.logs.boots import boot_number
from product.agent.node import Node
from product.agent.records.counters import Counters
from product.agent.records.last_check import LastCheck, read_last_check
from product.agent.records.state import LoadedState, Phase, UpdateState
from product.agent.system.clock import seconds_of
from product.agent.system.vitals import read_vitals
from product.agent.trust.ends import role_ends
from product.agent.update.record import counter_file


class Figures(NamedTuple):
    """Times are in seconds since 1970; None is unknown or never.

    ``offered`` is the release of the last look, ``available`` whether it is another than the
    running one; ``metadata_ends`` is role to time; ``vitals``: see product.agent.system.vitals;
    ``report`` is what the boot-time service found (product.agent.health.report).
    """

    version: str
    architecture: str
    slot: str
    boot: int
    environment: Environment
    confirmed: bool
    loaded: LoadedState
    last_check: LastCheck | None
    available: bool
    report: dict[str, object] | None
    counters: Counters
    metadata_ends: dict[str, float]
    vitals: dict[str, float | int]
    now: float

    @property
    def state(self) -> UpdateState:
        """Where the update stands."""
        return self.loaded.state

    @property
    def last_attempt(self) -> float | None:
        """When the latest attempt began."""
        return seconds_of(self.state.started_at)

    def checks(self) -> list[tuple[str, str]]:
        """Name and result of each health check of this boot that applied."""
        found = self.report.get("health") if self.report else None
        return [
            (str(check["name"]), str(check["result"]))
            for check in (found if isinstance(found, list) else [])
            if isinstance(check, dict)
            and check.get("name")
            and check.get("result") != "not_applicable"
        ]

    def checked_at(self) -> float | None:
        """When they were asked."""
        time = self.report.get("time") if self.report else None
        return seconds_of(time) if isinstance(time, str) else None


def read_figures(node: Node) -> Figures:
    """Look, change nothing. Raises BootInfoError."""
    boot, release = node.boot, node.release
    environment = node.boot_env.read()
    loaded = node.load_state()
    last_check = read_last_check(node.paths.last_check)
    return Figures(
        release.version,
        release.architecture,
        boot.slot,
        boot_number(node.paths),
        environment,
        environment.confirms(boot.slot),
        loaded,
        last_check,
        _is_available(node, last_check, loaded.state),
        read_report(node),
        counter_file(node).read(),
        role_ends(node.paths.metadata),
        read_vitals(node.paths.proc),
        node.clock.now(),
    )


def _is_available(node: Node, last_check: LastCheck | None, state: UpdateState) -> bool:
    """Whether the last look was offered a release that does not run, whatever the gates said."""
    if last_check is None or last_check.version is None:
        return False
    if last_check.version != node.release.version:
        return True
    # Another build of the running version, or that version itself, installed since.
    ran = state.to_digest if state.to_slot == node.boot.slot else None
    known = state.phase is Phase.SUCCESS and ran is not None and last_check.digest is not None
    return known and last_check.digest != ran
