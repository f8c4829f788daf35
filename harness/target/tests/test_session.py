"""A session's machines are had at once or not at all, and none outlives it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from harness.errors import HarnessError, PoolError
from harness.journal.journal import Journal
from harness.qemu.machine import Host, Machine
from harness.qemu.pool import Budget, Pool
from harness.qemu.snapshots import States
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools
from harness.target.session import Session

LIMIT = 30.0
# Room for three machines of 128 MiB with QEMU's own memory.
BUDGET = Budget(cores=2, mib=1000)

NewSession = Callable[..., Session]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool", BUDGET)


@pytest.fixture
def new_session(tmp_path: Path, pool: Pool) -> NewSession:
    def make(name: str = "one") -> Session:
        return Session(
            name,
            MachineSpec.model_validate(
                {"arch": "x86_64", "image": tmp_path / "disk.img", "memory_mib": 128}
            ),
            Host(cast(HostTools, None), "tcg", 1.0, tmp_path / "runs"),
            image="digest",
            states=States(tmp_path / "states"),
            pool=pool,
            artefacts=tmp_path / name,
            reproduce="again",
        )

    return make


def leases(tmp_path: Path) -> list[int]:
    text = (tmp_path / "pool" / "machines.json").read_text()
    return [entry["mib"] for entry in json.loads(text)["leases"]]


def test_sessions_of_several_nodes_do_not_wait_for_each_other(
    new_session: NewSession, tmp_path: Path
) -> None:
    """Two of two do not fit at once; one that held half and waited would wait for ever."""
    both = threading.Barrier(2, timeout=LIMIT)
    names: list[str] = []

    def work(name: str) -> None:
        session = new_session(name)
        both.wait()
        nodes = session.nodes_at_once("first", "second")
        names.extend(node.name for node in nodes)
        session.close(None)

    threads = [threading.Thread(target=work, args=[name], daemon=True) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(names) == ["first", "first", "second", "second"]
    assert leases(tmp_path) == []


def test_nodes_of_one_session_may_differ(new_session: NewSession, tmp_path: Path) -> None:
    session = new_session()
    small, large = session.nodes_at_once("small", ("large", {"memory_mib": 256}), network=False)
    assert (small.spec.memory_mib, large.spec.memory_mib) == (128, 256)
    assert not small.spec.network
    assert not large.spec.network
    assert leases(tmp_path) == [small.spec.pool_mib + large.spec.pool_mib]
    session.close(None)


def test_a_node_asked_for_later_is_refused_at_once(new_session: NewSession) -> None:
    session = new_session()
    session.node("first")
    with pytest.raises(HarnessError, match=r"second.*first") as caught:
        session.node("second")
    assert caught.value.hint is not None
    assert "at once" in caught.value.hint
    session.close(None)


def test_two_nodes_of_one_name_are_a_mistake(new_session: NewSession) -> None:
    session = new_session()
    with pytest.raises(HarnessError, match="same name among one"):
        session.nodes_at_once("one", ("one", {"memory_mib": 256}))
    session.close(None)


def test_what_never_fits_is_refused_with_its_size(new_session: NewSession, tmp_path: Path) -> None:
    session = new_session()
    with pytest.raises(PoolError, match=r"4 machines need 1312 MiB.*1000 MiB"):
        session.nodes_at_once("a", "b", "c", "d")
    session.close(None)
    assert leases(tmp_path) == []


class FailingMachine:
    """A machine whose end fails in a way that nobody thought of."""

    def __init__(self, machine: Machine, error: BaseException) -> None:
        self.journal = machine.journal
        self.artefacts = machine.artefacts
        self.running = False
        self.error = error

    def close(self) -> None:
        raise self.error

    quit = close

    def keep_disk(self) -> None:
        raise self.error


class OffMachine:
    """What a session asks of a machine that is off."""

    def __init__(self, artefacts: Path) -> None:
        self.journal = Journal()
        self.artefacts = artefacts
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("failure", [None, "the test failed"])
@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_no_failure_of_one_nodes_end_keeps_the_others_or_the_lease(
    new_session: NewSession, tmp_path: Path, failure: str | None, error: BaseException
) -> None:
    session = new_session()
    bad, good = session.nodes_at_once("bad", "good")
    off = OffMachine(tmp_path)
    bad._target = cast(Machine, FailingMachine(cast(Machine, OffMachine(tmp_path)), error))
    good._target = cast(Machine, off)
    held: list[str] = []
    bad._scope.callback(held.append, "let go")
    expected = HarnessError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected, match="ValueError: a bug" if expected is HarnessError else None):
        session.close(failure)
    assert off.closed
    assert held == ["let go"]
    assert leases(tmp_path) == []
    result = json.loads((tmp_path / "one" / "result.json").read_text())
    assert result["failure"] == failure
