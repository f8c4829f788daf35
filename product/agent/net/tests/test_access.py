"""Servers behind a proxy, an authority of their own, a client certificate or a login."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.net.access import Access, access_for
from product.agent.net.connections import Connections, TransientError
from product.agent.net.guard import permit_for
from product.agent.net.tests.support_tls import Authority, private, server_context
from product.agent.net.urls import Origin, parse_url
from product.agent.tests import support_http as http
from product.agent.tests.support_proxy import Proxy, serve_proxy

CONTENT = bytes(range(256)) * 1000
LOGIN = "Basic bWU6d29yZA=="
# A name that only the proxy resolves.
NAME = "releases.example.com"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.Server]:
    with served(tmp_path / "served") as running:
        yield running


@contextmanager
def served(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[http.Server]:
    folder.mkdir()
    (folder / "file").write_bytes(CONTENT)
    with http.serve(folder) as running:
        if context is not None:
            running.socket = context.wrap_socket(
                running.socket, server_side=True, do_handshake_on_connect=False
            )
            running.shutdown_request = politely  # type: ignore[method-assign]
        yield running


def politely(request: Any) -> None:
    """Close a connection once its client has, so that it sees the alert that was sent to it."""
    with suppress(OSError):
        request.settimeout(2.0)
        socket.socket.shutdown(request, socket.SHUT_WR)
        while socket.socket.recv(request, 65536):
            pass
    request.close()


def named(server: http.Server, scheme: str = "http", host: str = NAME) -> str:
    return f"{scheme}://{host}:{server.server_address[1]}"


def config(address: str, **more: str) -> Config:
    return Config(server=address)._replace(**more)  # type: ignore[arg-type]


def fetch(settings: Config, url: str | None = None, seconds: float = 20.0) -> bytes:
    with Connections(connect=10.0, silence=10.0, access=access_for(settings)) as connections:
        response = connections.get(
            url or f"{settings.server}/file", {}, time.monotonic() + seconds
        )  # fmt: skip
        read = b""
        while chunk := response.read1(100_000):
            read += chunk
        response.close()
        return read


def refusal(settings: Config, url: str | None = None) -> AgentError:
    with pytest.raises(AgentError) as caught:
        fetch(settings, url)
    assert caught.value.hint
    return caught.value


def through(proxy: Proxy, server: http.Server, host: str = NAME) -> None:
    proxy.names[host] = "127.0.0.1"


def test_http_goes_through_the_proxy(server: http.Server) -> None:
    with serve_proxy() as proxy:
        through(proxy, server)
        assert fetch(config(named(server), proxy=proxy.url)) == CONTENT
        assert proxy.seen == [("GET", f"{named(server)}/file")]
    assert server.headers[0]["host"] == f"{NAME}:{server.server_address[1]}"


@pytest.mark.parametrize("secure_proxy", [False, True])
def test_https_goes_through_a_tunnel(
    authority: Authority, tmp_path: Path, secure_proxy: bool
) -> None:
    context = server_context(authority.issue("proxy")) if secure_proxy else None
    with (
        served(tmp_path / "tls", server_context(authority.issue("server", NAME))) as server,
        serve_proxy(LOGIN, context) as proxy,
    ):
        through(proxy, server)
        settings = config(
            named(server, "https"),
            proxy=proxy.url_with("me:word"),
            ca_certificates=str(authority.path),
        )
        assert fetch(settings) == CONTENT
        assert proxy.seen == [("CONNECT", f"{NAME}:{server.server_address[1]}")]
        assert "proxy-authorization" not in server.headers[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("given", "status", "code", "said"),
    [
        ("", None, "proxy-login-required", "wants a login"),
        ("you:other", None, "proxy-login-required", "refuses its login"),
        ("me:word", 502, "proxy-failed", "cannot reach"),
        ("me:word", 403, "proxy-refused", "refuses a connection"),
    ],
)
def test_what_a_proxy_refuses(
    server: http.Server, scheme: str, given: str, status: int | None, code: str, said: str
) -> None:
    if scheme == "http" and status:
        pytest.skip("the answer of a proxy to http is that of the server")
    with serve_proxy(LOGIN) as proxy:
        proxy.status = status
        url = proxy.url_with(given) if given else proxy.url
        error = refusal(config(named(server, scheme), proxy=url))
    assert (error.code, said in error.message) == (code, True)
    assert "word" not in f"{error.message} {error.hint}".replace("PASSWORD", "")
    assert server.seen == []


def test_a_proxy_that_is_not_there_is_named(server: http.Server) -> None:
    error = refusal(config(named(server), proxy="http://127.0.0.1:1"))
    assert error.code == "proxy-unreachable"
    assert isinstance(error, TransientError)


def test_the_deadline_counts_for_the_proxy_too(server: http.Server) -> None:
    with serve_proxy() as proxy:
        proxy.silent = True
        began = time.monotonic()
        with pytest.raises(TransientError, match="not done within 1 s"):
            fetch(config(named(server, "https"), proxy=proxy.url), seconds=1.0)
        assert time.monotonic() - began < 5


def test_a_proxy_with_an_unknown_certificate(authority: Authority, server: http.Server) -> None:
    with serve_proxy(None, server_context(authority.issue("proxy"))) as proxy:
        error = refusal(config(named(server), proxy=proxy.url))
    assert error.code == "certificate-untrusted"
    assert "the proxy 127.0.0.1" in error.message


@pytest.mark.parametrize(
    ("host", "direct", "is_asked"),
    [
        (NAME, "", True),
        ("10.1.2.3", "", True),
        ("localhost", "", False),
        ("api.localhost", "", False),
        ("127.0.0.1", "", False),
        ("127.9.9.9", "", False),
        ("::1", "", False),
        ("::ffff:127.0.0.1", "", False),
        ("169.254.1.1", "", False),
        ("fe80::1%eth0", "", False),
        (NAME, ".example.com", False),
        (NAME, "*.example.com", False),
        (NAME, "example.com", False),
        (NAME.upper(), "Example.COM.", False),
        (NAME, "ample.com", True),
        (NAME, "other.com", True),
        (NAME, "*", False),
        ("10.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "a.b, 10.1.2.3", False),
        ("11.1.2.3", "10.0.0.0/8", True),
        ("fd00::2", "fd00::/8", False),
        ("fd00::2", "[fd00::2]", False),
    ],
)
def test_who_is_asked_through_the_proxy(host: str, direct: str, is_asked: bool) -> None:
    access = access_for(Config(proxy="http://proxy:3128", no_proxy=direct))
    assert access is not None
    assert (access.proxy_for(Origin("https", host, 443)) is not None) == is_asked


def test_no_proxy_of_this_machine(server: http.Server) -> None:
    with serve_proxy() as proxy:
        assert fetch(config(server.url, proxy=proxy.url)) == CONTENT
        assert proxy.seen == []


def test_a_server_that_a_pod_names_goes_around_the_proxy(server: http.Server) -> None:
    """The proxy would resolve a name to the node's own addresses, and nobody would judge them."""
    with serve_proxy() as proxy:
        through(proxy, server, "pod.example.com")
        settings = config(named(server, host="pod.example.com"), proxy=proxy.url)
        settings = settings._replace(server_from_pod=True)
        own = access_for(settings)
        assert own is not None
        assert own.proxy is None
        for access in (access_for(settings), Access(parse_url(proxy.url))):
            with (
                Connections(
                    connect=5.0, silence=5.0, permit=permit_for(settings), access=access
                ) as connections,
                pytest.raises(AgentError),
            ):
                connections.get(f"{settings.server}/file", {})
        assert (proxy.seen, server.seen) == ([], [])


def test_a_private_authority_counts_beside_the_systems(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority(tmp_path / "other", "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.path))
    for number, one in enumerate((authority, other)):
        with served(tmp_path / f"tls{number}", server_context(one.issue("server"))) as server:
            address = named(server, "https", "127.0.0.1")
            assert fetch(config(address, ca_certificates=str(authority.path))) == CONTENT


def test_a_sites_authority_may_lack_extensions(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest's Python demands them of all others."""
    real = ssl.create_default_context

    def strict() -> ssl.SSLContext:
        context = real()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    with served(tmp_path / "tls", server_context(authority.issue("server"))) as server:
        settings = config(named(server, "https", "127.0.0.1"))
        assert fetch(settings._replace(ca_certificates=str(authority.path))) == CONTENT
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        assert refusal(settings).code == "certificate-untrusted"


@pytest.mark.parametrize(
    ("host", "ends", "trusted", "code"),
    [
        ("127.0.0.1", 1, False, "certificate-untrusted"),
        ("127.0.0.1", -1, True, "certificate-expired"),
        ("other.example", 1, True, "certificate-wrong-name"),
    ],
)
def test_what_is_wrong_with_a_certificate(
    authority: Authority, tmp_path: Path, host: str, ends: int, trusted: bool, code: str
) -> None:
    pair = authority.issue("server", host, ends=timedelta(days=ends))
    with served(tmp_path / "tls", server_context(pair)) as server:
        settings = config(named(server, "https", "127.0.0.1"))
        if trusted:
            settings = settings._replace(ca_certificates=str(authority.path))
        error = refusal(settings)
    assert error.code == code
    assert ("this node's clock: 20" in error.message) == (code == "certificate-expired")
    assert not isinstance(error, TransientError)


@pytest.mark.parametrize("newest", [False, True])
def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path, newest: bool) -> None:
    clients = Authority(tmp_path / "clients", "clients")
    certificate, key = clients.issue("node")
    context = server_context(authority.issue("server"), clients.path, newest=newest)
    with served(tmp_path / "tls", context) as server:
        settings = config(named(server, "https", "127.0.0.1"), ca_certificates=str(authority.path))
        without = refusal(settings)
        stranger = Authority(tmp_path / "strangers", "strangers").issue("node")
        wrong = refusal(
            settings._replace(client_certificate=str(stranger[0]), client_key=str(stranger[1]))
        )
        assert server.seen == []
        settings = settings._replace(client_certificate=str(certificate), client_key=str(key))
        assert fetch(settings) == CONTENT
    if newest:
        assert without.code == "client-certificate-required"
    assert wrong.code == "client-certificate-refused"


def test_a_client_certificate_is_for_the_configured_server_alone(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("node")
    context = server_context(authority.issue("server"), authority.path)
    with served(tmp_path / "tls", context) as server:
        settings = config(
            "https://other.example/",
            ca_certificates=str(authority.path),
            client_certificate=str(certificate),
            client_key=str(key),
        )
        url = f"{named(server, 'https', '127.0.0.1')}/file"
        assert refusal(settings, url).code == "client-certificate-required"


@pytest.mark.parametrize("key", ["ca_certificates", "client_certificate"])
@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"garbage", "no PEM"), (b"", "no PEM")]
)
def test_a_file_that_cannot_be_used_is_named(
    server: http.Server, tmp_path: Path, key: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / "own.pem"
    if content is not None:
        path.write_bytes(content)
    settings = config(named(server, "https", "127.0.0.1"), **{key: str(path)})
    if key == "client_certificate":
        settings = settings._replace(client_key=str(path))
    error = refusal(settings)
    assert error.code == "certificate-unreadable"
    assert key in error.message
    assert said in error.message


def test_a_key_that_nobody_can_use(
    server: http.Server, authority: Authority, tmp_path: Path
) -> None:
    certificate, _ = authority.issue("node")
    locked, other = tmp_path / "locked.key", tmp_path / "other.key"
    locked.write_bytes(private(generate_private_key(SECP256R1()), b"passphrase"))
    other.write_bytes(private(generate_private_key(SECP256R1())))
    for path, said in ((locked, "has a passphrase"), (other, "do not belong together")):
        settings = config(
            named(server, "https", "127.0.0.1"),
            client_certificate=str(certificate),
            client_key=str(path),
        )
        error = refusal(settings)
        assert (error.code, said in error.message) == ("certificate-unreadable", True)


def test_a_server_without_tls_is_named(server: http.Server) -> None:
    error = refusal(config(named(server, "https", "127.0.0.1"), no_proxy="x", proxy="http://x:1"))
    assert error.code in ("tls-failed", "server-unreachable")


@pytest.mark.parametrize(
    ("login", "header"),
    [
        ({"username": "me", "password": "word"}, LOGIN),
        ({"username": "\u00fc", "password": "w:\u00f6"}, "Basic w7w6dzrDtg=="),
        ({"bearer_token": "abc.def"}, "Bearer abc.def"),
    ],
)
def test_a_login_goes_to_the_configured_server_alone(
    server: http.Server, tmp_path: Path, login: dict[str, str], header: str
) -> None:
    settings = config(server.url, **login)
    with served(tmp_path / "other") as other:
        assert fetch(settings) == CONTENT
        assert fetch(settings, f"{other.url}/file") == CONTENT
        assert [one.get("authorization") for one in server.headers] == [header]
        assert [one.get("authorization") for one in other.headers] == [None]


@pytest.mark.parametrize(
    "url", [f"http://{NAME}/os", f"HTTP://{NAME}:443/os", "http://10.0.0.1/", "http://[fd00::1]/"]
)
def test_a_token_is_not_shouted_over_http(url: str) -> None:
    with pytest.raises(AgentError) as caught:
        access_for(config(url, bearer_token="abcdefgh"))
    assert caught.value.code == "insecure-login"
    assert "abcdefgh" not in f"{caught.value.message} {caught.value.hint}"


def test_nothing_said_costs_nothing() -> None:
    assert access_for(Config(server="https://a/", rate_limit="1M")) is None
