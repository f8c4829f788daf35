"""What the image says of its Kubernetes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.agent.kubernetes.payload import PayloadError, parse_minor, read_payload
from product.agent.system.paths import Paths
from product.agent.tests.world import World

GOOD: dict[str, object] = {
    "schema": 1,
    "kind": "upstream",
    "version": "1.20.2-1",
    "kubernetes": "1.20.2",
    "services": ["containerd", "kubernetes"],
    "kubeconfig": "/var/lib/kubesolo/kubernetes/pki/admin.kubeconfig",
    "containerd": "/run/containerd/containerd.sock",
    "datastore": {"path": "/var/lib/kubesolo/kubernetes/etcd", "service": "kubernetes"},
    "images": "",
}


def test_an_image_without_one(world: World) -> None:
    assert read_payload(world.paths) is None


def test_paths_are_the_nodes(world: World) -> None:
    world.write_file(world.paths.payload, json.dumps(GOOD))
    payload = read_payload(world.paths)
    assert payload is not None
    assert payload.minor == (1, 20)
    assert payload.containerd == f"{world.paths.root}/run/containerd/containerd.sock"
    assert payload.datastore == f"{world.paths.root}/var/lib/kubesolo/kubernetes/etcd"
    assert payload.writer == "kubernetes"
    assert Paths().under("/x") == "/x"


def test_the_old_place_of_the_kubeconfig_is_the_default(world: World) -> None:
    world.write_file(world.paths.payload, json.dumps({**GOOD, "kubeconfig": ""}))
    payload = read_payload(world.paths)
    assert payload is not None
    assert payload.kubeconfig == world.paths.kubeconfig


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": 2}, "schema is 2, this agent knows 1"),
        ({"kubernetes": "newest"}, "'newest' is not a version of Kubernetes"),
        ({"kubernetes": None}, "kubernetes is None"),
        ({"containerd": "run/c.sock"}, "containerd is 'run/c.sock', not an absolute path"),
        ({"kubeconfig": "/a/../../etc/shadow"}, "not an absolute path"),
        ({"datastore": "/var"}, "datastore is not an object"),
        ({"datastore": {"path": "/", "service": "x"}}, "path is '/'"),
        ({"datastore": {"path": "/x", "service": "../x"}}, "not the name of a service"),
        ({"kind": 3}, "kind is 3"),
    ],
)
def test_garbage_is_named(world: World, change: dict[str, object], complaint: str) -> None:
    world.write_file(world.paths.payload, json.dumps({**GOOD, **change}))
    with pytest.raises(PayloadError) as raised:
        read_payload(world.paths)
    assert complaint in raised.value.message
    assert world.paths.payload in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{" * 100_000, b"[" * 5000])
def test_what_is_no_json_object_is_named(world: World, content: bytes) -> None:
    world.write_file(world.paths.payload, "")
    Path(world.paths.payload).write_bytes(content)
    with pytest.raises(PayloadError, match=r"payload\.json"):
        read_payload(world.paths)


@pytest.mark.parametrize(
    ("text", "minor"), [("v1.35.0", (1, 35)), ("1.20", (1, 20)), ("1.34.2+k", (1, 34))]
)
def test_minor(text: str, minor: tuple[int, int]) -> None:
    assert parse_minor(text) == minor
