"""Hooks and inhibitors: what an operator's programs and files stop, and for how long."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from product.agent.tests.world import FakeRelease, World

GOOD = FakeRelease("0.2.0")
BAD = FakeRelease("0.2.1")


def hook(world: World, name: str, text: str, mode: int = 0o755) -> Path:
    path = Path(world.paths.hooks, name)
    world.write_file(str(path), f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def telling(world: World, *names: str) -> Path:
    """Hooks that write down what they were told."""
    log = Path(world.paths.root, "hooks.log")
    variables = "$KUBESOLO_FROM_VERSION $KUBESOLO_TO_VERSION $KUBESOLO_SLOT $KUBESOLO_REASON"
    for name in names:
        hook(world, name, f'echo "$KUBESOLO_EVENT" {variables} >> {log}')
    return log


def set_timeout(world: World, seconds: int) -> None:
    with Path(world.paths.config).open("a") as config:
        config.write(f"hook_timeout={seconds}\n")


def notes(world: World) -> list[str]:
    lines = Path(world.paths.history).read_text().splitlines()
    return [e["reason"] for e in map(json.loads, lines) if e["event"] == "hook"]


def test_each_step_has_its_hook_and_tells_it_all(world: World) -> None:
    names = ("before-apply", "after-apply", "before-reboot", "after-commit", "after-rollback")
    log = telling(world, *names)
    world.update(GOOD)
    world.power_on()
    assert world.boot_service() == 0
    assert world.run("rollback", "--reboot") is None
    assert log.read_text().splitlines() == [
        "before-apply 0.1.0 0.2.0",
        "after-apply 0.1.0 0.2.0 B",
        "before-reboot 0.1.0 0.2.0 B",
        "after-commit 0.1.0 0.2.0 B",
        "after-rollback 0.1.0 0.2.0 B manual rollback",
        "before-reboot 0.1.0 0.2.0 B manual rollback",
    ]


def test_a_rollback_of_the_boot_loader_is_told_once(world: World) -> None:
    log = telling(world, "after-rollback")
    world.update(BAD)
    assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    world.boot_service()
    world.power_on()
    world.boot_service()
    told = "after-rollback 0.1.0 0.2.1 B rolled back: 3 failed boots of 0.2.1\n"
    assert log.read_text() == told


def test_several_hooks_run_by_name(world: World) -> None:
    log = Path(world.paths.root, "log")
    for name in ("before-apply.20-b", "before-apply", "before-apply.10-a", "before-apply~", "x"):
        hook(world, name, f"echo {name} >> {log}")
    world.offered = GOOD
    assert world.run("apply") == 0
    assert log.read_text().split() == ["before-apply", "before-apply.10-a", "before-apply.20-b"]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("echo no space for a backup >&2; exit 3", 0o755, "ended with 3: no space for a backup"),
        ("kill -9 $$", 0o755, "ended with -9"),
        ("exit 0", 0o644, "is not run: it is not executable"),
        ("exit 0", 0o775, "is not run: others than root may write to it"),
    ],
)
def test_a_hook_before_a_step_stops_it(
    world: World, capsys: pytest.CaptureFixture[str], text: str, mode: int, said: str
) -> None:
    hook(world, "before-apply", text, mode)
    world.offered = GOOD
    assert world.run("apply", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "hook-failed"
    state = world.state()
    assert state["phase"] == "failed"
    assert str(state["last_error"]) == f"hook-failed: the hook before-apply {said}"
    assert world.fetched == []


def test_a_hook_before_the_reboot_stops_that(world: World) -> None:
    hook(world, "before-reboot", "exit 1")
    world.offered = GOOD
    assert world.run("apply") == 0
    assert world.run("activate", "--reboot") == 1
    assert world.reboots == 0
    assert world.env()["active_slot"] == "B", "the next reboot tries it all the same"


def test_a_hook_after_a_step_is_noted_and_stops_nothing(world: World) -> None:
    for name in ("after-apply", "after-commit"):
        hook(world, name, "exit 7")
    world.update(GOOD)
    world.power_on()
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"
    assert notes(world) == [
        "the hook after-apply ended with 7",
        "the hook after-commit ended with 7",
    ]


def test_a_hook_has_its_time_and_takes_its_children_with_it(world: World) -> None:
    set_timeout(world, 1)
    child = Path(world.paths.root, "child")
    hook(world, "before-apply", f"trap '' TERM\nsleep 60 & echo $! > {child}\nsleep 60")
    world.offered = GOOD
    begun = time.monotonic()
    assert world.run("apply") == 1
    assert time.monotonic() - begun < 20
    assert "did not end within 1 s" in str(world.state()["last_error"])
    pid = int(child.read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text():
            break
        time.sleep(0.02)
    else:
        pytest.fail("what the hook started outlives it")


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(world: World) -> None:
    child = Path(world.paths.root, "child")
    hook(world, "before-apply", f"yes & echo $! > {child}")
    world.offered = GOOD
    begun = time.monotonic()
    assert world.run("apply") == 0
    assert time.monotonic() - begun < 20
    os.kill(int(child.read_text()), 9)


def inhibit(world: World, name: str, text: str) -> Path:
    path = Path(world.paths.inhibitors, name)
    world.write_file(str(path), text)
    return path


def test_an_inhibitor_refuses_by_name(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = inhibit(world, "backup", "owner=nightly backup\nreason=until 03:00\n")
    world.offered = GOOD
    for command in (["apply"], ["apply", "--force"], ["apply", "--dry-run"]):
        assert world.run(*command, "--json") == 11
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["code"] == "inhibitor"
        assert "backup of nightly backup: until 03:00" in error["message"]
    assert world.run("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    found = {"name": "backup", "owner": "nightly backup", "reason": "until 03:00"}
    assert status["inhibitors"] == [found]
    path.unlink()
    assert world.run("apply") == 0
    inhibit(world, "later", "")
    assert world.run("activate", "--reboot", "--force") == 11
    assert world.env()["active_slot"] == "A", "nothing is armed"
    assert world.run("activate") == 0, "arming alone disturbs nobody"
    assert world.run("rollback", "--reboot") == 11
    assert world.run("rollback") == 0
    world.power_on()
    assert world.run("apply") == 0, "a boot clears all of them"


def test_what_is_no_file_inhibits_as_well(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    Path(world.paths.inhibitors).mkdir()
    Path(world.paths.inhibitors, ".unfinished").touch()
    world.offered = GOOD
    assert world.run("apply") == 0
    os.mkfifo(Path(world.paths.inhibitors, "pipe"))
    Path(world.paths.inhibitors, "folder").mkdir()
    Path(world.paths.inhibitors, "link").symlink_to("/dev/zero")
    inhibit(world, "odd\x1bname", "reason=a\x1b[31mred\nowner=" + "x" * 9999)
    assert world.run("apply") == 11
    err = capsys.readouterr().err
    assert "4 in " in err
    assert "\x1b" not in err
    assert len(err) < 2000
