"""The same trust where a registry has the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.sources.artifact import fetch_artifact
from product.agent.sources.configured import configured_source
from product.agent.tests import support_http as http
from product.agent.tests import support_registry as support
from product.agent.trust.tests.test_client import NodeSide, Publisher


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher")
    for version in ("0.2.0", "0.3.0"):
        made.publish(version)
    return made


@pytest.fixture
def server(tmp_path: Path, publisher: Publisher) -> Iterator[support.Server]:
    with support.serve(tmp_path) as running:
        running.content.push(support.files_of(publisher.directory))
        yield running


@pytest.fixture
def node(tmp_path: Path, server: support.Server, publisher: Publisher) -> NodeSide:
    made = NodeSide(tmp_path, server, publisher.pubkey)
    made.config = made.config._replace(server=None, registry=server.place)
    return made


def test_a_release_and_its_artifacts_come_from_a_registry(
    node: NodeSide, server: support.Server, publisher: Publisher, tmp_path: Path
) -> None:
    for plainly in (False, True):
        if plainly:
            server.content.push_plainly(support.files_of(publisher.directory))
        release = node.find()
        assert release.version == "0.3.0"
        for artifact in release.manifest.artifacts:
            with configured_source(node.config) as source:
                fetch_artifact(source, artifact, str(tmp_path / artifact.name))
            content = (tmp_path / artifact.name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == artifact.sha256


def test_a_key_that_was_rotated_is_followed(
    node: NodeSide, server: support.Server, publisher: Publisher
) -> None:
    node.find()
    publisher.repository.rotate("timestamp")
    server.content.push(support.files_of(publisher.directory))
    assert node.find().version == "0.3.0"


def test_a_registry_is_trusted_no_more_than_a_web_server(
    node: NodeSide, server: support.Server, publisher: Publisher, tmp_path: Path
) -> None:
    other = Publisher(tmp_path / "other")
    other.publish("0.4.0")
    server.content.push(support.files_of(other.directory))
    assert node.refusal().code == "untrusted-signature"
    old = support.files_of(publisher.directory)
    publisher.publish("0.4.0")
    server.content.push(support.files_of(publisher.directory))
    assert node.find().version == "0.4.0"
    server.content.push(old)
    assert node.refusal().code in ("metadata-rollback", "metadata-stale")


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize(
    "behaviour", [http.status(503), http.retry_after(429, "0"), http.cut_after(5)]
)
def test_one_fault_of_the_registry_is_no_failure(
    node: NodeSide, server: support.Server, path: str, behaviour: http.Behaviour
) -> None:
    server.misbehave(path, behaviour, times=2)
    assert node.find().version == "0.3.0"
