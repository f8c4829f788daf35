"""One agent at a time, and who goes first."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from product.agent.errors import BusyError
from product.agent.system import lock
from product.agent.system.lock import GaveWayError, exclusive, give_way


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run/lock")


def test_the_second_is_busy_and_the_holder_is_not_disturbed(path: str) -> None:
    with exclusive(path):
        with pytest.raises(BusyError), exclusive(path):
            pass
        give_way(path)
    with exclusive(path):
        pass


def test_an_urgent_one_goes_first(path: str) -> None:
    order: list[str] = []
    held = threading.Event()

    def hold() -> None:
        try:
            with exclusive(path):
                held.set()
                while True:
                    give_way(path)
                    time.sleep(0.01)
        except GaveWayError:
            order.append("gave way")

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    with exclusive(path, urgent=True):
        order.append("urgent")
        # Whoever holds the lock now is not told to give way to itself.
        give_way(path)
    holder.join(10)
    assert sorted(order) == ["gave way", "urgent"]


def test_a_holder_that_does_not_give_way_is_waited_for_a_while(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "URGENT_SECONDS", 0.2)
    began = time.monotonic()
    with exclusive(path), pytest.raises(BusyError), exclusive(path, urgent=True):
        pass
    assert 0.2 <= time.monotonic() - began < 5
    with exclusive(path):
        give_way(path)


def test_two_urgent_ones_take_turns(path: str) -> None:
    served: list[int] = []

    def act(number: int) -> None:
        with exclusive(path, urgent=True):
            served.append(number)
            time.sleep(0.05)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(4)]
    with exclusive(path):
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        with pytest.raises(GaveWayError):
            give_way(path)
    for thread in threads:
        thread.join(20)
    assert sorted(served) == [0, 1, 2, 3]
