"""The health checks and their deadline."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.health.checks import CHECKS, LONGEST_DEADLINE, Check, HealthContext
from product.agent.health.runner import HUNG_SECONDS, run_once, run_until
from product.agent.tests.world import World

OVERLAY = Path(__file__).resolve().parents[4] / "images/overlay/usr/lib/kubesolo"


class Handler(BaseHTTPRequestHandler):
    """/200 answers 200, /302 redirects to it, and so on."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:4]))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The tests' output is no place for it."""


@pytest.fixture
def server() -> Iterator[str]:
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def results(world: World, *, unconfirmed: bool = True, **config: str) -> dict[str, str]:
    context = HealthContext(world.node(), Config(**config), unconfirmed)  # type: ignore[arg-type]
    return {result.name: result.result for result in run_once(context)}


def test_a_healthy_node_without_kubernetes(world: World) -> None:
    assert results(world) == {
        "data_partition": "pass",
        "disk_writable": "pass",
        "slot_integrity": "pass",
        "network": "not_applicable",
        "containerd": "not_applicable",
        "api_server": "not_applicable",
        "node_ready": "not_applicable",
        "kube_system": "not_applicable",
        "probe_url": "not_applicable",
    }
    assert not Path(world.paths.data, "health-probe").exists()


@pytest.mark.parametrize(
    ("data", "result"),
    [("persistent", "pass"), ("volatile", "fail"), ("nopersist", "not_applicable"), ("", "fail")],
)
def test_a_data_partition_in_memory_fails(world: World, data: str, result: str) -> None:
    boot = json.loads(Path(world.paths.boot).read_text())
    world.write_file(world.paths.boot, json.dumps({**boot, "data": data}))
    assert results(world)["data_partition"] == result


def test_a_confirmed_slot_is_not_hashed(world: World) -> None:
    (world.directory("A") / "vmlinuz").write_bytes(b"x")
    assert results(world, unconfirmed=False)["slot_integrity"] == "not_applicable"
    assert results(world)["slot_integrity"] == "fail"


def test_kubernetes_in_the_image_is_never_passed_unchecked(world: World) -> None:
    world.write_file(world.paths.payload, "{}")
    found = results(world)
    assert {found[name] for name in ("containerd", "api_server", "node_ready", "kube_system")} == {
        "fail"
    }


def test_the_disk_must_give_back_what_was_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *a: real(*a)[:-1] + b"\0\0")
    assert results(world)["disk_writable"] == "fail"


def test_a_full_disk_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert results(world)["disk_writable"] == "fail"


@pytest.mark.parametrize(
    ("path", "result"),
    [("/200", "pass"), ("/204", "fail"), ("/302", "fail"), ("/404", "fail"), ("/503", "fail")],
)
def test_probe_url(world: World, server: str, path: str, result: str) -> None:
    assert results(world, healthcheck_url=server + path)["probe_url"] == result


@pytest.mark.parametrize(
    "url", ["ftp://x/", "nonsense", "http://127.0.0.1:1/", "http://x:y/", "http://a b/"]
)
def test_probe_url_without_an_answer_fails(world: World, url: str) -> None:
    assert results(world, healthcheck_url=url)["probe_url"] == "fail"


def checks(world: World, answers: list[str], *, lasting: bool = False) -> list[str]:
    taken: list[str] = []

    def probe(context: HealthContext, limit: float) -> tuple[str, str]:
        taken.append(answers[min(len(taken), len(answers) - 1)])
        return taken[-1], ""

    context = HealthContext(world.node(), Config(), True)
    found = run_until(context, 10, (Check("late", 5, probe, lasting=lasting),))
    return [*taken, found[0].result]


def test_a_slow_start_is_waited_for(world: World) -> None:
    assert checks(world, ["fail", "fail", "pass"]) == ["fail", "fail", "pass", "pass"]


def test_the_wait_ends_at_the_deadline(world: World) -> None:
    start = world.clock.seconds
    assert checks(world, ["fail"])[-1] == "fail"
    assert 10 <= world.clock.seconds - start < 11


def test_a_lasting_failure_is_not_repeated(world: World) -> None:
    assert checks(world, ["fail", "pass"], lasting=True) == ["fail", "fail"]


@pytest.mark.parametrize(
    ("name", "outcome", "calls"),
    [
        ("node_ready", "pass", 1),
        ("node_ready", "fail", 0),
        ("api_server", "pass", 0),
    ],
)
def test_it_gives_way_until_the_node_is_ready(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, outcome: str, calls: int
) -> None:
    made: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "setpriority", lambda *arguments: made.append(arguments))
    context = HealthContext(world.node(), Config(), unconfirmed=True)
    run_until(context, 0, (Check(name, 10, lambda context, limit: (outcome, "why")),))
    assert made == [(os.PRIO_PROCESS, 0, 0)] * calls


def test_names_and_limits() -> None:
    assert [check.name for check in CHECKS] == [
        "data_partition",
        "disk_writable",
        "slot_integrity",
        "network",
        "containerd",
        "api_server",
        "node_ready",
        "kube_system",
        "probe_url",
    ]
    assert all(0 < check.limit <= 120 for check in CHECKS if check.name != "slot_integrity")
    assert [check.limit for check in CHECKS if check.name == "slot_integrity"] == [600]


def test_each_result_names_its_limit(world: World) -> None:
    context = HealthContext(world.node(), Config(), unconfirmed=True)
    found = {result.name: result.limit for result in run_once(context)}
    assert found == {check.name: check.limit for check in CHECKS}
    assert found == {
        "data_partition": 1,
        "disk_writable": 10,
        "slot_integrity": 600,
        "network": 60,
        "containerd": 5,
        "api_server": 5,
        "node_ready": 5,
        "kube_system": 10,
        "probe_url": 10,
    }


def test_the_limits_are_those_of_the_documents() -> None:
    text = (Path(__file__).parents[4] / "docs/health.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([0-9]+) s \|$", text, re.MULTILINE)
    assert rows == [(check.name, str(check.limit)) for check in CHECKS]


def test_a_plain_healthcheck_changes_nothing(world: World) -> None:
    world.set_env(active_slot="A", boot_counter="2", boot_success="0")
    before = world.env_path.read_bytes()
    assert world.run("healthcheck") == 0
    assert world.env_path.read_bytes() == before
    assert world.state_or_none() is None


def test_no_verdict_takes_as_long_as_the_limit_of_a_trial() -> None:
    limit = int((OVERLAY / "trial-limit").read_text())
    longest = LONGEST_DEADLINE + sum(check.limit for check in CHECKS) + HUNG_SECONDS
    # What a start of Kubernetes, a commit and a slow disk take besides.
    assert limit > longest + 1200
