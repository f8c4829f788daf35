"""Each step of an update is posted, and no server keeps the update waiting."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from product.agent.tests.support_proxy import serve_proxy
from product.agent.tests.world import FakeRelease, World

GOOD = FakeRelease("0.2.0")


class Receiver(HTTPServer):
    """Keeps what was posted to it; ``refusals`` is how often it answers 503 first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, object]] = []
        self.logins: list[str | None] = []
        self.refusals = 0

    def wait(self, count: int) -> list[dict[str, object]]:
        end = time.monotonic() + 20
        while len(self.bodies) < count and time.monotonic() < end:
            time.sleep(0.01)
        return sorted(self.bodies, key=lambda body: str(body["time"]))


class Handler(BaseHTTPRequestHandler):
    """One POST."""

    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.refusals:
            self.server.refusals -= 1
            self.send_error(503)
            return
        self.server.logins.append(self.headers["Authorization"])
        self.server.bodies.append(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def point(world: World, url: str) -> None:
    with Path(world.paths.config).open("a") as config:
        config.write(f"webhook_url={url}\n")


def test_each_step_is_told(world: World, receiver: Receiver) -> None:
    point(world, f"http://edge:p%40ss@127.0.0.1:{receiver.server_port}/hook?x=1")
    world.write_file(world.paths.hostname, "edge-07\n")
    world.offered = GOOD
    assert world.run("apply") == 0
    bodies = receiver.wait(3)
    assert {(b["from"], b["phase"]) for b in bodies} == {
        ("idle", "checking"),
        ("checking", "downloading"),
        ("downloading", "staged"),
    }
    last = next(body for body in bodies if body["phase"] == "staged")
    assert len(str(last.pop("identity"))) == 64
    assert last == {
        "schema": 1,
        "event": "transition",
        "node": "edge-07",
        "time": "2027-01-15T08:00:00Z",
        "version": "0.1.0",
        "from": "downloading",
        "phase": "staged",
        "from_version": "0.1.0",
        "to_version": "0.2.0",
        "reason": None,
    }
    assert set(receiver.logins) == {"Basic ZWRnZTpwQHNz"}


def test_it_is_told_later_where_the_server_is_not_up_yet(world: World, receiver: Receiver) -> None:
    receiver.refusals = 3
    point(world, f"http://127.0.0.1:{receiver.server_port}/")
    world.offered = GOOD
    assert world.run("apply") == 0
    assert len(receiver.wait(3)) == 3


def test_a_server_that_never_answers_keeps_nobody_waiting(world: World) -> None:
    """Nor does it keep the lock, or the pipe of whoever reads the command's output."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point(world, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        world.offered = GOOD
        reader, writer = os.pipe()
        begun = time.monotonic()
        assert world.run("apply") == 0
        assert world.run("activate") == 0
        assert time.monotonic() - begun < 5
        os.close(writer)
        os.set_blocking(reader, False)
        assert os.read(reader, 1) == b""
        os.close(reader)


def test_it_goes_through_the_proxy_and_never_with_the_login_of_releases(
    world: World, receiver: Receiver
) -> None:
    with serve_proxy() as proxy:
        proxy.names["hooks.example.com"] = "127.0.0.1"
        address = f"http://hooks.example.com:{receiver.server_port}"
        point(world, f"{address}/hook")
        with Path(world.paths.config).open("a") as config:
            config.write(f"proxy={proxy.url}\nusername=edge\npassword=open sesame\n")
        world.offered = GOOD
        assert world.run("apply") == 0
        assert len(receiver.wait(3)) == 3
        assert set(proxy.seen) == {("POST", f"{address}/hook")}
    assert set(receiver.logins) == {None}


def test_no_login_is_told(world: World, receiver: Receiver) -> None:
    point(world, f"http://127.0.0.1:{receiver.server_port}/")
    record_error(world, "server-unreachable: http://edge:secret@updates.example/ gave no answer")
    told = next(body for body in receiver.wait(2) if body["phase"] == "failed")
    assert told["reason"] == "server-unreachable: http://***@updates.example/ gave no answer"


def record_error(world: World, text: str) -> None:
    from product.agent.update.record import Record

    record = Record(world.node())
    record.save(record.state.begin("0.1.0", 0))
    record.save(record.state.fail(text))
