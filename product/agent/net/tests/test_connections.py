"""Connections to a server that hangs up, breaks off, keeps silent, or is somebody else."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.net.connections import Connection, Connections, TransientError
from product.agent.net.tests.support_tls import certificate
from product.agent.tests import support_http as support

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[support.Server]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "file").write_bytes(CONTENT)
    with support.serve(served) as running:
        yield running


@pytest.fixture
def connections() -> Iterator[Connections]:
    with Connections(connect=5.0, silence=5.0) as made:
        yield made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The host of every connection that was opened."""
    hosts: list[str] = []
    real = Connection.connect

    def connect(connection: Connection) -> None:
        hosts.append(connection.host)
        real(connection)

    monkeypatch.setattr(Connection, "connect", connect)
    return hosts


def body(connections: Connections, url: str) -> bytes:
    response = connections.get(url, {})
    try:
        read = b""
        while chunk := response.read1(10_000):
            read += chunk
        return read
    finally:
        response.close()


def test_a_host_that_is_none_cannot_be_reached(connections: Connections) -> None:
    with pytest.raises(TransientError, match="cannot reach http://a b/"):
        connections.get("http://a b/", {})


def test_one_connection_serves_several_requests(
    server: support.Server, connections: Connections, opened: list[str]
) -> None:
    for _ in range(3):
        assert body(connections, f"{server.url}/file") == CONTENT
        assert body(connections, f"{server.url}/nothing") == b""
    assert len(opened) == 1


def test_an_idle_connection_that_was_closed_is_opened_again(
    server: support.Server, connections: Connections, opened: list[str]
) -> None:
    def hang_up(handler: support.Handler, data: bytes, start: int) -> None:
        handler.answer(200, data)
        handler.close_connection = True

    server.misbehave("file", hang_up)
    for _ in range(3):
        assert body(connections, f"{server.url}/file") == CONTENT
    assert len(opened) == 3


def test_a_server_that_hangs_up_on_every_request_is_asked_twice_at_most(
    server: support.Server, connections: Connections
) -> None:
    assert body(connections, f"{server.url}/file") == CONTENT

    def hang_up(handler: support.Handler, data: bytes, start: int) -> None:
        handler.close_connection = True

    server.misbehave("file", hang_up)
    with pytest.raises(TransientError, match="cannot reach"):
        connections.get(f"{server.url}/file", {})
    assert len(server.seen) == 3


def test_an_unread_rest_is_not_taken_for_the_next_answer(
    server: support.Server, connections: Connections, opened: list[str]
) -> None:
    response = connections.get(f"{server.url}/file", {})
    assert response.read1(10)
    response.close()
    assert body(connections, f"{server.url}/file") == CONTENT
    assert len(opened) == 2


def test_a_post_brings_its_body_and_its_login(
    server: support.Server, connections: Connections
) -> None:
    got: list[tuple[str, bytes]] = []

    def take(handler: support.Handler, data: bytes, start: int) -> None:
        length = int(handler.headers["Content-Length"])
        got.append((handler.headers["Authorization"], handler.rfile.read(length)))
        handler.answer(204, b"")

    server.misbehave("hook", take)
    url = f"{server.url.replace('//', '//me:word@')}/hook"
    response = connections.post(url, {}, b"{}", time.monotonic() + 5)
    response.close()
    assert response.status == 204
    assert got == [("Basic bWU6d29yZA==", b"{}")]


@pytest.mark.parametrize("sent", [0, 5000])
def test_an_early_end_is_no_end(
    server: support.Server, connections: Connections, sent: int
) -> None:
    server.misbehave("file", support.cut_after(sent), times=1)
    with pytest.raises(TransientError, match=f"{len(CONTENT) - sent} bytes before its end"):
        body(connections, f"{server.url}/file")
    assert body(connections, f"{server.url}/file") == CONTENT


def test_an_unannounced_length_ends_with_the_connection(
    server: support.Server, connections: Connections
) -> None:
    server.misbehave("file", support.unannounced)
    assert body(connections, f"{server.url}/file") == CONTENT


def test_silence_has_an_end(server: support.Server) -> None:
    def keep_silent(handler: support.Handler, data: bytes, start: int) -> None:
        handler.server.over.wait(10)

    server.misbehave("file", keep_silent)
    began = time.monotonic()
    with (
        Connections(connect=30.0, silence=0.1) as connections,
        pytest.raises(TransientError, match="timed out"),
    ):
        connections.get(f"{server.url}/file", {})
    assert time.monotonic() - began < 9


def test_whatever_a_path_holds_is_asked_for(
    server: support.Server, connections: Connections
) -> None:
    assert body(connections, f"{server.url}/a b/\u00e4%20c") == b""
    assert server.seen == [("/a%20b/%C3%A4%20c", None)]


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70, "a..b"])
def test_a_host_that_there_is_not_is_named(connections: Connections, host: str) -> None:
    with pytest.raises(TransientError, match=f"cannot reach http://{host}/"):
        connections.get(f"http://{host}/", {})


def test_https_is_believed_only_with_a_certificate_that_is_trusted(
    server: support.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"{server.url.replace('http:', 'https:')}/file"
    with (
        Connections(connect=5.0, silence=5.0) as connections,
        pytest.raises(AgentError, match="the certificate of "),
    ):
        connections.get(url, {})
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with Connections(connect=5.0, silence=5.0) as connections:
        assert body(connections, url) == CONTENT
        named = url.replace("127.0.0.1", "localhost")
        with pytest.raises(AgentError, match="the certificate of "):
            connections.get(named, {})
