"""A kubeconfig that works from elsewhere: the node's address, the authority, a key of its own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from product.node import address
from product.node.cli import main
from product.node.configure import configure
from product.node.errors import NodeError
from product.node.pki import kubeconfig
from product.node.remote import remote_kubeconfig
from product.node.tests.conftest import NodeWorld


def made(world: NodeWorld, server: str | None = None) -> Any:
    document = json.loads(remote_kubeconfig(world.paths, world.payload, server))
    (cluster,), (user,), (context,) = (document[k] for k in ("clusters", "users", "contexts"))
    assert document["current-context"] == context["name"]
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}
    return {**cluster["cluster"], **user["user"], "name": context["name"]}


def test_it_leads_to_the_nodes_address_with_a_key_of_its_own(world: NodeWorld) -> None:
    configure(world.paths, world.payload, world.reporter)
    found = made(world)
    assert found["server"] == "https://10.0.2.15:6443"
    assert found["name"] == "node-1"
    authority = base64.b64decode(found["certificate-authority-data"])
    assert authority == Path(world.paths.pki, "ca.crt").read_bytes()
    pem = base64.b64decode(found["client-certificate-data"])
    assert pem != Path(world.paths.pki, "admin.crt").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.subject.rfc4514_string() == "CN=kubernetes-operator,O=system:masters"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ("edge.example.com", "edge.example.com:6443"),
        ("edge.example.com:8443", "edge.example.com:8443"),
        ("https://192.168.7.1/", "192.168.7.1:6443"),
        ("fd00::7", "[fd00::7]:6443"),
        ("[fd00::7]:443", "[fd00::7]:443"),
    ],
)
def test_another_server(world: NodeWorld, given: str, server: str) -> None:
    configure(world.paths, world.payload, world.reporter)
    assert made(world, given)["server"] == f"https://{server}"


@pytest.mark.parametrize("given", ["", "a b", "http://x", "host:99999", "host:", "-x", "[fd00::7"])
def test_a_server_that_is_none(world: NodeWorld, given: str) -> None:
    configure(world.paths, world.payload, world.reporter)
    if given:
        with pytest.raises(NodeError, match="is no server"):
            remote_kubeconfig(world.paths, world.payload, given)
    else:
        assert main(["kubeconfig", "--server", ""], world.paths) == 2


def test_the_command_prints_it_and_hints_at_a_name_that_is_not_in_the_certificate(
    world: NodeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(world.paths, world.payload, world.reporter)
    assert main(["kubeconfig"], world.paths) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["kind"] == "Config"
    assert said.err == ""
    assert main(["kubeconfig", "--server", "edge.example.com"], world.paths) == 0
    assert "does not name edge.example.com" in capsys.readouterr().err
    settings = {"schema": 1, "settings": {"apiserver-extra-sans": ["edge.example.com"]}}
    world.write(world.paths.settings, json.dumps(settings))
    assert main(["kubeconfig", "--server", "edge.example.com"], world.paths) == 0
    assert capsys.readouterr().err == ""
    assert world.problems == []


def test_before_kubernetes_has_started_there_is_one_error(
    world: NodeWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "present_address", lambda paths: "10.0.2.15")
    assert main(["kubeconfig"], world.paths) == 1
    assert "there is no kubeconfig at" in capsys.readouterr().err
    # It is the asker's to know, and no problem of the node.
    assert world.problems == []


def test_a_node_without_a_network_has_no_address_to_give(world: NodeWorld) -> None:
    configure(world.paths, world.payload, world.reporter)
    world.write(world.paths.address, f"{address.UNCONNECTED}\n")
    with pytest.raises(NodeError, match="no address that others could reach"):
        remote_kubeconfig(world.paths, world.payload)
    assert made(world, "10.0.0.9")["server"] == "https://10.0.0.9:6443"


def test_the_payload_of_others_gives_its_own_with_another_server(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "present_address", lambda paths: "192.168.7.9")
    path = str(world.root / "admin.kubeconfig")
    world.write_payload(kind="kubesolo", kubeconfig=path)
    world.write(path, kubeconfig("CA", "CERT", "KEY", data=True).decode())
    found = made(world)
    assert found["server"] == "https://192.168.7.9:6443"
    keys = ("certificate-authority-data", "client-certificate-data", "client-key-data")
    assert [base64.b64decode(found[key]) for key in keys] == [b"CA", b"CERT", b"KEY"]
