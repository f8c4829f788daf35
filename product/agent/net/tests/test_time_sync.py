"""What the status says of the clock."""

from __future__ import annotations

import pytest

from product.agent.net.time_sync import TimeSync, read_time_sync
from product.agent.system import program
from product.agent.tests.world import World

# As chronyc 4.6 prints it.
RIGHT = (
    "0A000202,10.0.2.2,3,1796121286.776351658,-0.000343373,0.000352083,0.000352083,0.000,180.981,"
    "1000000.000,0.009959486,0.564397454,2.1,Normal"
)
WRONG = (
    "00000000,,0,0.000000000,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,1.000000000,"
    "1.000000000,0.0,Not synchronised"
)


def ask(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str, status: int = 0, from_: str = "DHCP"
) -> TimeSync:
    world.write_file(world.paths.chrony, "")
    world.write_file(f"{world.paths.time}/from", f"{from_}\n")
    sources = "server 10.0.2.2 port 1123 iburst\npool pool.example iburst\n\n# x\n"
    world.write_file(f"{world.paths.time}/sources/kubesolo.sources", sources)
    monkeypatch.setattr(program, "run", lambda argv: (status, answer))
    return read_time_sync(world.paths)


def test_a_clock_that_is_right(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write_file(f"{world.paths.time}/since", "1796121280\n")
    found = ask(world, monkeypatch, RIGHT)
    assert (found.synchronised, found.source, found.offset) == (True, "10.0.2.2", -0.000343373)
    assert (found.updated, found.since) == ("2026-12-01T10:34:46Z", "2026-12-01T10:34:40Z")
    assert found.describe() == (
        "synchronised with 10.0.2.2, 0.3 ms off, since 2026-12-01T10:34:40Z"
    )
    assert found.as_json()["from"] == "DHCP"
    assert found.problem(10**6) is None


def test_a_clock_that_may_still_become_right_is_no_problem_for_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ask(world, monkeypatch, WRONG)
    assert found.describe() == "not synchronised (DHCP: 10.0.2.2:1123, pool.example)"
    assert found.problem(3599) is None
    assert found.problem(3600) == (
        "time: 10.0.2.2:1123, pool.example (by DHCP) cannot be asked for the time"
    )


def test_servers_that_nobody_named_are_no_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(world, monkeypatch, WRONG, from_="image").problem(10**6) is None


@pytest.mark.parametrize(
    ("status", "answer"), [(1, "506 Cannot talk to daemon"), (0, ""), (0, "a,b"), (0, "x," * 14)]
)
def test_an_answer_that_is_none(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int, answer: str
) -> None:
    found = ask(world, monkeypatch, answer, status)
    assert (found.synchronised, found.describe()) == (None, "unknown")


def test_nobody_is_asked_where_nobody_answers(world: World) -> None:
    assert read_time_sync(world.paths) == TimeSync()
    assert TimeSync(synchronised=False).describe() == "not synchronised: no server is named"


def test_what_time_servers_found_wrong_is_a_problem_at_once(world: World) -> None:
    world.write_file(f"{world.paths.time}/from", "configuration\n")
    world.write_file(f"{world.paths.time}/sources/kubesolo.sources", "")
    found = read_time_sync(world.paths)
    assert found.problem(1) is None
    said = "time: /etc/kubesolo/ntp names no server that can be asked"
    world.write_file(f"{world.paths.time}/problem", f"{said}\n")
    assert read_time_sync(world.paths).problem(1) == said
    assert read_time_sync(world.paths).as_json().keys() == found.as_json().keys()
