"""The server: what it answers, and what clients cannot do to it."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from product.agent.metrics import server as module
from product.agent.metrics.collect import collect
from product.agent.metrics.server import MAX_CONNECTIONS, Server
from product.agent.tests.world import World

ROOT = Path(__file__).resolve().parents[4]
RUN = "import sys; from product.agent.metrics.server import main; sys.exit(main(sys.argv[1:]))"
FACTS = "# HELP a A.\n# TYPE a gauge\na 1\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """The server as a process, without root's files but the two that it is told."""

    def __init__(self, folder: Path, *addresses: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.listen = folder / "listen"
        self.facts = folder / "facts"
        self.listen.write_text(" ".join([str(self.port), *addresses]) + "\n")
        self.facts.write_text(FACTS)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(self.listen), str(self.facts)],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for address in addresses:
            self.wait("127.0.0.1" if address == "0.0.0.0" else address)

    def wait(self, address: str) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((address, self.port), 5).close()
                return
            except OSError:
                assert time.monotonic() < end, f"nothing listens at {address}"
                assert self.process.poll() is None
                time.sleep(0.05)

    def ask(
        self, path: str = "/metrics", method: str = "GET", host: str = "127.0.0.1"
    ) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(host, self.port, timeout=15)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers
        finally:
            connection.close()

    def raw(self, data: bytes, *, close: bool = True) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), 15) as connection:
            connection.sendall(data)
            if close:
                connection.shutdown(socket.SHUT_WR)
            found = b""
            while part := connection.recv(65536):
                found += part
            return found

    def stop(self) -> str:
        self.process.kill()
        return self.process.communicate(timeout=10)[1]

    @property
    def resident(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*addresses: str) -> Served:
        started.append(Served(tmp_path, *addresses))
        return started[-1]

    yield start
    for served in started:
        served.stop()


def test_what_prometheus_gets(serve: Callable[..., Served]) -> None:
    served = serve("127.0.0.1")
    status, text, headers = served.ask()
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert text.startswith(FACTS)
    assert text.endswith("\n")
    for name in ("uptime_seconds", "memory_total_bytes", "memory_available_bytes"):
        assert f"\nkubesolo_{name} " in text
    age = float(text.split("\nkubesolo_metrics_age_seconds ")[1].split()[0])
    assert 0 <= age < 60


def test_the_age_grows_where_nobody_collects(serve: Callable[..., Served]) -> None:
    served = serve("127.0.0.1")
    os.utime(served.facts, (0, time.time() - 3600))
    text = served.ask()[1]
    assert float(text.split("\nkubesolo_metrics_age_seconds ")[1].split()[0]) >= 3600


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200), ("HEAD", "/metrics", 200), ("GET", "/metrics?name=x", 200),
        ("GET", "/", 404), ("GET", "/metrics/", 404), ("GET", "/etc/passwd", 404),
        ("GET", "/metrics/../../etc/passwd", 404), ("POST", "/metrics", 405),
        ("PUT", "/metrics", 405), ("DELETE", "/metrics", 405), ("HEAD", "/other", 404),
    ],
)  # fmt: skip
def test_one_path_and_two_methods(
    serve: Callable[..., Served], method: str, path: str, status: int
) -> None:
    served = serve("127.0.0.1")
    found, text, headers = served.ask(path, method)
    assert found == status
    assert (text == "") is (method == "HEAD")
    if status == 405:
        assert headers["Allow"] == "GET, HEAD"
    if method == "HEAD" and status == 200:
        assert int(headers["Content-Length"]) > len(FACTS)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /metrics\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"x" * 100_000, b"HTTP/1.1 431 "),
        (b"x" * 9000, b"HTTP/1.1 431 "),
        (b"GET /metrics HTTP/1.0\n\n", b"HTTP/1.1 200 OK"),
        (b"GET /metrics HTT", b""),
        (b"", b""),
    ],
)
def test_what_is_no_request(serve: Callable[..., Served], data: bytes, answer: bytes) -> None:
    served = serve("127.0.0.1")
    found = served.raw(data)
    assert found.startswith(answer)
    assert bool(found) is bool(answer)
    assert served.ask()[0] == 200


def test_before_anything_was_collected(serve: Callable[..., Served]) -> None:
    served = serve("127.0.0.1")
    served.facts.unlink()
    assert served.ask()[0] == 503
    served.facts.write_text(FACTS)
    assert served.ask()[0] == 200


def test_slow_clients_keep_nobody_away(serve: Callable[..., Served]) -> None:
    served = serve("127.0.0.1")
    idle = served.descriptors
    held = []
    for _ in range(MAX_CONNECTIONS * 5):
        connection = socket.create_connection(("127.0.0.1", served.port), 5)
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        held.append(connection)
        if len(held) % MAX_CONNECTIONS == 0:
            assert served.ask()[0] == 200
    assert served.descriptors <= idle + MAX_CONNECTIONS + 1
    for connection in held:
        connection.close()


def test_a_client_that_does_not_read_is_left(tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    facts.write_text("a 1\n" * 200_000)
    server = Server(["127.0.0.1"], 0, str(facts))
    (port,) = server.ports
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        end = time.monotonic() + 5
        while not any(client.answer for client in server._clients.values()):
            server.step(0.1)
            assert time.monotonic() < end
        for client in server._clients.values():
            client.end = time.monotonic()
        server.step(0)
        assert not server._clients
    server.close()


def test_a_request_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    server = Server(["127.0.0.1"], 0, str(tmp_path / "facts"))
    with socket.create_connection(("127.0.0.1", server.ports[0]), 5) as connection:
        end = time.monotonic() + 5
        while not server._clients:
            server.step(0.1)
        while server._clients:
            connection.send(b"x")
            server.step(0.05)
            assert time.monotonic() < end
    server.close()


def test_all_addresses_of_both_families(serve: Callable[..., Served]) -> None:
    served = serve("::")
    for host in ("127.0.0.1", "::1"):
        assert served.ask(host=host)[0] == 200


def test_one_address_is_no_other(serve: Callable[..., Served]) -> None:
    served = serve("::1", "127.0.0.2")
    assert served.ask(host="::1")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        served.ask(host="127.0.0.1")


def test_an_address_that_is_not_there_yet(tmp_path: Path) -> None:
    # TEST-NET-2 and the documentation's prefix: no bridge has come up with them.
    server = Server(["198.51.100.7", "2001:db8::7"], free_port(), str(tmp_path / "facts"))
    server.close()


def test_a_port_that_is_taken_is_an_error_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "listen").write_text(f"{port} 127.0.0.1\n")
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(tmp_path / "listen"), str(tmp_path / "facts")],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert done.returncode == 1
    expected = f"cannot serve at port {port} of 127.0.0.1: "
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1


def test_it_ends_where_it_is_to_listen_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)
    listen = tmp_path / "listen"
    listen.write_text(f"{free_port()} 127.0.0.1\n")
    steps: list[float] = []

    def step(self: Server, seconds: float) -> None:
        steps.append(seconds)
        if len(steps) == 3:
            new = tmp_path / "new"
            new.write_text("\n")
            new.rename(listen)
        time.sleep(seconds)

    monkeypatch.setattr(Server, "step", step)
    assert module.main([str(listen), str(tmp_path / "facts")]) == 0
    assert 3 <= len(steps) < 10


def test_what_is_served_may_be_read_by_anybody_and_is_told_by_the_configuration(
    world: World,
) -> None:
    from product.agent.config import load_config

    def collected(*lines: str) -> str:
        world.write_file(world.paths.config, "".join(f"{line}\n" for line in lines))
        assert collect(world.node(), load_config(world.paths.config)) is on
        return Path(world.paths.metrics, "listen").read_text()

    on = True
    assert collected() == "9100 127.0.0.1\n"
    for name in ("listen", "kubesolo.prom"):
        assert Path(world.paths.metrics, name).stat().st_mode & 0o777 == 0o644
    before = Path(world.paths.metrics, "listen").stat().st_ino
    assert collected() == "9100 127.0.0.1\n"
    assert Path(world.paths.metrics, "listen").stat().st_ino == before
    assert collected("metrics_address=::1, 10.42.0.1", "metrics_port=9200") == (
        "9200 ::1 10.42.0.1\n"
    )
    # What cannot be used is the default, which is reached from the node alone.
    assert collected("metrics_address=localhost") == "9100 127.0.0.1\n"
    Path(world.paths.metrics, "kubesolo.prom").unlink()
    on = False
    assert collected("metrics_address=none") == "\n"
    assert not Path(world.paths.metrics, "kubesolo.prom").exists()


def test_its_memory(serve: Callable[..., Served]) -> None:
    served = serve("127.0.0.1")
    for _ in range(20):
        served.ask()
    assert served.resident < 15_000_000
