"""Which servers a pod may name."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.config import Config, load_config
from product.agent.errors import AgentError
from product.agent.net.connections import TransientError
from product.agent.net.guard import permit_for
from product.agent.settings import check_value
from product.agent.sources.exchange import new_connections, open_url
from product.agent.sources.protocol import FetchPolicy
from product.agent.tests import support_http as http

POLICY = FetchPolicy(connect=0.2)


def config(pod_servers: str = "", *, by_pod: bool = True) -> Config:
    return Config(pod_servers=pod_servers, server_from_pod=by_pod)


def ask(settings: Config, url: str) -> int:
    permit = permit_for(settings)
    with new_connections(POLICY, url, permit=permit) as connections:
        response = open_url(connections, url)
        response.close()
        return response.status


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.Server]:
    (tmp_path / "served").mkdir()
    with http.serve(tmp_path / "served") as running:
        yield running


def test_the_nodes_own_server_is_asked_wherever_it_is(server: http.Server) -> None:
    assert ask(config(by_pod=False), server.url) == 404


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.9.9.9", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "0", "0.1.2.3",
        "localhost", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1",
        "[::1]", "[::]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[ff02::1]",
    ],
)  # fmt: skip
def test_addresses_of_the_node_and_its_link_are_refused(server: http.Server, host: str) -> None:
    port = server.server_address[1]
    with pytest.raises(AgentError) as caught:
        ask(config(), f"http://{host}:{port}/")
    assert caught.value.code == "server-refused"
    assert "pod_servers=" in str(caught.value.hint)
    assert server.seen == []


@pytest.mark.parametrize("host", ["10.0.0.7", "192.168.1.1", "203.0.113.9", "2001:db8::7"])
def test_others_are_not(host: str) -> None:
    permit = permit_for(config())
    assert permit is not None
    permit(host, 80, host)


def test_the_address_counts_and_not_the_name(
    server: http.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: str, *rest: int) -> object:
        return real("127.0.0.1" if host == "updates.example" else host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(AgentError, match=r"updates\.example \(127\.0\.0\.1\)") as caught:
        ask(config(), f"http://updates.example:{server.server_address[1]}/")
    assert caught.value.code == "server-refused"
    assert server.seen == []


def test_a_redirect_leads_to_no_other_place(server: http.Server, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with http.serve(tmp_path / "own") as own:
        server.misbehave("", http.redirect(f"{own.url}/admin"))
        allowed = server.url.removeprefix("http://")
        with pytest.raises(AgentError) as caught:
            ask(config(allowed), f"{server.url}/x")
        assert caught.value.code == "server-refused"
        assert (len(server.seen), own.seen) == (1, [])


def test_an_operator_allows_by_host_and_port(server: http.Server) -> None:
    port = server.server_address[1]
    for listed in (f"127.0.0.1:{port}", f"other, 127.0.0.1:{port}", f"a.b:1 127.0.0.1:{port}"):
        assert ask(config(listed), server.url) == 404
    for listed in ("127.0.0.1", "127.0.0.1:1", f"localhost:{port}", f"127.0.0.2:{port}"):
        with pytest.raises(AgentError, match="may not name"):
            ask(config(listed), server.url)


@pytest.mark.parametrize("listed", ["127.0.0.1", "127.0.0.1:80", "[::1] 127.0.0.1"])
def test_a_host_alone_means_the_schemes_own_port(listed: str) -> None:
    with pytest.raises(TransientError, match="cannot reach"):
        ask(config(listed), "http://127.0.0.1:80/")


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        ("127.0.0.1:8080", True), ("localhost", True), ("[::1]:80, a.example,b", True),
        ("::1", False), ("http://h/", False), ("a,,b", True), ("a/8", False), ("h:", False),
    ],
)  # fmt: skip
def test_the_list_is_checked(tmp_path: Path, value: str, usable: bool) -> None:
    assert (check_value("pod_servers", value) is None) is usable
    path = tmp_path / "update.conf"
    path.write_text(f"pod_servers={value}\n")
    assert load_config(str(path)).pod_servers == (value if usable else "")
