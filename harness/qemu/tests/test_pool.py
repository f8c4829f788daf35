"""Machines of all processes together stay within the budget, and nobody is forgotten."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineError, PoolError
from harness.qemu.pool import Budget, Need, Pool

LIMIT = 30.0
BUDGET = Budget(cores=2, mib=1000)

HOLDER = """
import sys
from pathlib import Path
from harness.deadline import Deadline
from harness.qemu.pool import Budget, Need, Pool
with Pool(Path(sys.argv[1]), Budget(2, 1000)).lease([Need(2, 900)], Deadline.after(30)):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def waits(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody begins to wait in ``pool``."""
    waiting = threading.Event()
    wait = pool._wait

    def wait_and_say(*arguments: Any) -> None:
        waiting.set()
        wait(*arguments)

    monkeypatch.setattr(pool, "_wait", wait_and_say)
    return waiting


def leases(directory: Path) -> list[int]:
    return [
        entry["mib"] for entry in json.loads((directory / "machines.json").read_text())["leases"]
    ]


def test_leases_within_the_budget_are_given_at_once(tmp_path: Path) -> None:
    pool = Pool(tmp_path, BUDGET)
    with (
        pool.lease([Need(1, 500)], Deadline.after(LIMIT)),
        pool.lease([Need(1, 500)], Deadline.after(LIMIT)),
    ):
        assert leases(tmp_path) == [500, 500]
    assert leases(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["machines.json", "pool.lock"]


@pytest.mark.parametrize(("cores", "mib"), [(1, 600), (4, 100)])
def test_what_exceeds_the_budget_waits_for_a_release(tmp_path: Path, cores: int, mib: int) -> None:
    pool = Pool(tmp_path, BUDGET)
    taken = threading.Event()
    release = threading.Event()

    def second() -> None:
        with pool.lease([Need(cores, mib)], Deadline.after(LIMIT)):
            taken.set()
            release.wait(LIMIT)

    thread = threading.Thread(target=second)
    with pool.lease([Need(1, 500)], Deadline.after(LIMIT)):
        thread.start()
        assert not taken.wait(0.2)
        assert leases(tmp_path) == [500]
    assert taken.wait(LIMIT)
    release.set()
    thread.join()


def test_one_processor_passes_several_that_wait_for_their_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, taken = Pool(tmp_path, BUDGET), threading.Event()
    waiting = waits(pool, monkeypatch)

    def second() -> None:
        with pool.lease([Need(2, 200)], Deadline.after(LIMIT)):
            taken.set()

    thread = threading.Thread(target=second)
    with pool.lease([Need(2, 300)], Deadline.after(LIMIT)):
        thread.start()
        assert waiting.wait(LIMIT)
        with (
            pool.lease([Need(1, 100)], Deadline.after(LIMIT)),
            pool.lease([Need(1, 200)], Deadline.after(LIMIT)),
        ):
            assert leases(tmp_path) == [300, 100, 200]
            # The first one counts half, and there is no room for more.
            with pytest.raises(DeadlineError), pool.lease([Need(1, 100)], Deadline.after(0.2)):
                pytest.fail("more processors were given than fit")
        assert not taken.is_set()
    assert taken.wait(LIMIT)
    thread.join()


def test_several_processors_wait_until_two_machines_with_one_are_left(tmp_path: Path) -> None:
    pool = Pool(tmp_path, BUDGET)
    with (
        pool.lease([Need(1, 100)], Deadline.after(LIMIT)),
        pool.lease([Need(1, 200)], Deadline.after(LIMIT)),
    ):
        with (
            pool.lease([Need(1, 100)], Deadline.after(LIMIT)),
            pytest.raises(DeadlineError),
            pool.lease([Need(2, 300)], Deadline.after(0.2)),
        ):
            pytest.fail("three machines with one processor leave no core idle")
        with pool.lease([Need(2, 300)], Deadline.after(LIMIT)):
            assert leases(tmp_path) == [100, 200, 300]


def test_three_machines_with_one_processor_share_two_cores(tmp_path: Path) -> None:
    pool = Pool(tmp_path, BUDGET)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(pool.lease([Need(1, 100)], Deadline.after(LIMIT)))
        assert leases(tmp_path) == [100, 100, 100]
        with pytest.raises(DeadlineError), pool.lease([Need(1, 100)], Deadline.after(0.2)):
            pytest.fail("more machines were let in than wait by turns")


def test_the_place_of_several_processors_is_kept_for_the_next_of_the_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path, BUDGET)
    with (
        pool.lease([Need(1, 50)], Deadline.after(LIMIT)),
        pool.lease([Need(1, 100)], Deadline.after(LIMIT)),
    ):
        with pool.lease([Need(2, 300)], Deadline.after(LIMIT)):
            pass
        with pytest.raises(DeadlineError), pool.lease([Need(1, 200)], Deadline.after(0.2)):
            pytest.fail("a machine with one processor took the place")
        with pool.lease([Need(2, 300)], Deadline.after(LIMIT)):
            assert leases(tmp_path) == [50, 100, 300]
        # Not for ever, and not for a release before the host's last boot.
        monkeypatch.setattr("harness.qemu.pool._KEPT", 0.5)
        with pool.lease([Need(2, 300)], Deadline.after(LIMIT)):
            pass
        with pool.lease([Need(1, 200)], Deadline.after(LIMIT)):
            assert leases(tmp_path) == [50, 100, 200]
        state = json.loads((tmp_path / "machines.json").read_text())
        state["kept"] = time.monotonic() + 1e6
        (tmp_path / "machines.json").write_text(json.dumps(state))
        with pool.lease([Need(1, 200)], Deadline.after(LIMIT)):
            assert leases(tmp_path) == [50, 100, 200]


def test_who_waits_for_a_kept_place_does_not_stand_before_whom_it_is_kept_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, done = Pool(tmp_path, BUDGET), threading.Event()
    waiting = waits(pool, monkeypatch)

    def further() -> None:
        with pool.lease([Need(1, 200)], Deadline.after(LIMIT)):
            done.set()

    monkeypatch.setattr("harness.qemu.pool._KEPT", LIMIT)
    thread = threading.Thread(target=further)
    with (
        pool.lease([Need(1, 50)], Deadline.after(LIMIT)),
        pool.lease([Need(1, 100)], Deadline.after(LIMIT)),
    ):
        with pool.lease([Need(2, 300)], Deadline.after(LIMIT)):
            thread.start()
            assert waiting.wait(LIMIT)
        with pool.lease([Need(2, 300)], Deadline.after(LIMIT / 2)):
            assert leases(tmp_path) == [50, 100, 300]
            assert not done.is_set()
    assert done.wait(LIMIT)
    thread.join()


def test_never_more_than_the_budget_under_contention(tmp_path: Path) -> None:
    pool = Pool(tmp_path, BUDGET)
    lock = threading.Lock()
    now, peak = 0, 0

    def work() -> None:
        nonlocal now, peak
        for _ in range(5):
            with pool.lease([Need(1, 400)], Deadline.after(LIMIT)):
                with lock:
                    now += 1
                    peak = max(peak, now)
                with lock:
                    now -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert peak in (1, 2)
    assert leases(tmp_path) == []


def test_machines_of_one_scenario_are_leased_at_once(tmp_path: Path) -> None:
    pool, several = Pool(tmp_path, BUDGET), [Need(1, 300), Need(1, 300)]
    with pool.lease(several, Deadline.after(LIMIT)):
        assert leases(tmp_path) == [600]
        with pytest.raises(DeadlineError), pool.lease(several, Deadline.after(0.2)):
            pytest.fail("half of what was asked for was given")
        # Each of the two counts as a machine with one processor.
        with pool.lease([Need(1, 100)], Deadline.after(LIMIT)):
            assert leases(tmp_path) == [600, 100]
            with pytest.raises(DeadlineError), pool.lease([Need(1, 100)], Deadline.after(0.2)):
                pytest.fail("more machines were let in than wait by turns")


def test_machines_of_one_scenario_with_more_cores_than_there_are_run_alone(tmp_path: Path) -> None:
    for machines in ([Need(2, 100), Need(2, 100)], [Need(1, 100)] * 4):
        pool = Pool(tmp_path, BUDGET)
        with pool.lease(machines, Deadline.after(LIMIT)):
            with pytest.raises(DeadlineError), pool.lease([Need(2, 100)], Deadline.after(0.2)):
                pytest.fail("they did not run alone")
            assert len(leases(tmp_path)) == 1


def test_a_waiter_is_woken_by_the_holders_death(tmp_path: Path) -> None:
    pool = Pool(tmp_path, BUDGET)
    with holder(tmp_path) as process:
        timer = threading.Timer(0.2, process.kill)
        timer.start()
        begun = time.monotonic()
        with pool.lease([Need(1, 500)], Deadline.after(LIMIT)):
            assert leases(tmp_path) == [500]
        assert time.monotonic() - begun < LIMIT / 2
        timer.join()


def test_a_dead_owners_lease_is_reclaimed(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
    assert leases(tmp_path) == [900]  # It had no chance to give it back.
    with Pool(tmp_path, BUDGET).lease([Need(2, 1000)], Deadline.after(LIMIT)):
        assert leases(tmp_path) == [1000]


def test_a_living_process_with_a_dead_owners_number_keeps_nothing(tmp_path: Path) -> None:
    """The process id alone does not tell: the entry's start time is another process's."""
    pool = Pool(tmp_path, BUDGET)
    with pool.lease([Need(1, 900)], Deadline.after(LIMIT)):
        state = json.loads((tmp_path / "machines.json").read_text())
        state["leases"][0]["started"] -= 1
        (tmp_path / "machines.json").write_text(json.dumps(state))
        with pool.lease([Need(1, 900)], Deadline.after(LIMIT)):
            assert leases(tmp_path) == [900]


def test_a_deadline_says_who_has_it(tmp_path: Path) -> None:
    with (
        holder(tmp_path) as process,
        pytest.raises(DeadlineError, match=str(process.pid)),
        Pool(tmp_path, BUDGET).lease([Need(1, 500)], Deadline.after(0.1)),
    ):
        pytest.fail("a lease beyond the budget was given")
    assert json.loads((tmp_path / "machines.json").read_text())["queue"] == []


def test_more_memory_than_there_is_is_refused_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(PoolError, match="1001 MiB"),
        Pool(tmp_path, BUDGET).lease([Need(1, 1001)], Deadline.after(LIMIT)),
    ):
        pytest.fail("more memory than there is was given")


def test_more_cores_than_there_are_run_alone(tmp_path: Path) -> None:
    with Pool(tmp_path, BUDGET).lease([Need(8, 500)], Deadline.after(LIMIT)):
        assert leases(tmp_path) == [500]


def test_a_damaged_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "machines.json").write_text("{half")
    with Pool(tmp_path, BUDGET).lease([Need(1, 500)], Deadline.after(LIMIT)):
        assert leases(tmp_path) == [500]


def test_the_hosts_own_budget_is_no_more_than_it_has() -> None:
    budget = Budget.of_host()
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) // 1024
    assert budget.cores >= 1
    assert 0 < budget.mib < total
