"""The grammar and the order of versions."""

from __future__ import annotations

import itertools

import pytest

from product.version import VersionError, is_version, parse_version

# Semantic Versioning 2.0.0, section 11, with its neighbours.
ORDERED = [
    "0.0.9",
    "0.10.0",
    "1.0.0-1",
    "1.0.0-9",
    "1.0.0-10",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1-0",
    "1.2.3-rc.1",
    "v1.2.3",
    "2.0.0",
    "999999999.0.0",
]


@pytest.mark.parametrize(("older", "newer"), list(itertools.pairwise(ORDERED)))
def test_precedence(older: str, newer: str) -> None:
    assert parse_version(older) < parse_version(newer)
    assert not parse_version(newer) < parse_version(older)
    assert parse_version(older) != parse_version(newer)


@pytest.mark.parametrize(
    ("one", "other"),
    [("v1.2.3", "1.2.3"), ("1.2.3+a", "1.2.3+b.1"), ("1.2.3-rc.1+x", "1.2.3-rc.1")],
)
def test_what_orders_nothing(one: str, other: str) -> None:
    assert parse_version(one) == parse_version(other)


def test_three_numbers() -> None:
    assert parse_version("v0.10.2-rc.1").core == (0, 10, 2)


@pytest.mark.parametrize(
    "text",
    [
        "", "dev", "latest", "1", "1.2", "1.2.3.4", "1.2.x", "vv1.2.3", "V1.2.3", "1.-2.3", "1..3",
        "01.2.3", "1.02.3", "1.2.03", "1.2.202611301230", "1.2.1000000000", "1.2.3-", "1.2.3-a..b",
        "1.2.3-01", "1.2.3+", "1.2.3-rc_1", "1.2.3 ", " 1.2.3", "1.2.3\n", "-1.2.3", "1.2.3-\u0661",
        "\u0661.2.3", "1.2.3-" + "a" * 60, "1.2.3-" + "9" * 5000, "1." * 100_000,
    ],
)  # fmt: skip
def test_not_versions(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(VersionError) as caught:
        parse_version(text)
    assert "is not a version" in caught.value.message
    assert len(caught.value.message) < 600
    assert "1.2.3-rc.1" in (caught.value.hint or "")
