"""What status and history print is what their published schemas say, and says what they promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from product.agent.errors import AgentError
from product.agent.services.timer import main as timer
from product.agent.tests.support_cluster import Cluster
from product.agent.tests.support_datastore import Store
from product.agent.tests.support_schema import faults
from product.agent.tests.world import FakeRelease, World

GOOD = FakeRelease("0.2.0")
BAD = FakeRelease("0.2.1")


class Printed:
    """The commands' JSON, held against the schemas at each look."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.capsys = capsys

    def status(self, *flags: str) -> dict[str, Any]:
        found = self._run("status", *flags)
        assert isinstance(found, dict)
        assert faults("status-1.json", found) == []
        return found

    def history(self) -> list[dict[str, Any]]:
        found = self._run("history")
        assert isinstance(found, list)
        assert faults("history-1.json", found) == []
        return found

    def text(self) -> str:
        self.capsys.readouterr()
        assert self.world.run("status") == 0
        return self.capsys.readouterr().out

    def _run(self, *argv: str) -> object:
        self.capsys.readouterr()
        assert self.world.run(*argv, "--json") == 0
        found: object = json.loads(self.capsys.readouterr().out)
        return found


@pytest.fixture
def printed(world: World, capsys: pytest.CaptureFixture[str]) -> Printed:
    return Printed(world, capsys)


def test_through_an_update_and_back(world: World, printed: Printed) -> None:
    assert printed.status()["next_boot"] == {"slot": "A", "version": "0.1.0", "why": "confirmed"}
    assert printed.history() == []
    world.update(GOOD)
    armed = printed.status()
    assert armed["next_boot"] == {"slot": "B", "version": "0.2.0", "why": "trial"}
    world.power_on()
    printed.status()
    world.boot_service()
    printed.status()
    world.run("rollback")
    assert printed.status()["next_boot"] == {"slot": "A", "version": "0.1.0", "why": "confirmed"}
    assert [entry["event"] for entry in printed.history()] == [
        "apply",
        "activate",
        "trial",
        "rollback",
    ]


def test_through_failed_boots(world: World, printed: Printed) -> None:
    world.update(BAD)
    for _ in range(3):
        world.power_on()
        printed.status()
    status = printed.status()
    assert status["next_boot"] == {"slot": "A", "version": "0.1.0", "why": "rollback"}
    assert "next boot: slot A, 0.1.0 (rollback)" in printed.text()
    world.power_on()
    world.boot_service()
    printed.status()
    world.env_path.write_bytes(b"")
    assert printed.status()["next_boot"] == {"slot": None, "version": None, "why": "unknown"}
    printed.history()


def test_a_rollback_that_was_cut_off(world: World, printed: Printed) -> None:
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    state = world.state()
    left = {"leave": "B", "reason": "manual rollback", "version": "0.2.0"}
    state["rollback"] = {**left, "digest": GOOD.digest, "returns_to": "0.1.0"}
    world.write_file(world.paths.state, json.dumps(state))
    assert printed.status()["update"]["rollback"]["leave"] == "B"


def test_with_kubernetes(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    world = cluster.world
    printed = Printed(world, capsys)
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    assert printed.status()["datastore"] is not None


def test_with_a_datastore(world: World, printed: Printed) -> None:
    Store(world).write("one")
    world.offered = GOOD
    assert world.run("apply") == 0
    assert world.run("activate") == 0
    assert printed.status()["datastore"]["copies"]


def test_the_last_check(world: World, printed: Printed) -> None:
    assert printed.status()["last_check"] is None
    assert "last check: never; there is no schedule" in printed.text()
    assert world.run("check") == 0
    assert printed.status()["last_check"]["outcome"] == "up-to-date"
    world.offered = GOOD
    assert world.run("check") == 10
    assert printed.status()["last_check"] == {
        "time": "2027-01-15T08:00:00Z",
        "outcome": "available",
        "version": "0.2.0",
        "digest": GOOD.digest,
        "code": None,
        "reason": None,
    }
    assert "last check: 2027-01-15T08:00:00Z: available 0.2.0; there is no sched" in printed.text()
    world.offered = FakeRelease("0.0.9")
    assert world.run("check") == 11
    assert printed.status()["last_check"]["code"] == "downgrade"
    world.server_error = AgentError("no answer", code="server-unreachable")
    assert world.run("apply") == 1
    assert printed.status()["last_check"]["code"] == "server-unreachable"
    assert world.run("apply", "--maintenance-window", "1:00-1:00") == 11
    assert printed.status()["last_check"]["code"] == "server-unreachable", "nobody was asked"
    world.server_error, world.offered = None, BAD
    assert world.run("apply") == 0
    assert printed.status()["last_check"]["version"] == "0.2.1"
    world.write_file(world.paths.last_check, '["garbage"]')
    assert printed.status()["last_check"] is None


def test_the_schedule(world: World, printed: Printed, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(world.paths.config).open("a") as config:
        config.write("check_interval=60\n")
    assert printed.status()["schedule"] == {"interval": 60, "next_check": None}
    assert timer(["next"], world.node()) == 0
    assert printed.status()["schedule"]["next_check"] == 1_800_000_000 + 3600
    assert "the next one 2027-01-15T09:00:00Z" in printed.text()
    world.write_file(world.paths.config, "check_interval=0\nserver=http://x/\n")
    assert printed.status()["schedule"] == {"interval": 0, "next_check": None}
    assert timer(["next"], world.node()) == 0
    assert not Path(world.paths.next_check).exists()


def test_each_setting_says_where_it_comes_from(world: World, printed: Printed) -> None:
    text = "server=https://edge:secret@updates.example/\nchannel=beta\n"
    text += "webhook_url=https://hooks.example/T1/secret?x=secret\n"
    world.write_file(world.paths.config, text)
    settings = printed.status("--channel", "edge")["settings"]
    assert settings["server"] == {"value": "https://***@updates.example/", "source": "file"}
    assert settings["channel"] == {"value": "edge", "source": "flag"}
    assert settings["auto_rollback_after"] == {"value": 3, "source": "default"}
    assert settings["webhook_url"]["value"] == "https://hooks.example/***"
    assert "secret" not in json.dumps(settings)
    assert settings["pubkey"] == {"value": None, "source": "default"}


def test_the_schema_notices_what_is_not_in_it(world: World, printed: Printed) -> None:
    status = printed.status()
    assert faults("status-1.json", {**status, "new": 1}) == ["$.new is not in the schema"]
    status["boot"]["slot"] = "C"
    del status["network"]["search"]
    assert len(faults("status-1.json", status)) == 2
