"""A node whose releases are in a registry, which is Debian's docker-registry on the host."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.servers.registry import Login, Registry
from harness.target.node import Node, State
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from product.release import oras
from product.release.push import push
from scenarios.releases import Release, Releases
from scenarios.set_up import set_up
from scenarios.steps import APPLY_SECONDS, AVAILABLE, CONF_PATH, FAILED, KEY_PATH, configure

LOGIN = Login("edge-07", "relay:word 7")
NAME = "edge/kubesolo-os"
TAG = "stable"
# Returns once 5 MB of the largest artifact are in the passive slot.
BEGUN = """
size() { stat -c %s /run/kubesolo/slot/root.squashfs.*.part 2> /dev/null || echo 0; }
until [ "$(size)" -gt 5000000 ]; do sleep 1; done
"""
COSIGN_PATH = "/etc/kubesolo/cosign.pub"
COSIGN_PASSWORD = "no secret"


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Empty, and for the one who knows the login."""
    with Registry(login=LOGIN) as running:
        yield running


def _push(registry: Registry, release: Release) -> None:
    access = oras.Access(plain_http=True, username=LOGIN.username, password=LOGIN.password)
    push(release.repository, oras.Reference(registry.host, NAME, TAG), access)


@set_up
def _offer(node: Node, release: Release, registry: Registry, **settings: str) -> None:
    """Write the node's configuration, as an operator does."""
    node.put(release.pubkey, KEY_PATH)
    values = {
        "registry": f"http://{node.host_address}:{registry.port}/{NAME}",
        "tag": TAG,
        "pubkey": KEY_PATH,
        "username": LOGIN.username,
        "password": LOGIN.password,
        **settings,
    }
    node.put("".join(f"{key}={value}\n" for key, value in values.items()), CONF_PATH)
    node.succeed("sync")


def _blob(release: Release, name: str) -> str:
    """What the registry is asked for to get an artifact."""
    return f"/v2/{NAME}/blobs/sha256:{release.slot.manifest.artifact(name).sha256}"


@scenario(tier="core", core_arch="x86_64")
def test_an_update_goes_on_where_the_registry_broke_off(
    node: Node, releases: Releases, registry: Registry
) -> None:
    """The largest artifact is begun, the registry dies and comes back, and the rest is fetched."""
    node.at(State.READY, slot="A")
    release = releases.good
    _push(registry, release)
    # Slow enough to be cut off in the middle of 40 MiB.
    _offer(node, release, registry, rate_limit="2M")
    assert node.run(["kubesolo-update", "check"]).exit == AVAILABLE
    running = node.start(["kubesolo-update", "apply"], seconds=APPLY_SECONDS)
    node.succeed(BEGUN, seconds=90)
    registry.stop()
    registry.start()
    done = running.wait(node.deadline(APPLY_SECONDS))
    assert done.exit == 0, done
    root = [one for one in registry.requests() if one.path == _blob(release, "root.squashfs")]
    assert root[-1].status == 206, "the rest was not asked for"
    assert root[-1].size < release.slot.manifest.artifact("root.squashfs").size
    node.succeed(["kubesolo-update", "activate"])
    node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == (release.version, "B", True)
    history = json.loads(node.succeed(["kubesolo-update", "history", "--json"]).text)
    source = f"oci://{node.host_address}:{registry.port}/{NAME}:{TAG}"
    assert [entry["source"] for entry in history if entry["event"] == "apply"] == [source]
    assert LOGIN.password not in node.succeed(["kubesolo-update", "status", "--json"]).text


@scenario()
def test_each_refusal_of_a_registry_has_its_name(
    node: Node, releases: Releases, registry: Registry
) -> None:
    """And nothing is written before cosign's signature is there, where it is demanded."""
    node.at(State.READY, slot="A")
    release = releases.good
    _push(registry, release)
    _offer(node, release, registry, password="another word")
    _refused(node, "login-refused")
    configure(node, password=LOGIN.password, tag="none")
    _refused(node, "no-tag")
    registry.stop()
    _refused(node, "server-unreachable")
    registry.start()
    with tempfile.TemporaryDirectory() as folder:
        cosign = Cosign(Path(folder), registry)
        node.put(cosign.public_key, COSIGN_PATH)
        configure(node, tag=TAG, cosign_key=COSIGN_PATH, require_cosign="yes")
        _refused(node, "cosign-unsigned")
        assert node.status().slots.B.version is None
        cosign.sign()
    assert node.run(["kubesolo-update", "check"]).exit == AVAILABLE


def _refused(node: Node, code: str) -> None:
    node.fail(["kubesolo-update", "apply"], exit=FAILED, seconds=APPLY_SECONDS)
    found = node.status().update.last_error
    assert found.startswith(f"{code}: "), found


class Cosign:
    """The real program, with a key of its own."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self._folder = folder
        self._registry = registry
        self._tools = HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")
        self._run("generate-key-pair")

    @property
    def public_key(self) -> bytes:
        return (self._folder / "cosign.pub").read_bytes()

    def sign(self) -> None:
        """What the tag names."""
        self._run(
            "sign", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "--yes",
            f"--registry-username={LOGIN.username}", f"--registry-password={LOGIN.password}",
            f"{self._registry.host}/{NAME}:{TAG}",
        )  # fmt: skip

    def _run(self, *arguments: str) -> None:
        environment = {"HOME": str(self._folder), "COSIGN_PASSWORD": COSIGN_PASSWORD}
        self._tools.run("cosign", *arguments, environment=environment, cwd=self._folder)
