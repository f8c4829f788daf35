"""The signed terms of a release."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from product.terms import Terms, TermsError, cohort

START = datetime(2026, 12, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("terms", "custom"),
    [
        (Terms(), {}),
        (Terms(allow_downgrade=True), {"allow_downgrade": True}),
        (Terms(allow_respin=True), {"allow_respin": True}),
        (Terms(percent=0), {"rollout": {"percent": 0}}),
        (Terms(start=START), {"rollout": {"start": "2026-12-01T08:00:00Z"}}),
        (
            Terms(percent=25, start=START, paused=""),
            {"rollout": {"percent": 25, "start": "2026-12-01T08:00:00Z"}, "paused": ""},
        ),
    ],
)
def test_what_is_written_is_read(terms: Terms, custom: dict[str, object]) -> None:
    assert terms.to_custom() == custom
    assert Terms.parse({"version": "1.2.3", "colour": "blue", **custom}) == terms


def test_keys_of_a_later_publisher_are_passed_over() -> None:
    assert Terms.parse({"rollout": {"percent": 5, "sites": ["a"]}}) == Terms(percent=5)


@pytest.mark.parametrize(
    "custom",
    [
        {"allow_downgrade": 1},
        {"allow_respin": "yes"},
        {"paused": True},
        {"rollout": 25},
        {"rollout": {"percent": 101}},
        {"rollout": {"percent": -1}},
        {"rollout": {"percent": 2.5}},
        {"rollout": {"percent": True}},
        {"rollout": {"percent": None}},
        {"rollout": {"start": 7}},
        {"rollout": {"start": "soon"}},
        {"rollout": {"start": "2026-12-01"}},
    ],
)
def test_what_cannot_be_meant_is_refused(custom: dict[str, object]) -> None:
    with pytest.raises(TermsError, match="the signed"):
        Terms.parse(custom)


def test_nodes_spread_evenly_and_anew_for_each_release() -> None:
    nodes = [f"node-{number}" for number in range(5000)]
    first = [cohort(node, "a" * 64) for node in nodes]
    second = [cohort(node, "b" * 64) for node in nodes]
    assert set(first) == set(range(100))
    for percent in (1, 10, 50):
        share = sum(place < percent for place in first) / len(nodes)
        assert abs(share - percent / 100) < 0.02
    early = {node for node, place in zip(nodes, first, strict=True) if place < 10}
    again = {node for node, place in zip(nodes, second, strict=True) if place < 10}
    assert len(early & again) < len(early) / 3
    # Fixed: a node must not change its place with its agent's version.
    assert cohort("node-1", "a" * 64) == first[1]
