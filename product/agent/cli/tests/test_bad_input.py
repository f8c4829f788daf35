"""Bad input, one row each: a clear error, a non-zero exit, and nothing lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.tests.world import DEVICES, FakeRelease, World

Break = Callable[[World, pytest.MonkeyPatch], None]


def failing_write(number: int) -> Break:
    def apply(world: World, patch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        patch.setattr(os, "fsync", fail)

    return apply


def no_boot(world: World, patch: pytest.MonkeyPatch) -> None:
    Path(world.paths.boot).unlink()


def garbage_boot(world: World, patch: pytest.MonkeyPatch) -> None:
    Path(world.paths.boot).write_text('{"slot": "C"}')


def no_release(world: World, patch: pytest.MonkeyPatch) -> None:
    Path(world.paths.release).unlink()


def garbage_env(world: World, patch: pytest.MonkeyPatch) -> None:
    world.env_path.write_bytes(b"\xff" * 77)


def no_esp(world: World, patch: pytest.MonkeyPatch) -> None:
    world.volumes.unmountable.add(DEVICES["KSOLOEFI"])


def bad_config(world: World, patch: pytest.MonkeyPatch) -> None:
    Path(world.paths.config).write_text("auto_rollback_after=often\n")


def no_server(world: World, patch: pytest.MonkeyPatch) -> None:
    Path(world.paths.config).write_text("pubkey=/p\n")


def no_key(world: World, patch: pytest.MonkeyPatch) -> None:
    Path(world.paths.config).write_text("server=http://x/\n")


def unreachable(world: World, patch: pytest.MonkeyPatch) -> None:
    world.server_error = AgentError("http://x/ gave no answer", code="server-unreachable")


def full_slot(world: World, patch: pytest.MonkeyPatch) -> None:
    world.fetch_errors[1] = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("command", "change", "message"),
    [
        ("status", no_boot, "boot.json"),
        ("status", garbage_boot, "boot.json"),
        ("status", no_release, "release.json"),
        ("apply", no_boot, "boot.json"),
        ("apply", garbage_env, "the boot environment is garbage"),
        ("apply", no_esp, "the boot environment cannot be reached"),
        ("apply", bad_config, "update.conf line 1: auto_rollback_after is 'often'"),
        ("check", bad_config, "update.conf line 1"),
        ("apply", no_server, "no server is configured"),
        ("apply", no_key, "no pubkey is configured"),
        ("apply", unreachable, "http://x/ gave no answer"),
        ("check", unreachable, "http://x/ gave no answer"),
        ("apply", full_slot, "No space left on device"),
        ("apply", failing_write(errno.EROFS), "Read-only file system"),
        ("apply", failing_write(errno.ENOSPC), "No space left on device"),
        ("healthcheck --boot", no_boot, "boot.json"),
        ("rollback", garbage_env, "slot B holds no release"),
        ("quarantine clear 0123456789", unreachable, "names no quarantined release"),
    ],
)
def test_one_clear_error(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    change: Break,
    message: str,
) -> None:
    world.offered = FakeRelease("0.2.0")
    kept = {p.name: p.read_bytes() for p in world.directory("A").iterdir()}
    change(world, monkeypatch)
    env = world.env_path.read_bytes()
    code = world.run(*command.split())
    err = capsys.readouterr().err
    assert code == 1
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in err
    assert {p.name: p.read_bytes() for p in world.directory("A").iterdir()} == kept
    assert world.env_path.read_bytes() == env
    assert not world.volumes.active


def test_garbage_state_is_reported_kept_and_not_fatal(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_file(world.paths.state, "garbage")
    assert world.run("status") == 0
    assert "state.json is not an update state" in capsys.readouterr().out
    assert Path(world.paths.state).read_text() == "garbage"
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    (aside,) = Path(world.paths.state).parent.glob("state.json.corrupt-*")
    assert aside.read_text() == "garbage"


def test_a_bad_configuration_does_not_fail_a_trial(world: World) -> None:
    world.update(FakeRelease("0.2.0"))
    Path(world.paths.config).write_bytes(b"auto_rollback_after=x\nmaintenance_window=never\n\xff")
    world.power_on()
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"


def test_a_trial_is_judged_although_nothing_can_be_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    failing_write(errno.EROFS)(world, monkeypatch)
    assert world.boot_service() is None, "an unhealthy boot is given up"
    assert world.env()["boot_success"] == "0"
    monkeypatch.undo()
    assert [world.power_on() for _ in range(3)] == ["B", "B", "A"]


def test_a_failed_boot_service_says_so_on_the_console(world: World) -> None:
    Path(world.paths.boot).unlink()
    assert world.boot_service() == 1
    assert world.console()[0].startswith(
        "kubesolo-update: unhealthy cause=agent reason=cannot read"
    )
