"""The health call on containerd's socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.kubernetes.containerd import PREFACE, ContainerdError, ask_health
from product.agent.tests.support_cluster import FakeContainerd


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[tuple[FakeContainerd, str]]:
    path = str(tmp_path / "c.sock")
    containerd = FakeContainerd(path)
    yield containerd, path
    containerd.stop()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("serving", "containerd serves"),
        ("in pieces", "containerd serves"),
        ("no health service", "containerd answers; it has no health service"),
    ],
)
def test_who_answers_is_well(peer: tuple[FakeContainerd, str], answer: str, words: str) -> None:
    peer[0].answer = answer
    assert ask_health(peer[1], 2) == words
    assert peer[0].heard.startswith(PREFACE)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("not serving", "says that it does not serve"),
        ("stopping", "it is stopping"),
        ("settings for ever", "everything but the question"),
        ("another protocol", "does not speak HTTP/2"),
        ("closed", "closed the connection"),
        ("silence", "did not answer within"),
        ("cut off", "did not answer within"),
    ],
)
def test_who_does_not_serve_is_not(
    peer: tuple[FakeContainerd, str], answer: str, complaint: str
) -> None:
    peer[0].answer = answer
    begun = time.monotonic()
    with pytest.raises(ContainerdError, match=complaint):
        ask_health(peer[1], 0.3)
    assert time.monotonic() - begun < 2


def test_no_socket_and_nobody_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with pytest.raises(ContainerdError, match="there is no socket"):
        ask_health(str(path), 1)
    path.write_bytes(b"")
    with pytest.raises(ContainerdError, match=r"c\.sock"):
        ask_health(str(path), 1)
