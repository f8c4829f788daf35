"""The command line: exit codes, JSON, and what it costs to start."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from product.agent.cli.parser import COMMANDS
from product.agent.kubernetes.tests.test_payload import GOOD
from product.agent.system import lock
from product.agent.system.lock import exclusive
from product.agent.tests.support_cluster import Authority, kubeconfig
from product.agent.tests.support_datastore import Store
from product.agent.tests.world import SLOT_DEVICES, FakeRelease, World

# What the node pays seconds for.
COSTLY = {
    "asyncio",
    "cryptography",
    "dataclasses",
    "email",
    "http",
    "inspect",
    "logging",
    "pathlib",
    "pydantic",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "tuf",
    "typer",
    "urllib",
    "urllib3",
}


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ([], 2),
        (["--help"], 0),
        (["metrics"], 0),
        (["metric"], 2),
        (["dance"], 2),
        (["status", "--help"], 0),
        (["status", "--dance"], 2),
        (["apply", "--auto-rollback-after", "-1"], 2),
        (["apply", "--serv", "x"], 2),
        (["quarantine", "clear"], 2),
        (["quarantine", "clear", "abcdef01", "--all"], 2),
        (["status"], 0),
        (["history"], 0),
        (["quarantine"], 0),
        (["healthcheck"], 0),
    ],
)
def test_exit_codes(world: World, argv: list[str], code: int) -> None:
    assert world.run(*argv) == code


def test_the_second_agent_is_busy(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "URGENT_SECONDS", 0.1)
    world.offered = FakeRelease("0.2.0")
    with exclusive(world.paths.lock):
        for command in ("apply", "activate", "rollback"):
            assert world.run(command) == 12
        assert "is at work (process" in capsys.readouterr().err
        # What only looks needs no lock.
        assert world.run("status") == 0
        assert world.run("check") == 10
        assert world.run("apply", "--dry-run") == 10
    assert world.run("apply") == 0


def test_the_boot_service_takes_its_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    other = exclusive(world.paths.lock)
    other.__enter__()
    real = fcntl.flock

    def waiting(descriptor: int, operation: int) -> None:
        if not operation & fcntl.LOCK_NB:
            other.__exit__(None, None, None)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", waiting)
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"


def test_the_overview_names_every_command(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.run("--help")
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_every_command_names_unknown_keys(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(world.paths.config).open("a") as config:
        config.write("new_key=1\n")
    for command in ("check", "apply", "activate", "healthcheck", "rollback", "status", "history"):
        world.run(command)
        assert "note: " in (err := capsys.readouterr().err), command
        assert "'new_key' is no key of this version and is ignored" in err
    world.run("status", "--json")
    report = json.loads(capsys.readouterr().out)
    assert len(report["unknown_keys"]) == 1
    assert report["problems"] == []


def test_status_says_that_a_window_is_not_in_the_zone_that_was_set(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_file(world.paths.timezone, "Asia/Tokio\n")
    world.run("status")
    assert "maintenance window: always open" in capsys.readouterr().out
    with Path(world.paths.config).open("a") as config:
        config.write("maintenance_window=11:00-13:00\n")
    world.run("status")
    line = "maintenance window: not known, so closed: local time is not that of 'Asia/Tokio'"
    assert line in capsys.readouterr().out
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 11
    assert "the image has no such zone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "text", "is_open"),
    [
        ("", "always open", True),
        ("maintenance_window=11:00-13:00", "11:00-13:00 Asia/Tokyo (UTC +0000), open now", True),
        (
            "maintenance_window=22:00-24:00",
            "22:00-24:00 Asia/Tokyo (UTC +0000), opens 2027-01-15T18:00:00Z",
            False,
        ),
        ("maintenance_window=3:00-3:00", "3:00-3:00 Asia/Tokyo (UTC +0000), never opens", False),
        ("maintenance_windw=3:00-4:00", "not known, so closed: ", False),
        ("maintenance_window=nightly", "not known, so closed: ", False),
    ],
)
def test_status_shows_the_window_and_when_it_opens(
    world: World, capsys: pytest.CaptureFixture[str], line: str, text: str, is_open: bool
) -> None:
    world.write_file(world.paths.timezone, "Asia/Tokyo\n")
    os.symlink("/usr/share/zoneinfo/Asia/Tokyo", world.paths.localtime)
    with Path(world.paths.config).open("a") as config:
        config.write(f"{line}\n")
    world.run("status")
    out = capsys.readouterr().out
    assert f"maintenance window: {text}" in out
    assert ("problem: " in out) is ("not known" in text)
    world.run("status", "--json")
    assert json.loads(capsys.readouterr().out)["maintenance"]["open"] is is_open


def test_status_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    capsys.readouterr()
    assert world.run("status", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == [
        "schema",
        "version",
        "architecture",
        "boot",
        "environment",
        "secure_boot",
        "boot_loader",
        "confirmed",
        "pending",
        "slots",
        "update",
        "quarantine",
        "last_boot_check",
        "baseline",
        "datastore",
        "maintenance",
        "settings",
        "source",
        "schedule",
        "last_check",
        "inhibitors",
        "next_boot",
        "unknown_keys",
        "network",
        "time",
        "configuration",
        "logs",
        "ssh",
        "available",
        "counters",
        "metadata_ends",
        "vitals",
        "problems",
    ]
    assert report["version"] == "0.2.0"
    assert report["boot"] == {
        "slot": "B",
        "boot_id": "boot-2",
        "mode": "normal",
        "data": "persistent",
    }
    assert report["environment"] == {
        "readable": True,
        "active_slot": "B",
        "boot_counter": 2,
        "boot_success": False,
    }
    assert report["secure_boot"] == "unsupported"
    assert report["boot_loader"] is None
    assert (report["confirmed"], report["pending"]) == (False, False)
    assert report["slots"]["A"]["version"] == "0.1.0"
    assert report["slots"]["B"]["digest"] == FakeRelease("0.2.0").digest
    assert report["update"]["phase"] == "activated"
    assert report["last_boot_check"] is None
    assert report["problems"] == []
    world.boot_service()
    world.run("status", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["confirmed"]
    assert report["last_boot_check"]["outcome"] == "ready"
    assert [c["name"] for c in report["last_boot_check"]["health"]][:3] == [
        "data_partition",
        "disk_writable",
        "slot_integrity",
    ]
    for check in report["last_boot_check"]["health"]:
        assert check["result"] in ("pass", "not_applicable")
        assert check["reason"]
        assert check["limit"] > 0


def test_a_report_and_a_baseline_of_an_older_agent_name_no_limits(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The baseline lies on the disk across the update that brings them."""
    check = {"name": "disk_writable", "result": "fail", "reason": "full", "subjects": []}
    report = {"boot_id": "boot-1", "outcome": "ready", "health": [{**check, "before": None}]}
    world.write_file(world.paths.report, json.dumps(report))
    fault = {"name": "node_ready", "reason": "no API server", "subjects": ["api_server"]}
    head = {"trial": "1234", "version": "0.1.0", "taken_at": "2026", "complete": True}
    world.write_file(world.paths.baseline, json.dumps({**head, "faults": [fault]}))
    assert world.run("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["last_boot_check"] == report
    assert status["baseline"]["faults"] == [{**fault, "limit": None}]
    assert world.run("status") == 0
    assert "disk_writable: fail (full)" in capsys.readouterr().out


def test_a_report_of_another_boot_is_not_shown(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_file(world.paths.report, '{"boot_id": "boot-0", "outcome": "ready"}')
    world.run("status", "--json")
    assert json.loads(capsys.readouterr().out)["last_boot_check"] is None


def test_what_a_service_noted_later_is_a_problem_too(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_file(world.paths.problems, 'Kubernetes ended by itself\nno "quotes"\n')
    world.run("status", "--json")
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert problems == ["Kubernetes ended by itself", "no quotes"]


def test_status_while_a_slot_is_written(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.volumes.busy.add(SLOT_DEVICES["B"])
    assert world.run("status") == 0
    assert "slot B: empty (it is in use by another process)" in capsys.readouterr().out


def test_status_says_that_a_staged_slot_lost_its_release(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    capsys.readouterr()
    assert world.run("status") == 0
    assert "problem" not in capsys.readouterr().out
    (world.directory("B") / "manifest.json").unlink()
    assert world.run("status") == 0
    text = capsys.readouterr().out
    assert "slot B: empty" in text
    assert "problem: the update to 0.2.0 is staged, and slot B does not hold it (it has no" in text
    world.fill("B", FakeRelease("0.3.0"))
    world.run("status")
    assert "slot B does not hold it (it holds 0.3.0)" in capsys.readouterr().out
    world.volumes.busy.add(SLOT_DEVICES["B"])
    world.run("status")
    assert "problem" not in capsys.readouterr().out


def test_status_for_people_names_what_is_wrong(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.update(FakeRelease("0.2.1"))
    capsys.readouterr()
    world.run("status")
    assert "slot B boots next, 3 tries left" in capsys.readouterr().out
    for _ in range(4):
        world.power_on()
    world.boot_service()
    world.run("status")
    text = capsys.readouterr().out
    assert "KubeSolo OS 0.1.0 (x86_64), slot A, confirmed" in text
    assert "update: rolled_back, 0.1.0 to 0.2.1" in text
    assert "rolled back: 3 failed boots of 0.2.1" in text
    assert "quarantined: 0.2.1" in text
    world.env_path.write_bytes(b"")
    world.run("status")
    assert "problem: the boot environment is garbage: it is empty" in capsys.readouterr().out


def test_flags_lie_over_the_file(world: World) -> None:
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply", "--channel", "edge") == 11
    other = Path(world.paths.root) / "other.json"
    assert world.run("apply", "--state", str(other)) == 0
    assert json.loads(other.read_text())["phase"] == "staged"


def test_json_errors(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("activate", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "nothing-staged"
    assert error["hint"]


SLOTS = {"product.agent.slots.store"}


def modules_of(world: World, call: str) -> tuple[int, set[str]]:
    """The exit code of ``call`` and what it imports, in a fresh interpreter, through the real
    volumes with a mount(8) that does nothing."""
    world.write_file(world.paths.mountinfo, "")
    shutil.copytree(world.env_path.parents[2], world.paths.esp_mount)
    program = (
        "import sys, json\n"
        "before = set(sys.modules)\n"
        f"import {call.partition('(')[0].rpartition('.')[0]}\n"
        "from product.agent.node import Node\n"
        "from product.agent.system.paths import Paths\n"
        "from product.agent.system import program\n"
        "program.run = lambda argv: (0, '')\n"
        f"node = Node(Paths({world.paths.root!r}))\n"
        f"code = {call}\n"
        "print(json.dumps([code, sorted(set(sys.modules) - before)]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[4],
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules) | {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    ("call", "costly"),
    [
        ("product.agent.cli.main.main(['status', '--json'], node)", COSTLY),
        # A confirmed boot hashes nothing, and OpenSSL takes its time to load.
        ("product.agent.services.boot_judge.main(node)", COSTLY | {"_hashlib", "argparse"} | SLOTS),
        (
            "product.agent.cli.main.main(['healthcheck', '--boot'], node)",
            COSTLY | {"_hashlib"} | SLOTS,
        ),
    ],
    ids=["status", "service", "healthcheck"],
)
def test_the_boot_path_imports_nothing_costly(world: World, call: str, costly: set[str]) -> None:
    code, loaded = modules_of(world, call)
    assert code == 0
    assert "product.agent.bootloader.protocol" in loaded
    assert loaded & costly == set()
    if "status" not in call:
        assert world.console() == ["kubesolo-update: ready version=0.1.0 slot=A confirmed=1"]


@pytest.mark.parametrize("begun", [False, True], ids=["nothing is up", "nobody listens yet"])
def test_while_kubernetes_starts_tls_is_not_loaded(world: World, begun: bool) -> None:
    authority = Authority("ca")
    world.write_file(world.paths.config, "healthcheck_deadline=0\n")
    world.write_file(world.paths.payload, json.dumps(GOOD))
    if begun:
        path = world.paths.under(str(GOOD["kubeconfig"]))
        found = kubeconfig(1, authority, authority.issue("admin"))
        world.write_file(path, json.dumps(found))
    code, loaded = modules_of(world, "product.agent.services.boot_judge.main(node)")
    assert code == 1
    assert (
        loaded & {"ssl", "_hashlib", "http", "email", "yaml", "product.agent.slots.store"} == set()
    )
    assert ("socket" in loaded) == begun
    assert "cause=health" in world.console()[-1]


def test_a_settled_datastore_costs_little(world: World) -> None:
    store = Store(world)
    store.write("one")
    code, loaded = modules_of(world, "product.agent.datastore.restore.main(node)")
    assert code == 0
    assert loaded & (COSTLY | {"_hashlib", "argparse"} | SLOTS) == set()


def test_collecting_the_figures_is_cheap(world: World) -> None:
    """It is done every five minutes."""
    code, loaded = modules_of(world, "product.agent.metrics.collect.main([], node)")
    assert code == 0
    assert loaded & (COSTLY | {"_hashlib", "argparse"} | SLOTS) == set()
