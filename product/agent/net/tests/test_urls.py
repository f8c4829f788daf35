"""Where a URL leads, and what of it is a secret."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from product.agent.errors import AgentError, hide_logins
from product.agent.health.probe import ProbeError, get_status
from product.agent.net import urls
from product.agent.net.connections import Connections
from product.agent.net.urls import parse_url, without_login
from product.agent.settings import check_value, shown
from product.agent.sources.http import HttpSource
from product.agent.tests import support_http as http


@pytest.mark.parametrize(
    ("url", "host", "port", "header"),
    [
        ("http://releases.example/x", "releases.example", 80, "releases.example"),
        ("https://releases.example/x", "releases.example", 443, "releases.example"),
        ("http://releases.example:8080/", "releases.example", 8080, "releases.example:8080"),
        ("http://releases.example:80/", "releases.example", 80, "releases.example"),
        ("https://releases.example:80/", "releases.example", 80, "releases.example:80"),
        ("http://Releases.Example:/", "releases.example", 80, "releases.example"),
        ("http://10.0.0.7", "10.0.0.7", 80, "10.0.0.7"),
        ("http://[::1]/", "::1", 80, "[::1]"),
        ("https://[::1]", "::1", 443, "[::1]"),
        ("http://[::1]:8080/", "::1", 8080, "[::1]:8080"),
        ("https://[2001:db8::1]/x", "2001:db8::1", 443, "[2001:db8::1]"),
        ("https://[2001:DB8::1]:8443/x", "2001:db8::1", 8443, "[2001:db8::1]:8443"),
        ("http://[2001:db8::8080]/x", "2001:db8::8080", 80, "[2001:db8::8080]"),
        ("http://[fe80::1%25eth0]/", "fe80::1%eth0", 80, "[fe80::1]"),
        ("http://[fe80::1%25eth0]:8080/", "fe80::1%eth0", 8080, "[fe80::1]:8080"),
        ("http://[::ffff:10.0.0.7]/", "::ffff:10.0.0.7", 80, "[::ffff:10.0.0.7]"),
        ("http://me:word@[::1]/", "::1", 80, "[::1]"),
        ("http://b\u00fccher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("http://me:word@[::1]:8080/", "::1", 8080, "[::1]:8080"),
    ],
)
def test_every_address_leads_to_its_own_place(url: str, host: str, port: int, header: str) -> None:
    origin = parse_url(url).origin
    assert (origin.host, origin.port, origin.header) == (host, port, header)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://host/", "http://", "http:///x", "http://h:0/", "http://h:x/", "http://::1/",
     "http://h:99999/", "http://\u00e4..b/", "http://" + "\u00e4" * 70 + "/", "http://me:p@ss:word@/"],
)  # fmt: skip
def test_what_leads_nowhere_is_refused_without_its_login(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_url(url)
    assert "word" not in str(caught.value)


class Six(ThreadingHTTPServer):
    """A server on ::1."""

    address_family = socket.AF_INET6


@pytest.fixture
def six(tmp_path: Path) -> Iterator[int]:
    """The port of a server on ::1."""
    (tmp_path / "served").mkdir()
    with http.serve(tmp_path / "served") as four:
        try:
            server = Six(("::1", 0), http.Handler)
        except OSError:
            pytest.skip("this host has no IPv6")
        import threading

        with server:
            for name in ("directory", "misbehaviours", "seen", "headers", "sent", "over"):
                setattr(server, name, getattr(four, name))
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield server.server_address[1]
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("login", ["", "me:word@"])
def test_an_ipv6_address_without_a_port_is_connected_to(
    six: int, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    monkeypatch.setitem(urls.PORTS, "http", six)
    with Connections(connect=5, silence=5) as connections:
        response = connections.get(f"http://{login}[::1]/file", {})
        assert response.status == 404
        response.close()
    assert get_status(f"http://{login}[::1]/file", 5) == 404


@pytest.mark.parametrize(
    ("login", "header"),
    [
        ("me:word", "Basic bWU6d29yZA=="),
        ("me", "Basic bWU6"),
        ("me:", "Basic bWU6"),
        (":word", "Basic OndvcmQ="),
        ("m%40e:w%2Fo%3Ard%25", "Basic bUBlOncvbzpyZCU="),
        ("me:w:ord", "Basic bWU6dzpvcmQ="),
        ("\u00e4:\u00f6", "Basic w6Q6w7Y="),
        ("@", "Basic QDo="),
        ("", None),
    ],
)
def test_a_login_is_basic_authentication(login: str, header: str | None) -> None:
    assert parse_url(f"https://{login}@host/x").login == header
    assert parse_url("https://host/x@y?me:word@h").login is None


@pytest.mark.parametrize(
    ("url", "rest"),
    [
        ("http://me:word@h/x", "http://h/x"),
        ("http://me@h", "http://h"),
        ("http://m@e:word@h/x@y", "http://h/x@y"),
        ("http://h/x@y", "http://h/x@y"),
        ("http://h?me@x", "http://h?me@x"),
        ("disk:LABEL/x", "disk:LABEL/x"),
        ("", ""),
    ],
)
def test_a_url_without_its_login(url: str, rest: str) -> None:
    assert without_login(url) == rest


@contextlib.contextmanager
def two_servers(tmp_path: Path) -> Iterator[tuple[http.Server, http.Server]]:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    with http.serve(tmp_path / "one") as one, http.serve(tmp_path / "other") as other:
        yield one, other


def test_a_login_goes_to_its_own_origin_and_to_no_other(tmp_path: Path) -> None:
    with two_servers(tmp_path) as (one, other):
        server = one.url.replace("//", "//me:word@")
        there = other.url.replace("//", "//you:secret@")
        one.misbehave("^/moved", http.redirect("/file"))
        one.misbehave("^/away", http.redirect(f"{there}/back"))
        other.misbehave("^/back", http.redirect(f"{one.url}/file"))
        with HttpSource(server) as source:
            assert source.address == one.url
            for path in ("file", "moved", "away"):
                response = source.open(path)
                assert response.read1(10) == b"x"
                response.close()
    sent = "Basic bWU6d29yZA=="
    assert [headers.get("authorization") for headers in one.headers] == [sent] * 5
    assert [headers.get("authorization") for headers in other.headers] == [None]


def test_the_probe_sends_its_login_and_shows_none(tmp_path: Path) -> None:
    with two_servers(tmp_path) as (one, _):
        assert get_status(f"{one.url.replace('//', '//me:word@')}/file", 5) == 200
        assert one.headers[-1]["authorization"] == "Basic bWU6d29yZA=="
    for url in ("http://me:word@127.0.0.1:1/", "http://me:word@h:x/", "ftp://me:word@h/"):
        with pytest.raises(ProbeError) as caught:
            get_status(url, 5)
        assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach http://me:word@h/x: no",
        "'https://me:w@word@h'",
        "see //word@h and http://word@x",
    ],
)
def test_no_error_shows_a_login(text: str) -> None:
    error = AgentError(text, hint=text)
    assert "word" not in hide_logins(text)
    assert "word" not in f"{error} {error.message} {error.hint}"


@pytest.mark.parametrize("key", ["server", "healthcheck_url"])
@pytest.mark.parametrize(
    "value",
    ["http://me:wo/rd@h/", "http://me:wo?rd@h/", "http://me:wo#rd@h/", "http://me:wo rd@h/",
     "http://me:wo@rd@h/", "http://me:word@h:x/"],
)  # fmt: skip
def test_a_login_that_makes_no_url_is_refused_and_not_shown(key: str, value: str) -> None:
    assert check_value(key, value)
    assert "rd" not in shown(value)
