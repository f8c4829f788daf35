"""A configuration that a server holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.net.connections import Connections
from product.agent.sources.exchange import new_connections
from product.agent.tests.support_http import Server, serve, status
from product.cloudinit.errors import CloudInitError
from product.cloudinit.fetch import fetch, fetch_patiently, main
from product.cloudinit.sources import MAX_BYTES, find_seeds
from product.cloudinit.tests.support_node import DISK, ESP, FakeNode, write

DATA = {"user-data": "#cloud-config\nhostname: edge-07\n", "meta-data": "instance-id: a\n"}


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "node")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    write(tmp_path / "served", DATA)
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def connections() -> Iterator[Connections]:
    with new_connections() as made:
        yield made


def test_the_files_are_kept_for_the_next_boot(
    node: FakeNode, server: Server, connections: Connections
) -> None:
    node.serial(f"ds=nocloud;s={server.url}/")
    fetch(f"{server.url}/", node, connections)
    (seed,), _ = find_seeds(node, DISK, ESP)
    assert seed.files == {name: text.encode() for name, text in DATA.items()}
    assert node.file("/var/lib/kubesolo/config/fetched").stat().st_mode & 0o777 == 0o700


def test_a_server_without_user_data_is_asked_again(
    node: FakeNode, server: Server, connections: Connections
) -> None:
    server.misbehave("user-data", status(404))
    with pytest.raises(CloudInitError, match="has no user-data"):
        fetch(server.url, node, connections)
    assert not node.file("/var/lib/kubesolo/config/fetched").exists()


def test_an_error_of_the_server_is_not_a_missing_file(
    node: FakeNode, server: Server, connections: Connections
) -> None:
    server.misbehave("network-config", status(503))
    with pytest.raises(AgentError, match="answered 503"):
        fetch(server.url, node, connections)


def test_a_file_without_end_is_refused(
    node: FakeNode, server: Server, connections: Connections, tmp_path: Path
) -> None:
    (tmp_path / "served/user-data").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(CloudInitError, match=f"more than {MAX_BYTES}"):
        fetch(server.url, node, connections)


def test_it_tries_until_the_network_is_there_and_says_each_failure_once(
    node: FakeNode, server: Server
) -> None:
    server.misbehave("user-data", status(503), times=3)
    pauses: list[float] = []
    lines: list[str] = []
    fetch_patiently(server.url, node, lines.append, pauses.append)
    assert pauses == [5.0, 10.0, 20.0]
    assert len(lines) == 1
    assert "503" in lines[0]


@pytest.mark.parametrize("code", [404, 401, 503])
def test_a_login_is_sent_and_not_said(node: FakeNode, server: Server, code: int) -> None:
    server.misbehave("user-data", status(code), times=1)
    lines: list[str] = []
    url = server.url.replace("//", "//me:word@")
    fetch_patiently(url, node, lines.append, lambda seconds: None)
    assert {headers.get("authorization") for headers in server.headers} == {"Basic bWU6d29yZA=="}
    assert len(lines) == 1
    assert "word" not in lines[0]


def run(node: FakeNode, server: Server, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The service; whether it rebooted."""
    rebooted: list[object] = []
    monkeypatch.setattr("product.cloudinit.fetch.program.require", rebooted.append)
    node.serial(f"ds=nocloud;s={server.url}/")
    node.boot()
    assert main([f"{server.url}/", DISK, ESP], node) == 0
    return bool(rebooted)


def kept(node: FakeNode, how: str) -> None:
    write(node.file("/run/kubesolo"), {"early": f"slot=A\ndata={how}\n"})


def test_it_reboots_once_for_what_is_new(
    node: FakeNode, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(node, "persistent")
    assert run(node, server, monkeypatch)
    assert node.boot().outcome == "unchanged"
    assert not run(node, server, monkeypatch)


def test_it_does_not_reboot_where_nothing_is_kept(
    node: FakeNode, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(node, "volatile")
    assert not run(node, server, monkeypatch)


def test_a_faulty_file_is_fetched_again_at_the_next_boot(
    node: FakeNode, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept(node, "persistent")
    write(tmp_path / "served", {"user-data": "<html>Log in</html>"})
    assert not run(node, server, monkeypatch)
    assert node.boot().outcome == "waiting"
    write(tmp_path / "served", DATA)
    assert run(node, server, monkeypatch)
    assert node.file("/etc/kubesolo/hostname").read_text() == "edge-07\n"
