"""The figures that anybody may ask the kernel for, which the server does at each scrape."""

from __future__ import annotations

from product.agent.metrics.text_format import GAUGE, Family

NAMES = {
    "kubesolo_uptime_seconds": ("uptime", "Seconds since the node booted."),
    "kubesolo_memory_total_bytes": ("memory_total", "Memory that the kernel manages."),
    "kubesolo_memory_available_bytes": (
        "memory_available",
        "Memory that programs could still get without swapping.",
    ),
}
AGE = "kubesolo_metrics_age_seconds"
AGE_HELP = "Seconds since the figures that root collects were collected; the others are of now."


def vital_families(vitals: dict[str, float | int], age: float | None) -> list[Family]:
    """Those of ``vitals`` that are known; ``age`` of what was collected."""
    found = []
    for name, (key, text) in NAMES.items():
        family = Family(name, GAUGE, text)
        family.add(vitals.get(key))
        found.append(family)
    family = Family(AGE, GAUGE, AGE_HELP)
    family.add(age)
    return [*found, family]
