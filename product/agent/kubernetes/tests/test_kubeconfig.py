"""Reading a kubeconfig, JSON or YAML."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from product.agent.kubernetes.kubeconfig import KubeconfigError, read_kubeconfig
from product.agent.tests.support_cluster import Authority, kubeconfig


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    authority = Authority("ca")
    return kubeconfig(6443, authority, authority.issue("admin"))


def read(tmp_path: Path, document: object) -> Any:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    return read_kubeconfig(str(path))


def test_what_the_payload_writes(tmp_path: Path, document: dict[str, Any]) -> None:
    access = read(tmp_path, document)
    assert (access.host, access.port) == ("127.0.0.1", 6443)
    assert access.authority.startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE KEY" in access.key
    assert access.token == ""


def test_files_instead_of_data(tmp_path: Path, document: dict[str, Any]) -> None:
    document = copy.deepcopy(document)
    for name in ("client-certificate", "client-key"):
        (tmp_path / name).write_text(f"{name} in PEM")
        del document["users"][0]["user"][f"{name}-data"]
        document["users"][0]["user"][name] = str(tmp_path / name)
    access = read(tmp_path, document)
    assert (access.certificate, access.key) == ("client-certificate in PEM", "client-key in PEM")


def test_a_token_instead_of_a_certificate(tmp_path: Path, document: dict[str, Any]) -> None:
    document = copy.deepcopy(document)
    document["users"][0]["user"] = {"token": "abc"}
    access = read(tmp_path, document)
    assert (access.certificate, access.token) == ("", "abc")


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("https://10.0.2.15:6443", ("10.0.2.15", 6443)),
        ("https://node", ("node", 443)),
        ("https://[::1]:6443/", ("::1", 6443)),
        ("https://[fd00::7]", ("fd00::7", 443)),
        ("https://[fe80::1]", ("fe80::1", 443)),
    ],
)
def test_addresses(
    tmp_path: Path, document: dict[str, Any], server: str, address: tuple[str, int]
) -> None:
    document = copy.deepcopy(document)
    document["clusters"][0]["cluster"]["server"] = server
    access = read(tmp_path, document)
    assert (access.host, access.port) == address


CLUSTER = ("clusters", 0, "cluster")
USER = ("users", 0, "user")


@pytest.mark.parametrize(
    ("where", "value", "complaint"),
    [
        ((*CLUSTER, "server"), "http://127.0.0.1:6443", "not an https address"),
        ((*CLUSTER, "server"), "https://:6443", "names no host and port"),
        ((*CLUSTER, "server"), "https://::1", "stands in brackets"),
        ((*CLUSTER, "server"), "https://fd00::7:6443", "stands in brackets"),
        ((*CLUSTER, "server"), "https://a:b", "names no host and port"),
        ((*CLUSTER, "server"), "https://a:70000", "names no host and port"),
        ((*CLUSTER, "server"), None, "server is None"),
        ((*CLUSTER, "insecure-skip-tls-verify"), True, "not to verify the server"),
        ((*CLUSTER, "tls-server-name"), "other", "tls-server-name"),
        ((*CLUSTER, "certificate-authority-data"), "", "has no certificate-authority"),
        ((*CLUSTER, "certificate-authority-data"), "%%%", "not a PEM in base64"),
        ((*USER, "client-key-data"), "", "neither client-certificate"),
        ((*USER, "client-key-data"), "/wc=", "not a PEM in base64"),
        (USER, {"client-certificate": "/none", "client-key": "/none"}, "cannot read /none"),
        (("current-context",), "other", "contexts has no 'other'"),
        (("contexts",), "x", "contexts has no 'admin'"),
        (("contexts", 0, "context", "user"), None, "users has no None"),
        (("clusters", 0), 3, "clusters has no 'own'"),
    ],
)
def test_what_leads_nowhere_is_named(
    tmp_path: Path,
    document: dict[str, Any],
    where: tuple[str | int, ...],
    value: object,
    complaint: str,
) -> None:
    document = copy.deepcopy(document)
    inner: Any = document
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(KubeconfigError, match=r"kubeconfig: ") as raised:
        read(tmp_path, document)
    assert complaint in raised.value.message


@pytest.mark.parametrize("content", [b"{", b"\xff", b"{" + b'"a":[' * 5000, b"a" * 300_000])
def test_garbage_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(content)
    with pytest.raises(KubeconfigError, match="kubeconfig"):
        read_kubeconfig(str(path))
    with pytest.raises(KubeconfigError, match="there is no kubeconfig"):
        read_kubeconfig(str(tmp_path / "none"))


def test_yaml_without_a_parser_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "kubeconfig"
    path.write_text("apiVersion: v1\n")
    with pytest.raises(KubeconfigError, match="the image has no python3-yaml"):
        read_kubeconfig(str(path))


def test_yaml_is_read_by_the_safe_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> None:
    class YamlError(Exception):
        pass

    def load(text: str, Loader: str) -> object:
        assert (text, Loader) == ("apiVersion: v1\n", "safe")
        return document

    yaml = SimpleNamespace(load=load, SafeLoader="safe", YAMLError=YamlError)
    monkeypatch.setitem(sys.modules, "yaml", yaml)
    path = tmp_path / "kubeconfig"
    path.write_text("apiVersion: v1\n")
    assert read_kubeconfig(str(path)).port == 6443
