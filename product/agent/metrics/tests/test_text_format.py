"""The text format, by its own rules and by promtool."""

from __future__ import annotations

import pytest

from product.agent.metrics.text_format import COUNTER, GAUGE, Family, encode
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools


@pytest.fixture(scope="session")
def metrics_tools(cache: Cache) -> HostTools:
    return HostTools.prepare(cache, IMAGES / "metrics-tools.toml")


def family(value: float | int, **labels: str) -> Family:
    made = Family("x_seconds", GAUGE, "Some \\ time\nin two lines.")
    made.add(value, **labels)
    return made


def test_help_type_and_final_newline() -> None:
    assert encode([family(3)]) == (
        "# HELP x_seconds Some \\\\ time\\nin two lines.\n# TYPE x_seconds gauge\nx_seconds 3\n"
    )
    assert encode([Family("none", COUNTER, "Nothing.")]) == ""


def test_labels_are_escaped() -> None:
    text = encode([family(1, reason='a "b"\\c\nd', other="é\ud800")])
    assert 'x_seconds{reason="a \\"b\\"\\\\c\\nd",other="é?"} 1\n' in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1.0, "1"), (0.25, "0.25"), (1796169600.0, "1796169600"), (2**62, str(2**62)),
        (float("nan"), "NaN"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (1e300, "1e+300"),
    ],
)  # fmt: skip
def test_numbers(value: float | int, text: str) -> None:
    assert encode([family(value)]).splitlines()[-1] == f"x_seconds {text}"


def test_promtool_takes_every_label(metrics_tools: HostTools) -> None:
    odd = "".join(chr(code) for code in [*range(0x20), 0x7F, 0xD800, 0x2028, 0x1F600])
    text = encode([family(1, reason=odd, quote='"\\"\n')])
    assert metrics_tools.run("promtool", "check", "metrics", stdin=text.encode()) == b""
