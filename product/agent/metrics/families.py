"""Every metric of a node but those that the kernel tells anybody (product.agent.metrics.vitals).

The names are published; docs/metrics.md lists them, and which of them stay whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from product.agent.errors import hide_logins
from product.agent.figures import Figures
from product.agent.metrics.text_format import COUNTER, GAUGE, Family
from product.agent.records.counters import KINDS
from product.agent.records.last_check import AVAILABLE, FAILED, REFUSED, UP_TO_DATE
from product.agent.records.state import Phase
from product.agent.system.clock import seconds_of

OUTCOMES = (UP_TO_DATE, AVAILABLE, REFUSED, FAILED)
# Those of product.agent.update.gates, whose imports the collector would pay for every five minutes.
GATE_NAMES = (
    "maintenance_window", "inhibitor", "channel", "architecture", "downgrade",
    "min_compatible_version", "kubernetes_downgrade", "quarantine", "rollout", "free_space",
    "node_block_label",
)  # fmt: skip
# A label is a name, not a text: long ones make every scrape long.
MAX_LABEL = 200


class Metric(NamedTuple):
    """``fill`` adds the samples to the family."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    fill: Callable[[Family, Figures], None]


def _os_info(family: Family, figures: Figures) -> None:
    family.add(1, version=figures.version, architecture=figures.architecture, slot=figures.slot)


def _phase(family: Family, figures: Figures) -> None:
    for phase in Phase:
        family.add(int(figures.state.phase is phase), phase=phase.value)


def _offered(family: Family, figures: Figures) -> None:
    found = figures.last_check
    if found and found.version:
        family.add(1, version=_label(found.version), digest=_label(found.digest or ""))


def _check_outcome(family: Family, figures: Figures) -> None:
    for outcome in OUTCOMES:
        found = figures.last_check
        family.add(int(found is not None and found.outcome == outcome), outcome=outcome)


def _refusals(family: Family, figures: Figures) -> None:
    refusals = figures.counters.refusals
    # Those of another release's gates are counted on.
    for gate in [*GATE_NAMES, *sorted(refusals.keys() - set(GATE_NAMES))]:
        family.add(refusals.get(gate, 0), gate=_label(gate))


def _bytes(family: Family, figures: Figures) -> None:
    for kind in KINDS:
        family.add(figures.counters.bytes.get(kind, 0), kind=kind)


def _checks(family: Family, figures: Figures) -> None:
    for name, result in figures.checks():
        family.add(int(result == "pass"), check=_label(name))


def _checks_known(family: Family, figures: Figures) -> None:
    for name, result in figures.checks():
        family.add(int(result == "known"), check=_label(name))


def _checked_at(family: Family, figures: Figures) -> None:
    for name, _ in figures.checks():
        family.add(figures.checked_at(), check=_label(name))


def _ends(family: Family, figures: Figures) -> None:
    for role, end in sorted(figures.metadata_ends.items()):
        family.add(end, role=role)


def _last_rollback(family: Family, figures: Figures) -> None:
    if last := figures.counters.last_rollback:
        family.add(1, version=_label(last.version or ""), reason=_label(last.reason or ""))


def _value(find: Callable[[Figures], float | int | None]) -> Callable[[Family, Figures], None]:
    return lambda family, figures: family.add(find(figures))


def _time(find: Callable[[Figures], float | None]) -> Callable[[Family, Figures], None]:
    """0 is never: an alert on the time that has passed fires, as it does after very long."""
    return lambda family, figures: family.add(find(figures) or 0)


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _label(text: str) -> str:
    text = hide_logins(text)
    return text if len(text) <= MAX_LABEL else f"{text[:MAX_LABEL]}..."


METRICS = (
    Metric(
        "kubesolo_os_info", GAUGE, ("version", "architecture", "slot"),
        "The release that runs, and the slot that it runs from; always 1.", _os_info,
    ),
    Metric(
        "kubesolo_boot_success", GAUGE, (),
        "1 where the boot environment says that the active slot is confirmed, 0 on trial.",
        _value(lambda f: _flag(f.environment.boot_success)),
    ),
    Metric(
        "kubesolo_boot_counter", GAUGE, (),
        "Tries that a slot on trial has left.", _value(lambda f: f.environment.boot_counter),
    ),
    Metric(
        "kubesolo_boot_environment_readable", GAUGE, (),
        "1 where the boot environment can be relied on.",
        _value(lambda f: int(f.environment.valid)),
    ),
    Metric(
        "kubesolo_boot_confirmed", GAUGE, (),
        "1 where the slot that runs is the active one and confirmed.",
        _value(lambda f: int(f.confirmed)),
    ),
    Metric(
        "kubesolo_boots_total", COUNTER, (),
        "Boots of this node that have logs; begins anew with a new data partition.",
        _value(lambda f: f.boot),
    ),
    Metric(
        "kubesolo_health_check_passed", GAUGE, ("check",),
        "1 where the check passed when this boot was judged.", _checks,
    ),
    Metric(
        "kubesolo_health_check_known", GAUGE, ("check",),
        "1 where the check failed as it did before the update, which is excused.", _checks_known,
    ),
    Metric(
        "kubesolo_health_check_timestamp_seconds", GAUGE, ("check",),
        "When the check was asked, in seconds since 1970.", _checked_at,
    ),
    Metric(
        "kubesolo_update_available", GAUGE, (),
        "1 where the last look was offered a release that does not run, refused or not.",
        _value(lambda f: int(f.available)),
    ),
    Metric(
        "kubesolo_update_offered_info", GAUGE, ("version", "digest"),
        "The release that the last look was offered; always 1.", _offered,
    ),
    Metric(
        "kubesolo_update_last_check_outcome", GAUGE, ("outcome",),
        "1 for what the last look for a release came to.", _check_outcome,
    ),
    Metric(
        "kubesolo_update_last_check_timestamp_seconds", GAUGE, (),
        "When a release was looked for last, in seconds since 1970; 0 is never.",
        _time(lambda f: seconds_of(f.last_check.time) if f.last_check else None),
    ),
    Metric(
        "kubesolo_update_phase", GAUGE, ("phase",),
        "1 for the step at which the update stands.", _phase,
    ),
    Metric(
        "kubesolo_update_health_check_failures", GAUGE, (),
        "Failed health checks of the slot on trial.",
        _value(lambda f: f.state.health_check_failures),
    ),
    Metric(
        "kubesolo_update_attempts_total", COUNTER, (),
        "Attempts to update that were begun.", _value(lambda f: f.counters.attempts),
    ),
    Metric(
        "kubesolo_update_failures_total", COUNTER, (),
        "Attempts that ended by an error, refusals not among them.",
        _value(lambda f: f.counters.failures),
    ),
    Metric(
        "kubesolo_update_refusals_total", COUNTER, ("gate",),
        "Attempts and planned reboots that a gate refused.", _refusals,
    ),
    Metric(
        "kubesolo_update_installs_total", COUNTER, (),
        "Releases that were confirmed.", _value(lambda f: f.counters.installs),
    ),
    Metric(
        "kubesolo_update_rollbacks_total", COUNTER, (),
        "Returns to the other slot.", _value(lambda f: f.counters.rollbacks),
    ),
    Metric(
        "kubesolo_update_bytes_total", COUNTER, ("kind",),
        "Bytes that came into a slot: fetched in full, fetched as a delta, or copied from the "
        "running slot.", _bytes,
    ),
    Metric(
        "kubesolo_update_last_attempt_timestamp_seconds", GAUGE, (),
        "When the latest attempt began, in seconds since 1970; 0 is never.",
        _time(lambda f: f.last_attempt),
    ),
    Metric(
        "kubesolo_update_last_rollback_info", GAUGE, ("version", "reason"),
        "The release that the latest rollback left, and why; always 1.", _last_rollback,
    ),
    Metric(
        "kubesolo_update_last_rollback_timestamp_seconds", GAUGE, (),
        "When the latest rollback was recorded, in seconds since 1970; 0 is never.",
        _time(lambda f: seconds_of(r.time) if (r := f.counters.last_rollback) else None),
    ),
    Metric(
        "kubesolo_update_metadata_expiry_timestamp_seconds", GAUGE, ("role",),
        "When the server's metadata end, as last fetched, in seconds since 1970.", _ends,
    ),
    Metric(
        "kubesolo_metrics_collected_timestamp_seconds", GAUGE, (),
        "When these figures were collected, in seconds since 1970.", _value(lambda f: f.now),
    ),
)  # fmt: skip


def collected_families(figures: Figures) -> list[Family]:
    """What root collects, in the order of ``METRICS``."""
    found = []
    for metric in METRICS:
        family = Family(metric.name, metric.kind, metric.help)
        metric.fill(family, figures)
        found.append(family)
    return found
