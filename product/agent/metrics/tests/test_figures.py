"""Status, metrics and history say the same, whoever began the update."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from product.agent.metrics.families import METRICS
from product.agent.metrics.vitals import AGE, NAMES
from product.agent.records.history import KEPT, SLACK
from product.agent.services import requests, timer
from product.agent.system.clock import seconds_of
from product.agent.tests.world import FakeRelease, World
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools

GOOD = FakeRelease("0.2.0")
BAD = FakeRelease("0.2.1")
FIXED = {
    "kubesolo_os_info", "kubesolo_boot_success", "kubesolo_boot_counter",
    "kubesolo_uptime_seconds", "kubesolo_memory_total_bytes", "kubesolo_memory_available_bytes",
    "kubesolo_update_available", "kubesolo_update_phase", "kubesolo_update_attempts_total",
    "kubesolo_update_last_attempt_timestamp_seconds",
}  # fmt: skip
PHASES = {
    "idle", "checking", "downloading", "staged", "activated", "verifying", "success", "rolled_back",
    "failed",
}  # fmt: skip
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Scrape(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Samples of the text format by name and labels, read with code of its own."""

    @classmethod
    def of(cls, text: str) -> Scrape:
        found = cls()
        for line in text.splitlines():
            if not line.startswith("#"):
                match = SAMPLE.fullmatch(line)
                assert match is not None, line
                key = (match[1], frozenset(LABEL.findall(match[2] or "")))
                assert key not in found, f"twice: {line}"
                found[key] = float(match[3])
        return found

    def value(self, name: str, **labels: str) -> float:
        return self[name, frozenset(labels.items())]

    def all(self, name: str, label: str) -> dict[str, float]:
        return {dict(labels)[label]: value for (n, labels), value in self.items() if n == name}

    def info(self, name: str) -> dict[str, str] | None:
        found = [dict(labels) for (n, labels), value in self.items() if n == name and value == 1]
        return found[0] if found else None


class Machine:
    """A node whose /proc says something."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.capsys = capsys
        world.write_file(f"{world.paths.proc}/uptime", "12.5 3.0\n")
        memory = "MemTotal:        2048 kB\nMemFree: 1 kB\nMemAvailable:    512 kB\n"
        world.write_file(f"{world.paths.proc}/meminfo", memory)

    def printed(self, *argv: str) -> str:
        self.capsys.readouterr()
        assert self.world.run(*argv) == 0
        return self.capsys.readouterr().out

    def scrape(self) -> Scrape:
        return Scrape.of(self.printed("metrics"))

    def compare(self) -> Scrape:
        """Every field of ``status --json`` that the metrics show, against them."""
        status = json.loads(self.printed("status", "--json"))
        scrape = self.scrape()
        for name, expected in expectations(status):
            found = dict(sorted(self._found(scrape, name).items()))
            assert found == dict(sorted(expected.items())), name
        compared = {name for name, _ in expectations(status)}
        known = {metric.name for metric in METRICS} | set(NAMES)
        assert known - compared == {"kubesolo_metrics_collected_timestamp_seconds"}
        return scrape

    @staticmethod
    def _found(scrape: Scrape, name: str) -> dict[str, float]:
        return {
            ",".join(f"{k}={v}" for k, v in sorted(labels)): value
            for (n, labels), value in scrape.items()
            if n == name
        }


@pytest.fixture
def machine(world: World, capsys: pytest.CaptureFixture[str]) -> Machine:
    return Machine(world, capsys)


@pytest.fixture(scope="session")
def metrics_tools(cache: Cache) -> HostTools:
    return HostTools.prepare(cache, IMAGES / "metrics-tools.toml")


def _plain(value: Any) -> dict[str, float]:
    return {} if value is None else {"": float(value)}


def _time(text: str | None) -> dict[str, float]:
    return {"": seconds_of(text) or 0}


def expectations(status: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """Metric to its samples, worked out of ``status --json`` alone."""
    environment, counters, update = status["environment"], status["counters"], status["update"]
    check, report = status["last_check"], status["last_boot_check"] or {}
    version, slot = status["version"], status["boot"]["slot"]
    own = f"architecture={status['architecture']},slot={slot},version={version}"
    yield "kubesolo_os_info", {own: 1}
    yield "kubesolo_boot_success", _plain(environment["boot_success"])
    yield "kubesolo_boot_counter", _plain(environment["boot_counter"])
    yield "kubesolo_boot_environment_readable", _plain(environment["readable"])
    yield "kubesolo_boot_confirmed", _plain(status["confirmed"])
    yield "kubesolo_boots_total", _plain(status["logs"]["boot"])
    checks = [c for c in report.get("health", []) if c["result"] != "not_applicable"]
    for name, result in (("passed", "pass"), ("known", "known")):
        found = {f"check={c['name']}": float(c["result"] == result) for c in checks}
        yield f"kubesolo_health_check_{name}", found
    asked = seconds_of(report.get("time"))
    times = {f"check={c['name']}": asked for c in checks if asked is not None}
    yield "kubesolo_health_check_timestamp_seconds", times
    yield "kubesolo_update_available", _plain(status["available"])
    offered = {}
    if check and check["version"]:
        offered = {f"digest={check['digest']},version={check['version']}": 1.0}
    yield "kubesolo_update_offered_info", offered
    outcomes = ("up-to-date", "available", "refused", "failed")
    said = check["outcome"] if check else None
    yield "kubesolo_update_last_check_outcome", {f"outcome={o}": float(o == said) for o in outcomes}
    yield "kubesolo_update_last_check_timestamp_seconds", _time(check and check["time"])
    phases = {f"phase={phase}": float(phase == update["phase"]) for phase in PHASES}
    yield "kubesolo_update_phase", phases
    yield "kubesolo_update_health_check_failures", _plain(update["health_check_failures"])
    for name in ("attempts", "failures", "installs", "rollbacks"):
        yield f"kubesolo_update_{name}_total", _plain(counters[name])
    from product.agent.update.gates import GATES

    refusals = {gate.name: 0 for gate in GATES} | counters["refusals"]
    yield "kubesolo_update_refusals_total", {f"gate={g}": float(n) for g, n in refusals.items()}
    amounts = {f"kind={kind}": float(n) for kind, n in counters["bytes"].items()}
    yield "kubesolo_update_bytes_total", amounts
    yield "kubesolo_update_last_attempt_timestamp_seconds", _time(update["started_at"])
    last = counters["last_rollback"]
    found = {}
    if last:
        found = {f"reason={last['reason'] or ''},version={last['version'] or ''}": 1.0}
    yield "kubesolo_update_last_rollback_info", found
    yield "kubesolo_update_last_rollback_timestamp_seconds", _time(last and last["time"])
    ends = {f"role={role}": end for role, end in status["metadata_ends"].items()}
    yield "kubesolo_update_metadata_expiry_timestamp_seconds", ends
    yield "kubesolo_uptime_seconds", _plain(status["vitals"].get("uptime"))
    yield "kubesolo_memory_total_bytes", _plain(status["vitals"].get("memory_total"))
    yield "kubesolo_memory_available_bytes", _plain(status["vitals"].get("memory_available"))


def test_the_promised_names_are_there_from_the_first_boot_on(machine: Machine) -> None:
    scrape = machine.compare()
    assert {name for name, _ in scrape} >= FIXED
    assert scrape.all("kubesolo_update_phase", "phase").keys() == PHASES
    assert scrape.value("kubesolo_memory_available_bytes") == 512 * 1024
    assert scrape.value("kubesolo_uptime_seconds") == 12.5
    assert scrape.value("kubesolo_update_last_attempt_timestamp_seconds") == 0


def test_through_an_update_and_a_rollback(machine: Machine, metrics_tools: HostTools) -> None:
    world = machine.world
    roles = {"root": "2027-01-02T03:04:05Z", "timestamp": "2027-02-02T00:00:00Z"}
    for role, end in roles.items():
        text = json.dumps({"signed": {"expires": end}})
        world.write_file(f"{world.paths.metadata}/{role}.json", text)
    world.update(GOOD)
    scrape = machine.compare()
    assert scrape.value("kubesolo_update_phase", phase="activated") == 1
    assert scrape.value("kubesolo_update_available") == 1
    world.power_on()
    scrape = machine.compare()
    assert scrape.value("kubesolo_boot_success") == 0
    assert scrape.value("kubesolo_boot_counter") == 2
    world.boot_service()
    scrape = machine.compare()
    assert scrape.value("kubesolo_update_available") == 0
    assert scrape.value("kubesolo_update_installs_total") == 1
    assert scrape.value("kubesolo_health_check_passed", check="disk_writable") == 1
    world.update(BAD)
    world.break_disk()
    for _ in range(3):
        world.power_on()
        world.boot_service()
        machine.compare()
    world.mend_disk()
    world.power_on()
    world.boot_service()
    scrape = machine.compare()
    assert scrape.value("kubesolo_update_rollbacks_total") == 1
    assert scrape.value("kubesolo_update_attempts_total") == 2
    last = scrape.info("kubesolo_update_last_rollback_info")
    assert last is not None
    assert last["version"] == "0.2.1"
    assert "failed health checks" in last["reason"]
    ends = scrape.all("kubesolo_update_metadata_expiry_timestamp_seconds", "role")
    assert ends == {"root": 1798859045, "timestamp": 1801526400}
    text = machine.printed("metrics")
    assert metrics_tools.run("promtool", "check", "metrics", stdin=text.encode()) == b""


def test_an_operator_the_schedule_and_a_pod_count_alike(machine: Machine) -> None:
    world = machine.world
    world.offered = FakeRelease("0.0.9")
    assert world.run("apply") == 11
    assert machine.compare().value("kubesolo_update_refusals_total", gate="downgrade") == 1
    assert timer.main(["run"], world.node()) == 11
    assert machine.compare().value("kubesolo_update_refusals_total", gate="downgrade") == 2
    folder = Path(world.paths.data, "requests")
    folder.mkdir(parents=True)
    (folder / "job.request").write_text('{"action": "apply"}')
    requests.serve(world.node(), str(folder))
    scrape = machine.compare()
    assert scrape.value("kubesolo_update_refusals_total", gate="downgrade") == 3
    assert scrape.value("kubesolo_update_attempts_total") == 3
    assert scrape.value("kubesolo_update_last_check_outcome", outcome="refused") == 1


def test_counters_do_not_go_back_over_reboots_and_what_the_history_forgets(
    machine: Machine,
) -> None:
    world = machine.world
    world.offered = FakeRelease("0.0.9")
    attempts = KEPT + SLACK + 30
    for number in range(attempts):
        world.run("apply")
        if number % 100 == 50:
            world.power_on()
    world.power_on()
    assert len(json.loads(machine.printed("history", "--json"))) < attempts
    scrape = machine.compare()
    assert scrape.value("kubesolo_update_attempts_total") == attempts
    assert scrape.value("kubesolo_update_refusals_total", gate="downgrade") == attempts


def test_a_refused_reboot_counts_too(machine: Machine) -> None:
    world = machine.world
    world.offered = GOOD
    assert world.run("apply") == 0
    with Path(world.paths.config).open("a") as file:
        file.write("maintenance_window=01:00-02:00\n")
    assert world.run("activate", "--reboot") == 11
    scrape = machine.compare()
    assert scrape.value("kubesolo_update_refusals_total", gate="maintenance_window") == 1


def test_bytes_and_seconds_of_an_apply(machine: Machine) -> None:
    world = machine.world
    shared = FakeRelease("0.2.0")
    shared.content["vmlinuz"] = FakeRelease("0.1.0").content["vmlinuz"]
    world.offered = shared
    size = {name: len(data) for name, data in shared.content.items()}
    fetched = sum(size.values()) - size["vmlinuz"]
    world.fetch_errors[2] = OSError(28, "No space left on device")
    assert world.run("apply") == 1
    assert world.run("apply") == 0
    failed, staged = json.loads(machine.printed("history", "--json"))
    assert failed["bytes"]["copied"] == size["vmlinuz"]
    assert 0 < failed["bytes"]["full"] < fetched
    # What an earlier attempt brought is not fetched again.
    assert failed["bytes"]["full"] + staged["bytes"]["full"] == fetched
    assert staged["bytes"]["copied"] == 0
    assert staged["seconds"] >= 0
    scrape = machine.compare()
    assert scrape.value("kubesolo_update_bytes_total", kind="full") == fetched
    assert scrape.value("kubesolo_update_bytes_total", kind="copied") == size["vmlinuz"]
    line = machine.printed("history").splitlines()[-1]
    assert f"{staged['bytes']['full']} bytes fetched" in line


def test_the_gate_that_refused_stands_in_the_history(machine: Machine) -> None:
    world = machine.world
    world.offered = FakeRelease("0.0.9")
    world.run("apply")
    (entry,) = json.loads(machine.printed("history", "--json"))
    assert (entry["outcome"], entry["gate"]) == ("refused", "downgrade")
    assert "refused by downgrade" in machine.printed("history")


def test_an_environment_that_cannot_be_read(machine: Machine) -> None:
    machine.world.env_path.write_bytes(b"garbage")
    scrape = machine.compare()
    assert scrape.value("kubesolo_boot_environment_readable") == 0
    assert ("kubesolo_boot_success", frozenset()) not in scrape


def test_what_keeps_the_figures_from_being_served_is_a_problem(machine: Machine) -> None:
    world = machine.world
    said = "cannot serve at port 9100 of 127.0.0.1: Address already in use"
    world.write_file(f"{world.paths.metrics}/server-problem", f"{said}\n")
    world.write_file(f"{world.paths.metrics}/problem", "")
    assert f"problem: metrics: {said}" in machine.printed("status")
    world.write_file(f"{world.paths.metrics}/server-problem", "")
    assert "problem: metrics" not in machine.printed("status")


def test_as_json(machine: Machine) -> None:
    found = json.loads(machine.printed("metrics", "--json"))
    assert found["kubesolo_os_info"]["samples"] == [
        {"labels": {"version": "0.1.0", "architecture": "x86_64", "slot": "A"}, "value": 1}
    ]
    assert set(found) == {metric.name for metric in METRICS} | set(NAMES) | {AGE}


def test_a_textfile_is_replaced_as_a_whole(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "kubesolo.prom"
    path.write_text("old")
    old = path.stat().st_ino
    assert machine.printed("metrics", "--textfile", str(path)) == ""
    assert Scrape.of(path.read_text()).value("kubesolo_boot_success") == 1
    assert path.stat().st_ino != old
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.glob("*.prom*")] == ["kubesolo.prom"]


def test_a_textfile_where_there_is_no_folder(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "missing/kubesolo.prom"
    assert machine.world.run("metrics", "--textfile", str(path)) == 1
    error = machine.capsys.readouterr().err
    assert f"there is no folder {path.parent}" in error
    assert "hint: " in error
    assert not path.parent.exists()


def test_no_login_and_no_long_text_in_a_label(machine: Machine) -> None:
    world = machine.world
    world.offered = GOOD
    world.run("apply")
    world.run("activate")
    state = world.state()
    state["phase"] = "verifying"
    secret = "rolled back: https://user:secret@example.com/" + "x" * 500
    left = {"leave": "B", "reason": secret, "version": "0.2.0"}
    state["rollback"] = {**left, "digest": GOOD.digest, "returns_to": "0.1.0"}
    world.write_file(world.paths.state, json.dumps(state))
    world.set_env(active_slot="A", boot_counter="3", boot_success="1")
    world.boot_service()
    last = machine.scrape().info("kubesolo_update_last_rollback_info")
    assert last is not None
    assert "secret@" not in last["reason"]
    assert len(last["reason"]) <= 203
