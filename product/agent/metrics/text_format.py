"""Prometheus' text exposition format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTER, GAUGE = "counter", "gauge"


class Family:
    """One metric with its samples: pairs of labels and value."""

    __slots__ = ("help", "kind", "name", "samples")

    def __init__(self, name: str, kind: str, help: str) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.samples: list[tuple[dict[str, str], float | int]] = []

    def add(self, value: float | int | None, **labels: str) -> None:
        """A sample, unless the value is not known."""
        if value is not None:
            self.samples.append((labels, value))

    def as_json(self) -> dict[str, object]:
        """For ``metrics --json``."""
        samples = [{"labels": labels, "value": value} for labels, value in self.samples]
        return {"type": self.kind, "help": self.help, "samples": samples}


def encode(families: list[Family]) -> str:
    """The text of those that have samples; each line ends, the last one, too."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"# HELP {family.name} {text}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            lines.append(
                f"{family.name}{{{inside}}} {_number(value)}"
                if labels
                else f"{family.name} {_number(value)}"
            )
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    # Half a surrogate pair is in no UTF-8 text, and one bad label would cost the whole scrape.
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float | int) -> str:
    """Whole numbers without an exponent or a point, so that bytes and times can be read."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return repr(value) if isinstance(value, int) else _float(value)


def _float(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
