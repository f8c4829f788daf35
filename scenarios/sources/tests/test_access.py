"""A real registry that wants certificates and a login, behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.servers.registry import Login, Registry, Tls
from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.net.tests.support_tls import Authority
from product.agent.sources.configured import configured_source
from product.agent.tests.support_proxy import Proxy, serve_proxy
from product.agent.trust.client import find_release
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from product.release.keys import KeyDirectory
from product.release.oras import Access, Reference
from product.release.push import push
from product.release.repository import Repository
from product.release.tests.slotfiles import make_slot

NAME = "registry.site.example"
LOGIN = Login("edge-07", "open sesame")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with serve_proxy("Basic bWU6d29yZA==") as running:
        running.names[NAME] = "127.0.0.1"
        yield running


def test_a_release_comes_through_all_of_it(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBESOLO_CACHE", str(Cache().root))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    keys = KeyDirectory.generate(tmp_path / "keys")
    repository = Repository.create(tmp_path / "repository", keys)
    slot = make_slot(tmp_path / "slot", "0.2.0", "x86_64")
    repository.publish(slot, channel="stable", notes="", min_compatible_version=None)
    authority, clients = Authority(tmp_path / "pki"), Authority(tmp_path / "clients", "clients")
    certificate, key = clients.issue("node")
    tools = HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")
    runs = tmp_path / "runs"
    with Registry(tools=tools, runs=runs) as registry:
        push(
            tmp_path / "repository",
            Reference(registry.host, "os", "latest"),
            Access(plain_http=True),
        )
        registry.stop()
        # What was pushed stays; from now on it is for those who prove who they are.
        registry._tls = Tls(*authority.issue("server", NAME), clients.path)
        registry._login = LOGIN
        registry.start()
        config = Config(
            registry=f"{NAME}:{registry.port}/os",
            pubkey=str(keys.path / "root.pub.pem"),
            proxy=proxy.url_with("me:word"),
            ca_certificates=str(authority.path),
            client_certificate=str(certificate),
            client_key=str(key),
            username=LOGIN.username,
            password=LOGIN.password,
        )
        assert _finds(config, tmp_path) == "0.2.0"
        assert {command for command, _ in proxy.seen} == {"CONNECT"}
        for change, code in (
            ({"password": "other"}, "login-refused"),
            ({"username": None}, "login-required"),
            ({"ca_certificates": None}, "certificate-untrusted"),
            ({"proxy": proxy.url}, "proxy-login-required"),
        ):
            assert _finds(config._replace(**change), tmp_path) == code
        # Go's server may hang up before it says why.
        assert _finds(config._replace(client_certificate=None), tmp_path) in (
            "client-certificate-required", "server-unreachable",
        )  # fmt: skip


def _finds(config: Config, folder: Path) -> str:
    """The version on offer, or an error's code."""
    try:
        with configured_source(config) as source:
            return find_release(
                source, config, architecture="x86_64", metadata_dir=str(folder / "store")
            ).version
    except AgentError as error:
        return "a secret" if "sesame" in f"{error.message} {error.hint}" else error.code
