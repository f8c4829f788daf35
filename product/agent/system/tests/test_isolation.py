"""Asking what may never answer."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from product.agent import node
from product.agent.config import Config
from product.agent.health.checks import CHECKS, FAIL, Check, HealthContext, Result
from product.agent.health.runner import disk_answers, run_once, run_until
from product.agent.system import isolation, program
from product.agent.system.isolation import IsolatedRunner, NoAnswerError
from product.agent.system.lock import exclusive
from product.agent.tests.world import FakeRelease, World

QUICK = 0.3
# What a stuck node would never reach; the tests' own patience.
SOON = 5.0


@pytest.fixture(autouse=True)
def nobody_waits_for_ever() -> Iterator[None]:
    """Where the product itself waits, its test fails; and no child outlives one."""

    def fail(*_: object) -> None:
        raise AssertionError("it waits for what never answers")

    former = signal.signal(signal.SIGALRM, fail)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)
    # Whom a busy host kept from ending within the grace ends now.
    end = time.monotonic() + SOON
    with suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                assert time.monotonic() < end, "a child was left behind alive"
                time.sleep(0.01)


def hang(*_: object) -> bytes:
    threading.Event().wait(60)
    return b"never"


def in_time(action: Callable[[], object]) -> object:
    started = time.monotonic()
    found = action()
    assert time.monotonic() - started < SOON
    return found


def test_an_answer_comes_back_whole() -> None:
    assert IsolatedRunner().run("x", SOON, lambda: b"a" * 300_000) == b"a" * 300_000


def test_what_never_answers_is_left_behind() -> None:
    def ask() -> None:
        with pytest.raises(NoAnswerError, match=r"^no answer within 0\.3 s$"):
            IsolatedRunner().run("x", QUICK, hang)

    in_time(ask)


def test_who_dies_instead_of_answering_is_said() -> None:
    def fail() -> bytes:
        raise ZeroDivisionError

    def be_killed() -> bytes:
        os.kill(os.getpid(), 9)
        return b"never"

    for question in (fail, be_killed):
        with pytest.raises(NoAnswerError, match="has died"):
            IsolatedRunner().run("x", SOON, question)


def test_one_that_cannot_be_killed_is_waited_for_and_not_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process in uninterruptible sleep: its end is not ours to bring about."""
    pipe, started = tmp_path / "pipe", tmp_path / "started"
    os.mkfifo(pipe)

    def read() -> bytes:
        with started.open("a") as file:
            file.write("x")
        return pipe.read_bytes()

    asker = IsolatedRunner()
    monkeypatch.setattr(isolation, "GRACE", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *_: None)
        for _ in range(3):
            with pytest.raises(NoAnswerError, match="no answer within"):
                in_time(lambda: asker.run("x", QUICK, read))
        assert started.read_text() == "x"
        # Another question is not held up by it.
        assert in_time(lambda: asker.run("y", SOON, lambda: b"yes")) == b"yes"
    pipe.write_bytes(b"late")
    assert in_time(lambda: asker.run("x", SOON, lambda: b"anew")) == b"anew"


def test_the_child_holds_nothing_of_the_agents(tmp_path: Path) -> None:
    """Neither a lock, nor the pipe that somebody reads its output from."""

    def descriptors() -> bytes:
        names = {os.readlink(f"/proc/self/fd/{name}") for name in range(3)}
        open_ones = [name for name in range(3, 256) if is_open(name)]
        return f"{sorted(names)} {len(open_ones)}".encode()

    def is_open(descriptor: int) -> bool:
        try:
            fcntl.fcntl(descriptor, fcntl.F_GETFD)
        except OSError:
            return False
        return True

    with exclusive(str(tmp_path / "lock")):
        # The pipe that it answers by.
        assert IsolatedRunner().run("x", SOON, descriptors) == b"['/dev/null'] 1"


def look(world: World, name: str) -> Result:
    context = HealthContext(world.node(), Config(), unconfirmed=True)
    checks = [check._replace(limit=QUICK) for check in CHECKS if check.name == name]
    started = time.monotonic()
    (result,) = run_once(context, checks)
    assert time.monotonic() - started < SOON
    return result


@pytest.mark.parametrize(
    ("name", "function"), [("disk_writable", "fsync"), ("slot_integrity", "readv")]
)
def test_a_disk_that_does_not_answer_fails_its_check_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, function: str
) -> None:
    monkeypatch.setattr(os, function, hang)
    result = look(world, name)
    assert (result.result, result.reason) == (FAIL, "no answer within 0.3 s")
    assert result.limit == QUICK


def test_a_read_that_blocks_in_the_kernel_fails_the_check_in_time(world: World) -> None:
    manifest = world.directory("A") / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    result = look(world, "slot_integrity")
    assert (result.result, result.reason) == (FAIL, "no answer within 0.3 s")


def test_the_deadline_shortens_the_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", hang)
    context = HealthContext(world.node(), Config(), unconfirmed=True)
    (check,) = [check for check in CHECKS if check.name == "disk_writable"]
    result = check.run(context, QUICK)
    assert (result.reason, result.limit) == ("no answer within 0.3 s", 10)


def test_whether_the_disk_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    context = HealthContext(world.node(), Config(), unconfirmed=True)
    monkeypatch.setattr("product.agent.health.runner.DISK_SECONDS", QUICK)
    monkeypatch.setattr("product.agent.health.runner.HUNG_SECONDS", QUICK)
    assert disk_answers(context)
    world.break_disk()
    assert disk_answers(context)
    world.mend_disk()
    monkeypatch.setattr(os, "fsync", hang)
    assert not in_time(lambda: disk_answers(context))


def test_the_boot_loaders_disk_is_asked_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = world.node()
    monkeypatch.setattr("product.agent.health.runner.HUNG_SECONDS", QUICK)
    monkeypatch.setattr(type(node.boot_env), "read", lambda _: hang())
    context = HealthContext(node, Config(), unconfirmed=True)
    assert not in_time(lambda: disk_answers(context))


def test_without_a_process_to_ask_it_the_disk_counts_as_answering(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    assert disk_answers(HealthContext(world.node(), Config(), unconfirmed=True))


def test_a_slow_disk_has_its_time_at_the_end_of_the_deadline_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No baseline excuses it; a slot and the network are looked at once."""
    given: dict[str, float] = {}

    def note(self: Check, context: HealthContext, limit: float) -> Result:
        given[self.name] = limit
        return Result(self.name, "pass", "")

    monkeypatch.setattr(Check, "run", note)
    context = HealthContext(world.node(), Config(), unconfirmed=True)
    run_until(context, 0)
    assert given == {check.name: 1.0 for check in CHECKS} | {
        "disk_writable": 10,
        "slot_integrity": 600,
        "network": 60,
        "data_partition": 1,
    }


def test_a_boot_on_trial_whose_disk_hangs_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is written to it: that would hang the agent itself, and no try be spent."""
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    hung = Path(world.paths.run) / "hung"
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path.endswith("/health-probe"):
            hung.touch()
            hang()
        in_memory = path.startswith(world.paths.run)
        assert in_memory or not hung.exists(), "the agent itself waits for the disk"
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("product.agent.health.runner.DISK_SECONDS", 1.0)
    monkeypatch.setattr("product.agent.health.runner.HUNG_SECONDS", QUICK)
    assert in_time(lambda: world.run("healthcheck", "--boot", "--deadline", "1")) is None
    (line,) = world.console()
    assert "unhealthy version=0.2.0 slot=B cause=health" in line
    assert "disk_writable: no answer within 1 s" in line
    report = json.loads(Path(world.paths.report).read_text())
    (check,) = [c for c in report["health"] if c["name"] == "disk_writable"]
    assert (check["result"], check["limit"]) == ("fail", 10)
    # The boot loader, which counts by itself, returns to the other slot.
    monkeypatch.setattr(os, "fsync", real)
    hung.unlink()
    assert world.env()["boot_success"] == "0"
    assert [world.power_on() for _ in range(3)] == ["B", "B", "A"]
    world.boot_service()
    assert world.state()["phase"] == "rolled_back"


def test_the_reboot_does_not_wait_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(program, "require", lambda argv: ran.append(argv))
    monkeypatch.setattr(node, "SYNC_SECONDS", QUICK)
    monkeypatch.setattr(os, "sync", hang)
    in_time(node.Node().reboot)
    assert ran == [["/sbin/reboot"]]


def test_a_reboot_brings_everything_to_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = tmp_path / "synced"
    monkeypatch.setattr(os, "sync", synced.touch)
    monkeypatch.setattr(program, "require", lambda argv: synced.unlink())
    node.Node().reboot()
    assert not synced.exists()
