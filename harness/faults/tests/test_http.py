"""The web server serves what a plain one serves, and each of its faults happens and says so."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.faults.http import Fault, WebServer

DATA = hashlib.shake_128(b"artifact").digest(200_000)
LIMIT = 20.0


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    root = tmp_path / "root"
    (root / "artifacts").mkdir(parents=True)
    (root / "artifacts/a").write_bytes(DATA)
    (tmp_path / "secret").write_text("outside")
    with WebServer(root) as server:
        yield server


def get(web: WebServer, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=LIMIT)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


def test_a_file_is_served_whole(web: WebServer) -> None:
    assert get(web, "/artifacts/a?query")[:2] == (200, DATA)
    assert web.url == f"http://10.0.2.2:{web.port}"


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-", 206, 0, 200_000),
        ("bytes=150000-", 206, 150_000, 200_000),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=199999-999999", 206, 199_999, 200_000),
        ("bytes=200000-", 416, 0, 0),
        ("bytes=-5", 200, 0, 200_000),  # not offered, so ignored as HTTP allows
    ],
)
def test_ranges(web: WebServer, asked: str, status: int, start: int, stop: int) -> None:
    found, body, headers = get(web, "/artifacts/a", Range=asked)
    assert (found, body) == (status, DATA[start:stop])
    if status == 206:
        assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/200000"
    if status == 416:
        assert headers["Content-Range"] == "bytes */200000"
    assert web.wait_requests(1, Deadline.after(LIMIT))[0].range == asked


def test_a_server_without_ranges_sends_everything(web: WebServer) -> None:
    web.ranges = False
    assert get(web, "/artifacts/a", Range="bytes=100-")[:2] == (200, DATA)


@pytest.mark.parametrize("path", ["/missing", "/artifacts", "/../secret", "/%2e%2e/secret"])
def test_nothing_else_is_served(web: WebServer, path: str) -> None:
    assert get(web, path)[:2] == (404, b"")


def test_an_error_for_so_many_times(web: WebServer) -> None:
    fault = web.fail("/artifacts/*", 503, times=2)
    assert not fault.fired.is_set()
    assert [get(web, "/artifacts/a")[0] for _ in range(3)] == [503, 503, 200]
    assert fault.fired.is_set()
    answered = web.wait_requests(3, Deadline.after(LIMIT))
    assert [request.status for request in answered] == [503, 503, 200]


def test_a_cut_ends_the_connection_after_so_many_bytes(web: WebServer) -> None:
    fault = web.cut("/artifacts/a", 70_000)
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(web, "/artifacts/a")
    assert caught.value.partial == DATA[:70_000]
    assert fault.fired.is_set()
    assert get(web, "/artifacts/a", Range="bytes=70000-")[:2] == (206, DATA[70_000:])
    answered = web.wait_requests(2, Deadline.after(LIMIT))
    assert [request.sent for request in answered] == [70_000, 130_000]


def test_a_held_request_goes_on_when_released(web: WebServer) -> None:
    fault = web.hold("/artifacts/a", 50_000)
    answers: list[tuple[int, bytes, dict[str, str]]] = []
    thread = threading.Thread(target=lambda: answers.append(get(web, "/artifacts/a")))
    thread.start()
    fault.wait_fired(Deadline.after(LIMIT))
    assert answers == []
    fault.release()
    thread.join(LIMIT)
    assert answers[0][:2] == (200, DATA)


def test_a_tampered_byte_is_the_only_difference(web: WebServer) -> None:
    fault = web.tamper("/artifacts/*", 123_456)
    body = get(web, "/artifacts/a")[1]
    assert [i for i, pair in enumerate(zip(body, DATA, strict=True)) if pair[0] != pair[1]] == [
        123_456
    ]
    assert fault.fired.is_set()


def test_tampering_outside_what_was_asked_does_not_count(web: WebServer) -> None:
    fault = web.tamper("/artifacts/*", 5, times=1)
    assert get(web, "/artifacts/a", Range="bytes=100-")[1] == DATA[100:]
    web.wait_requests(1, Deadline.after(LIMIT))
    assert not fault.fired.is_set()
    assert fault.count == 0
    # Nor has it used up the fault.
    assert get(web, "/artifacts/a")[1] != DATA
    assert fault.count == 1
    assert get(web, "/artifacts/a")[1] == DATA
    assert fault.count == 1


@pytest.mark.parametrize(
    "add",
    [
        lambda web: web.cut("*", len(DATA)),
        lambda web: web.hold("*", len(DATA)),
        lambda web: web.truncate("*", len(DATA)),
        lambda web: web.tamper("*", len(DATA)),
    ],
    ids=["cut", "hold", "truncate", "tamper"],
)
def test_a_fault_behind_the_end_of_the_file_does_not_count(
    web: WebServer, add: Callable[[WebServer], Fault]
) -> None:
    fault = add(web)
    assert get(web, "/artifacts/a")[1] == DATA
    assert get(web, "/missing")[0] == 404
    web.wait_requests(2, Deadline.after(LIMIT))
    assert (fault.count, fault.fired.is_set()) == (0, False)


@pytest.mark.parametrize(
    "add",
    [
        lambda web: web.fail("*"),
        lambda web: web.cut("*", 10, times=None),
        lambda web: web.truncate("*", 10),
        lambda web: web.tamper("*", 10),
        lambda web: web.throttle("*", 10_000_000),
    ],
    ids=["fail", "cut", "truncate", "tamper", "throttle"],
)
def test_each_changed_answer_counts_once(web: WebServer, add: Callable[[WebServer], Fault]) -> None:
    fault = add(web)
    for _ in range(2):
        with contextlib.suppress(http.client.IncompleteRead):
            get(web, "/artifacts/a")
    assert fault.count == 2


def test_a_request_under_way_holds_one_of_the_times(web: WebServer) -> None:
    """Two that come at once do not both get what is for one."""
    first = web.take_fault("/a")
    assert first is None
    fault = web.tamper("*", 5, times=1)
    assert web.take_fault("/a") is fault
    assert web.take_fault("/a") is None
    web.return_fault(fault)
    assert web.take_fault("/a") is fault


def test_a_truncated_file_looks_complete(web: WebServer) -> None:
    web.truncate("/artifacts/a", 1000)
    status, body, headers = get(web, "/artifacts/a")
    assert (status, body, headers["Content-Length"]) == (200, DATA[:1000], "1000")


def test_a_throttled_transfer_takes_its_time(web: WebServer) -> None:
    web.throttle("/artifacts/a", 400_000)
    begun = time.monotonic()
    assert get(web, "/artifacts/a")[1] == DATA
    assert time.monotonic() - begun > 0.4


def test_other_paths_are_not_affected_and_faults_can_be_cleared(web: WebServer) -> None:
    web.fail("/metadata/*", 500)
    assert get(web, "/artifacts/a")[0] == 200
    web.fail("/artifacts/*", 500)
    web.clear()
    assert get(web, "/artifacts/a")[0] == 200


def test_a_fired_fault_is_recorded_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    fired: list[str] = []
    with WebServer(tmp_path, record=fired.append) as web:
        web.fail("/a", 500)
        get(web, "/a")
        get(web, "/a")
    assert fired == ["status 500 for /a"]


def test_closing_does_not_wait_for_a_held_request(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    web = WebServer(tmp_path)
    fault = web.hold("/a", 10)
    thread = threading.Thread(target=lambda: get(web, "/a"))
    thread.start()
    fault.wait_fired(Deadline.after(LIMIT))
    web.close()
    thread.join(LIMIT)
    assert not thread.is_alive()
