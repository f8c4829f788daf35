"""What the real cosign signs in a real registry, as a node reads it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.servers.registry import Registry
from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.sources.configured import configured_source
from product.agent.trust.client import find_release
from product.agent.trust.cosign import demanded_key, require_signed_release
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from product.release.cli import main
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.tests.slotfiles import make_slot

NAME = "os/kubesolo"
ROOT = Path(__file__).parents[3]
PUBLISHING = (ROOT / "docs/publishing.md").read_text().partition("## Signing with cosign")[2]
KINDS = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
OFFLINE = ("--tlog-upload=false", "--allow-http-registry", "--yes")


class Site:
    """A publisher with cosign, a registry, and what a node is told of them."""

    def __init__(self, folder: Path, registry: Registry, tools: HostTools) -> None:
        self.folder = folder
        self.registry = registry
        self._tools = tools
        self._repository = Repository.create(
            folder / "repository", KeyDirectory.generate(folder / "keys")
        )
        self.push("0.2.0")
        self.cosign("generate-key-pair")

    def push(self, version: str) -> None:
        """Publish a release, and move the tag to it."""
        slot = make_slot(self.folder / version, version, "x86_64")
        self._repository.publish(slot, channel="stable", notes="", min_compatible_version=None)
        place = f"{self.registry.host}/{NAME}:stable"
        assert main(["push", str(self.folder / "repository"), place, "--plain-http"]) == 0
        index = self.manifest("stable")
        self.index = f"sha256:{hashlib.sha256(index).hexdigest()}"
        [self.image] = [
            row["digest"] for row in json.loads(index)["manifests"] if "platform" in row
        ]
        self.digest = self.index

    def refresh(self) -> None:
        """Renew the metadata, and move the tag."""
        self._repository.refresh()
        place = f"{self.registry.host}/{NAME}:stable"
        assert main(["push", str(self.folder / "repository"), place, "--plain-http"]) == 0

    @property
    def place(self) -> str:
        """What is signed."""
        return f"{self.registry.host}/{NAME}@{self.digest}"

    def cosign(self, *arguments: str) -> None:
        """Whatever the host's user has set up stays out of it."""
        environment = {"HOME": str(self.folder), "COSIGN_PASSWORD": "pass word"}
        self._tools.run("cosign", *arguments, environment=environment, cwd=self.folder)

    def sign(self, key: str = "cosign.key") -> None:
        self.cosign("sign", "--key", key, *OFFLINE, self.place)

    def attest(self, kind: str = PREDICATE, key: str = "cosign.key") -> None:
        """The newer form: this cosign makes it for attestations, later ones for signatures."""
        (self.folder / "predicate.json").write_text("{}")
        arguments = ("--new-bundle-format", "--type", kind, "--predicate", "predicate.json")
        self.cosign("attest", "--key", key, *OFFLINE, *arguments, self.place)

    def manifest(self, reference: str) -> bytes:
        request = urllib.request.Request(
            f"{self.registry.url}/v2/{NAME}/manifests/{reference}", headers={"Accept": KINDS}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def tag(self, name: str, data: bytes) -> None:
        """Put a manifest under a tag, as anybody can who may push."""
        request = urllib.request.Request(
            f"{self.registry.url}/v2/{NAME}/manifests/{name}",
            data=data,
            method="PUT",
            headers={"Content-Type": json.loads(data)["mediaType"]},
        )
        urllib.request.urlopen(request, timeout=30).close()

    def run(self, block: str) -> str:
        """Lines of a shell as the handbook has them, with this registry and the locked cosign."""
        cosign = shlex.join(self._tools.argv("cosign"))
        script = f"""set -eu
        kubesolo-release() {{ PYTHONPATH={ROOT} "{sys.executable}" -m product.release "$@" $HTTP; }}
        cosign() {{ {cosign} "$@" $([ "$1" = generate-key-pair ] || echo --allow-http-registry); }}
        {block.replace("registry.example.com/kubesolo-os", f"{self.registry.host}/{NAME}")}"""
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={
                **os.environ, "HOME": str(self.folder), "COSIGN_PASSWORD": "pass word",
                "HTTP": "--plain-http",
            },
            capture_output=True,
            text=True,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def verdict(self, key: str = "cosign.pub") -> str:
        """What a node says of the tag: ``counts``, or the error's code."""
        config = Config(
            registry=f"http://{self.registry.host}/{NAME}",
            tag="stable",
            pubkey=str(self.folder / "keys/root.pub.pem"),
            cosign_key=str(self.folder / key),
            require_cosign="yes",
        )
        try:
            key_found = demanded_key(config)
            assert key_found is not None
            with configured_source(config) as source:
                release = find_release(
                    source, config, architecture="x86_64", metadata_dir=str(self.folder / "store")
                )
                require_signed_release(source, release.digest, key_found)
        except AgentError as error:
            return error.code
        return "counts"


@pytest.fixture(scope="module")
def tools() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")


@pytest.fixture
def site(tmp_path: Path, tools: HostTools, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("KUBESOLO_CACHE", str(Cache().root))
    # No login of whoever runs the tests counts.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    with Registry(tools=tools, runs=tmp_path / "runs") as registry:
        yield Site(tmp_path, registry, tools)


def test_what_cosign_signed_counts(site: Site) -> None:
    assert site.verdict() == "cosign-unsigned"
    site.sign()
    assert site.verdict() == "counts"
    # Another release under the same tag is not signed by that.
    signed = site.manifest(f"{site.digest.replace(':', '-')}.sig")
    site.push("0.3.0")
    assert site.verdict() == "cosign-unsigned"
    site.tag(f"{site.digest.replace(':', '-')}.sig", signed)
    assert site.verdict() == "cosign-other-digest"


def test_a_release_is_signed_once_whatever_becomes_of_the_metadata(site: Site) -> None:
    """The index changes with every refresh; the image of a release does not."""
    site.digest = site.image
    site.sign()
    assert site.verdict() == "counts"
    site.refresh()
    assert site.manifest("stable") != site.manifest(site.index)
    assert site.verdict() == "counts"
    site.push("0.3.0")
    assert site.verdict() == "cosign-unsigned"


def test_the_newer_form_counts(site: Site) -> None:
    site.attest("https://example.com/other")
    assert site.verdict() == "cosign-malformed"
    site.attest()
    assert site.verdict() == "counts"


def test_only_the_nodes_own_key_counts(site: Site) -> None:
    site.cosign("generate-key-pair", "--output-key-prefix", "own")
    site.sign()
    site.attest()
    assert site.verdict("own.pub") == "cosign-other-key"
    site.sign("own.key")
    assert (site.verdict("own.pub"), site.verdict()) == ("counts", "counts")


def test_the_handbook_runs(site: Site) -> None:
    for name in ("cosign.key", "cosign.pub"):
        (site.folder / name).unlink()
    [block] = re.findall(r"^```shell\n(.*?)^```$", PUBLISHING, re.MULTILINE | re.DOTALL)
    said = site.run(block)
    assert site.verdict() == "counts"
    assert "signatures were verified against the specified public key" in said
    assert site.manifest("candidate") == site.manifest("stable")
    # As the text says of the daily push.
    site.refresh()
    assert site.verdict() == "counts"
