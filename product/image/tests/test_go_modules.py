"""The folders of images/go: what their files say of each other and of the image."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from product.image.oci import NAMES, image_name
from product.image.payload.upstream import CNI, CNI_FOLDER
from product.image.tools import IMAGES

GO = IMAGES / "go"
ETC = IMAGES / "payload/upstream/etc"
MANIFESTS = sorted(GO.glob("*/manifests/*.yaml"))


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Each container below ``node``, and those of manifests that are a value of a ConfigMap."""
    if isinstance(node, dict):
        yield from (c for key, value in node.items() if key.lower().endswith("containers")
                    for c in value)  # fmt: skip
        for key, value in node.items():
            if key.endswith(".yaml"):
                yield from containers(yaml.safe_load(value))
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_ask_for_images_that_the_node_has(path: Path) -> None:
    found = [c for manifest in yaml.safe_load_all(path.read_text()) for c in containers(manifest)]
    assert found
    for container in found:
        name = container["image"].removeprefix("kubesolo.io/").partition(":")[0]
        assert container["imagePullPolicy"] == "Never", container
        assert name in NAMES
        assert container["image"] == image_name(name), container


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_roles_are_bound_to_accounts_that_the_manifest_has(path: Path) -> None:
    manifests = list(yaml.safe_load_all(path.read_text()))
    names = {(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests}
    for manifest in manifests:
        for subject in manifest.get("subjects", ()):
            assert ("ServiceAccount", subject["namespace"], subject["name"]) in names
        if manifest["kind"] in {"Deployment", "DaemonSet"}:
            account = manifest["spec"]["template"]["spec"]["serviceAccountName"]
            assert ("ServiceAccount", manifest["metadata"]["namespace"], account) in names


def test_volumes_outlive_their_claims_and_wait_for_their_pods() -> None:
    text = (GO / "local-path-provisioner/manifests/local-path.yaml").read_text()
    (kind,) = (m for m in yaml.safe_load_all(text) if m["kind"] == "StorageClass")
    assert kind["metadata"]["name"] == "local-path"
    assert kind["reclaimPolicy"] == "Retain"
    assert kind["volumeBindingMode"] == "WaitForFirstConsumer"
    annotations = kind["metadata"]["annotations"]
    assert annotations == {"storageclass.kubernetes.io/is-default-class": "true"}


def test_containerd_starts_pods_with_what_the_image_has() -> None:
    config = tomllib.loads((ETC / "containerd/config.toml").read_text())
    plugins = config["plugins"]
    images, runtime = (
        plugins["io.containerd.cri.v1.images"],
        plugins["io.containerd.cri.v1.runtime"],
    )
    assert config["version"] == 3
    assert images["pinned_images"]["sandbox"] == image_name("pause")
    runtimes = runtime["containerd"]
    assert runtimes["default_runtime_name"] in runtimes["runtimes"]
    options = runtimes["runtimes"]["crun"]["options"]
    assert options == {"BinaryName": "/usr/bin/crun", "SystemdCgroup": False}


def test_the_cluster_dns_has_the_plugins_of_its_configuration() -> None:
    corefile = (ETC / "coredns/Corefile").read_text()
    used = set(re.findall(r"^    ([a-z]+)\b", corefile, re.M))
    known = set(re.findall(r"plugin/([a-z]+)\"", (GO / "coredns/main.go").read_text()))
    assert {"acl", "kubernetes", "forward"} <= used <= known


def test_the_cluster_dns_answers_only_pods_and_the_node() -> None:
    corefile = (ETC / "coredns/Corefile").read_text()
    block = re.search(r"^    acl \{\n(.*?)^    \}", corefile, re.M | re.S)
    assert block is not None
    rules = block[1].split("\n")
    assert [rule.strip() for rule in rules if rule] == [
        "allow net 10.244.0.0/16 169.254.20.10/32",
        "drop",
    ]


def test_pods_get_their_network_from_plugins_that_the_image_has() -> None:
    """By iptables, because the image has no ``nft``."""
    (path,) = sorted((ETC / "cni/net.d").iterdir())
    network = json.loads(path.read_text())
    bridge, portmap = network["plugins"]
    config = tomllib.loads((ETC / "containerd/config.toml").read_text())
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["cni"]["bin_dirs"] == [f"/{CNI_FOLDER}"]
    # CRI gives each pod its loopback device by itself.
    used = {bridge["type"], bridge["ipam"]["type"], portmap["type"], "loopback"}
    assert used == {program.name for program in CNI}
    assert (bridge["ipMasqBackend"], portmap["backend"]) == ("iptables", "iptables")


def test_the_plugins_are_tools_of_their_module() -> None:
    """So that ``go mod tidy`` keeps what they are made of."""
    text = (GO / "cni/go.mod").read_text()
    (block,) = re.findall(r"^tool \(\n(.*?)^\)", text, re.M | re.S)
    assert set(block.split()) == {program.package for program in CNI}
