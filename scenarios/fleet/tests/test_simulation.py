"""The fleet's release arrives as the schedule, the window and the rollout say."""

from __future__ import annotations

import pytest

from scenarios.fleet.simulation import DAY, Step, simulate

HOURLY = "server=http://updates.example/\ncheck_interval=60\n"
AT_ONCE = (Step(0, 100),)


def test_every_node_begins_within_an_interval() -> None:
    found = simulate(60, HOURLY, AT_ONCE)
    assert len(found.seconds) == 60
    assert 0 <= found.seconds[0] < 600
    assert 3000 < found.last <= 3600
    assert found.busiest_minute < 8


def test_the_share_of_a_rollout_begins_first() -> None:
    found = simulate(60, HOURLY, (Step(0, 10), Step(24, 100)))
    early = [seconds for seconds in found.seconds if seconds < DAY]
    # The share of sixty nodes by their digests, not exactly a tenth.
    assert 1 <= len(early) <= 14
    assert DAY < found.last <= DAY + 3600


def test_a_paused_rollout_reaches_nobody_else() -> None:
    with pytest.raises(RuntimeError, match=r"did not begin within 30 days"):
        simulate(20, HOURLY, (Step(0, 5),))


def test_a_window_is_waited_for_and_entered_one_by_one() -> None:
    found = simulate(60, f"{HOURLY}maintenance_window=02:00-04:00\n", AT_ONCE)
    opening = 18 * 3600
    assert opening <= found.seconds[0]
    assert found.last <= opening + 3600
    assert found.busiest_minute < 30
