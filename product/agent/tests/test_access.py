"""A node behind a proxy, with a server that wants certificates and a login."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.net.tests.support_tls import Authority, server_context
from product.agent.services.requests import main
from product.agent.tests import support_http as http
from product.agent.tests.support_proxy import Proxy, serve_proxy
from product.agent.tests.test_end_to_end import Publisher
from product.agent.tests.world import FakeRelease, World

NAME = "releases.example.com"
PROXY_LOGIN = "Basic ZWRnZTpyZWxheS13b3Jk"
TOKEN = "abcdefgh.ijklmnop"


class Site:
    """What stands between a node and its release server."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch, server: http.Server) -> None:
        self.server = server
        publisher = Publisher(base)
        publisher.httpd.server_close()
        publisher.publish(FakeRelease("0.2.0"))
        shutil.copytree(publisher.directory, server.directory, dirs_exist_ok=True)
        authority = Authority(base / "pki")
        clients = Authority(base / "clients", "clients")
        context = server_context(authority.issue("server", NAME), clients.path)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        certificate, key = clients.issue("node")
        self.address = f"https://{NAME}:{server.server_address[1]}"
        self.settings = {
            "server": self.address,
            "pubkey": str(publisher.pubkey),
            "ca_certificates": str(authority.path),
            "client_certificate": str(certificate),
            "client_key": str(key),
            "bearer_token": TOKEN,
        }
        self.world = World(base / "node", patch, real_server=True)

    def configure(self, **more: str) -> None:
        lines = [f"{key}={value}\n" for key, value in (self.settings | more).items() if value]
        self.world.write_file(self.world.paths.config, "".join(lines))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("product.agent.trust.fetcher.FILE_SECONDS", 3.0)
    (tmp_path / "served").mkdir()
    with http.serve(tmp_path / "served") as server:
        yield Site(tmp_path, monkeypatch, server)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with serve_proxy(PROXY_LOGIN) as running:
        running.names[NAME] = "127.0.0.1"
        yield running


def test_an_update_comes_through_all_of_it(
    site: Site, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    site.configure(proxy=proxy.url_with("edge:relay-word"))
    assert site.world.run("apply") == 0
    assert {one.get("authorization") for one in site.server.headers} == {f"Bearer {TOKEN}"}
    assert {command for command, _ in proxy.seen} == {"CONNECT"}
    assert any(path.startswith("/artifacts") for path, _ in site.server.seen)
    capsys.readouterr()
    assert site.world.run("status") == 0
    said = capsys.readouterr().out
    assert f"access: through the proxy http://***@127.0.0.1:{proxy.server_address[1]}" in said
    assert "a client certificate, a bearer token" in said


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"proxy": ""}, "server-unreachable"),
        ({"proxy": "URL"}, "proxy-login-required"),
        ({"proxy": "http://127.0.0.1:1"}, "proxy-unreachable"),
        ({"ca_certificates": ""}, "certificate-untrusted"),
        ({"client_key": "/nowhere"}, "certificate-unreadable"),
        ({"ca_certificates": "/nowhere"}, "certificate-unreadable"),
        ({"rate_limit": "fast"}, "bad-configuration"),
        ({"client_key": ""}, "bad-configuration"),
    ],
)
def test_each_thing_that_is_missing_has_its_code(
    site: Site, proxy: Proxy, more: dict[str, str], code: str
) -> None:
    named = {key: proxy.url if value == "URL" else value for key, value in more.items()}
    site.configure(**({"proxy": proxy.url_with("edge:relay-word")} | named))
    assert site.world.run("apply") == 1
    if code != "bad-configuration":
        assert str(site.world.state()["last_error"]).startswith(f"{code}: ")
    assert site.server.seen == []


def test_no_failure_shows_a_secret(
    site: Site, proxy: Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "-" + Path(site.settings["client_key"]).read_text().splitlines()[1]
    site.configure(proxy=proxy.url_with("edge:relay-word"))
    site.server.misbehave("metadata", http.status(401), times=2)
    site.server.misbehave("metadata", http.status(403), times=2)
    for command in ("check", "apply", "status", "history"):
        site.world.run(command)
        site.world.run(command, "--json")
    proxy.login = "another"
    site.world.run("check")
    assert site.world.run("support", "--output", str(tmp_path / "bundle.tar.gz")) == 0
    shutil.unpack_archive(tmp_path / "bundle.tar.gz", tmp_path / "bundle")
    output = capsys.readouterr()
    config = site.world.paths.config
    found = [
        path.read_text(errors="replace")
        for folder in (tmp_path / "bundle", Path(site.world.paths.root))
        for path in folder.rglob("*")
        if path.is_file() and str(path) != config
    ]
    assert "login-refused" in output.out
    for text in (output.out, output.err, *found):
        for secret in (TOKEN, "relay-word", PROXY_LOGIN.split()[1], key[1:]):
            assert secret not in text


def test_a_pods_server_gets_no_login_and_no_way_through_the_proxy(
    site: Site, proxy: Proxy, tmp_path: Path
) -> None:
    site.configure(proxy=proxy.url_with("edge:relay-word"), pod_servers="127.0.0.1:1,127.0.0.1")
    folder = Path(site.world.paths.data) / "requests"
    folder.mkdir(parents=True)
    (tmp_path / "pods").mkdir()
    with http.serve(tmp_path / "pods") as own:
        port = own.server_address[1]
        proxy.names["pod.example.com"] = "127.0.0.1"
        for host in ("pod.example.com", "127.0.0.1"):
            site.configure(proxy=proxy.url_with("edge:relay-word"), pod_servers=f"127.0.0.1:{port}")
            request = f'{{"action": "check", "server": "http://{host}:{port}"}}'
            (folder / "pod.request").write_text(request)
            main(site.world.node())
        assert own.seen
        assert {one.get("authorization") for one in own.headers} == {None}
    assert proxy.seen == []


def test_the_rate_limit_of_update_conf_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(tmp_path)
    publisher.httpd.server_close()
    release = FakeRelease("0.2.0")
    release.content["root.squashfs"] = bytes(8000)
    publisher.publish(release)
    waits: list[float] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        real(seconds)

    monkeypatch.setattr("product.agent.sources.artifact.time.sleep", sleep)
    with http.serve(publisher.directory) as server:
        world = World(tmp_path / "node", monkeypatch, real_server=True)
        text = f"server={server.url}\npubkey={publisher.pubkey}\nrate_limit=8k\n"
        world.write_file(world.paths.config, text)
        assert world.run("apply") == 0
    # A second's worth of bytes, of which the server's own slowness may take a part.
    assert sum(waits) > 0.3
    assert max(waits) < 0.5
