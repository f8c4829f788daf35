"""A node that reaches its server only through a proxy, and by an authority of the site's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.agent.net.tests.support_tls import Authority, server_context
from product.agent.tests import support_http as http
from product.agent.tests.support_proxy import Proxy, serve_proxy
from scenarios.releases import Release, Releases
from scenarios.steps import FAILED, Update, configure

Serve = Callable[..., Update]
# Nobody but the proxy knows where this is.
NAME = "releases.site.example"
# "relay:way through" and "edge-07:open sesame", as requests have them.
PROXY_LOGIN, PROXY_HEADER = "relay:way%20through", "Basic cmVsYXk6d2F5IHRocm91Z2g="
SERVER_HEADER = "Basic ZWRnZS0wNzpvcGVuIHNlc2FtZQ=="
CERTIFICATES = "/etc/kubesolo/site-ca.pem"


class Site(NamedTuple):
    """What stands between the node and its releases."""

    server: http.Server
    proxy: Proxy
    authority: Path

    @property
    def address(self) -> str:
        return f"https://{NAME}:{self.server.server_address[1]}"

    def proxy_url(self, node: Node, login: str = "") -> str:
        """As the node reaches it."""
        port = self.proxy.server_address[1]
        return f"http://{login}{'@' if login else ''}{node.host_address}:{port}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[Release], Site]]:
    """The server of a release, its proxy, and the certificate that only this site trusts."""
    with ExitStack() as running:

        def start(release: Release) -> Site:
            authority = Authority(tmp_path / "pki", "the site's own")
            server = running.enter_context(http.serve(release.repository))
            server.socket = server_context(authority.issue("server", NAME)).wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            proxy = running.enter_context(serve_proxy(PROXY_HEADER))
            proxy.names[NAME] = "127.0.0.1"
            return Site(server, proxy, authority.path)

        yield start


@scenario()
def test_a_node_behind_a_proxy_trusts_the_sites_own_authority(
    node: Node, releases: Releases, serve: Serve, site: Callable[[Release], Site]
) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    place = site(releases.good)
    asked = len(update.server.requests)
    configure(node, server=place.address, proxy=place.proxy_url(node))
    update.refused("proxy-login-required", exit=FAILED)
    configure(node, proxy=place.proxy_url(node, PROXY_LOGIN))
    update.refused("certificate-untrusted", exit=FAILED)
    assert not place.server.seen, "a server was asked that nobody trusts"
    node.put(place.authority.read_bytes(), CERTIFICATES)
    configure(
        node, ca_certificates=CERTIFICATES, username="edge-07", password="open sesame"
    )  # fmt: skip
    update.apply()
    assert {one.get("authorization") for one in place.server.headers} == {SERVER_HEADER}
    assert {command for command, _ in place.proxy.seen} == {"CONNECT"}
    assert len(update.server.requests) == asked, "the node went around the proxy"
    said = "".join(
        node.succeed(["kubesolo-update", command, "--json"]).text
        for command in ("status", "history")
    )
    assert not any(word in said for word in ("sesame", "way%20", "way through", SERVER_HEADER[6:]))
