"""Servers that take their time: no exchange outlasts its deadline, whatever keeps it going."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.health.probe import ProbeError, get_status
from product.agent.kubernetes.api import WAITS, ApiClient, ApiError
from product.agent.kubernetes.kubeconfig import Access
from product.agent.net.connections import Connections, Response, TransientError
from product.agent.net.tests.support_tls import certificate
from product.agent.sources.exchange import open_url
from product.agent.tests import support_http as http

# What the deadlines below may be missed by on a busy host.
SLACK = 10.0
SLOW = [
    pytest.param(http.silent, id="silence"),
    pytest.param(http.dripping_headers, id="a header that drips"),
    pytest.param(http.continuing, id="100 Continue without end"),
]
SLOW_BODIES = [
    pytest.param(http.dripping, id="a body that drips"),
    pytest.param(http.dripping_chunks, id="a chunk's size that drips"),
    pytest.param(http.dripping_trailers, id="trailers without end"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.Server]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "file").write_bytes(bytes(1000))
    with http.serve(served) as running:
        yield running


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + SLACK


def read_all(response: Response) -> None:
    while response.read1(100):
        pass


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each connection is given to ``serve`` in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)


def no_handshake(connection: socket.socket) -> None:
    """Send one byte of a TLS record now and then."""
    with contextlib.suppress(OSError), connection:
        connection.sendall(b"\x16\x03\x03\x40\x00")
        for _ in range(600):
            time.sleep(0.05)
            connection.sendall(b"\x02")


@pytest.mark.parametrize("behaviour", SLOW)
def test_an_answer_has_a_deadline(server: http.Server, behaviour: http.Behaviour) -> None:
    server.misbehave("file", behaviour)
    with (
        Connections(connect=20.0, silence=20.0) as connections,
        within(0.5),
        pytest.raises(TransientError, match="timed out"),
    ):
        connections.get(f"{server.url}/file", {}, time.monotonic() + 0.5)


@pytest.mark.parametrize("behaviour", SLOW_BODIES)
def test_a_body_is_part_of_the_exchange(server: http.Server, behaviour: http.Behaviour) -> None:
    server.misbehave("file", behaviour)
    with Connections(connect=20.0, silence=20.0) as connections, within(0.5):
        response = connections.get(f"{server.url}/file", {}, time.monotonic() + 0.5)
        with pytest.raises(TransientError, match="timed out"):
            read_all(response)
        response.close()


def test_redirects_share_one_deadline(server: http.Server) -> None:
    server.misbehave("file", http.slow_redirects(0.3))
    with (
        Connections(connect=20.0, silence=20.0) as connections,
        within(0.7),
        pytest.raises(TransientError, match="timed out"),
    ):
        open_url(connections, f"{server.url}/file", until=time.monotonic() + 0.7)
    assert len(server.seen) <= 3


def test_a_handshake_has_a_deadline() -> None:
    with (
        listener(no_handshake) as port,
        Connections(connect=20.0, silence=20.0) as connections,
        within(0.5),
        pytest.raises(TransientError, match="timed out"),
    ):
        connections.get(f"https://127.0.0.1:{port}/", {}, time.monotonic() + 0.5)


def test_a_name_server_that_says_nothing_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    over = threading.Event()

    def silent(host: str, port: int, family: int, kind: int, *rest: int) -> object:
        if not rest:
            over.wait(30)
        return real(host, port, family, kind, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with (
        Connections(connect=20.0, silence=20.0) as connections,
        within(0.5),
        pytest.raises(TransientError, match="timed out"),
    ):
        connections.get("http://releases.invalid/", {}, time.monotonic() + 0.5)
    over.set()


@pytest.mark.parametrize("behaviour", SLOW)
def test_a_wait_can_be_interrupted(server: http.Server, behaviour: http.Behaviour) -> None:
    server.misbehave("file", behaviour)
    end = time.monotonic() + 0.3

    def interrupt() -> None:
        if time.monotonic() > end:
            raise AgentError("enough")

    with (
        Connections(connect=20.0, silence=20.0, interrupt=interrupt) as connections,
        within(1.0),
        pytest.raises(AgentError, match="enough"),
    ):
        connections.get(f"{server.url}/file", {}, time.monotonic() + 20)


def test_a_connection_is_used_again_after_its_first_exchange_is_over(server: http.Server) -> None:
    with Connections(connect=20.0, silence=20.0) as connections:
        for _ in range(2):
            response = connections.get(f"{server.url}/file", {}, time.monotonic() + 5)
            assert len(response.read1(2000)) == 1000
            response.allow(0)
            response.close()


@pytest.mark.parametrize("behaviour", SLOW)
def test_the_probe_has_its_own_deadline(server: http.Server, behaviour: http.Behaviour) -> None:
    server.misbehave("file", behaviour)
    with within(0.5), pytest.raises(ProbeError, match=r"gave no answer: timed out"):
        get_status(f"{server.url}/file", 0.5)


@pytest.mark.parametrize("behaviour", [*SLOW, *SLOW_BODIES])
def test_the_api_server_has_one(
    server: http.Server, tmp_path: Path, behaviour: http.Behaviour
) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    text = pem.read_text()
    authority = text[text.index("-----BEGIN CERTIFICATE") :]
    client = ApiClient(Access("127.0.0.1", server.server_address[1], authority, token="t"))
    assert client.get("/file", 5) == bytes(1000)
    server.misbehave("file", behaviour)
    with within(WAITS * 0.3), pytest.raises(ApiError, match="cannot be asked"):
        client.get("/file", 0.3)


def test_the_api_servers_handshake_has_one(tmp_path: Path) -> None:
    text = certificate(tmp_path).read_text()
    authority = text[text.index("-----BEGIN CERTIFICATE") :]
    with listener(no_handshake) as port:
        client = ApiClient(Access("127.0.0.1", port, authority, token="t"))
        with within(WAITS * 0.3), pytest.raises(ApiError, match="cannot be asked"):
            client.get("/file", 0.3)
