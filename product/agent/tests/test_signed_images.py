"""A node that takes of a registry only what was signed with cosign."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from product.agent.tests import support_http as http
from product.agent.tests import support_registry as support
from product.agent.tests.support_registry import RELEASE, TITLE
from product.agent.tests.test_registry import Site
from product.agent.tests.world import FakeRelease
from product.agent.trust.tests import support_cosign as made

SIGNATURE = "dev.cosignproject.cosign/signature"


class SignedSite(Site):
    """A publisher with a key for cosign."""

    def demand(self, base: Path) -> None:
        self.key = base / "cosign.pub"
        self.key.write_bytes(made.pem(made.KEY))
        self.configure(registry=self.server.place, require_cosign="yes", cosign_key=str(self.key))

    @property
    def index(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.server.content.manifests["latest"][1])
        return document

    @property
    def image(self) -> str:
        """The digest of the release's image."""
        [row] = [row for row in self.index["manifests"] if "platform" in row]
        return str(row["digest"])

    @property
    def tagged(self) -> str:
        return support.digest(self.server.content.manifests["latest"][1])

    def sign(self, digest: str, key: Any = made.KEY) -> None:
        """In the older form."""
        content, data = self.server.content, made.payload(digest)
        row = content.blob(data, "application/vnd.dev.cosign.simplesigning.v1+json")
        row["annotations"] = {SIGNATURE: made.signed(data, key)}
        content.image(None, [row], f"{digest.replace(':', '-')}.sig")

    def refer(self, digest: str) -> None:
        """In the newer form."""
        content, data = self.server.content, json.dumps(made.bundle(made.statement(digest)))
        image = content.image(made.BUNDLE, [content.blob(data.encode(), made.BUNDLE)])
        content.referrers[digest] = [image]

    def refused(self) -> str:
        """The code, after nothing was written."""
        before = len(self.server.seen)
        artifacts = {row["digest"] for row in self.layers() if row["mediaType"] == "application/x"}
        assert self.world.run("apply") == 1
        asked = {path.rpartition("/")[2] for path, _ in self.server.seen[before:]}
        assert not artifacts & asked, "an artifact was fetched"
        assert not list(self.world.directory("B").iterdir()), "the passive slot was written to"
        return str(self.world.state()["last_error"]).partition(":")[0]

    def layers(self) -> list[dict[str, Any]]:
        document = json.loads(self.server.content.manifests[self.image][1])
        rows: list[dict[str, Any]] = document["layers"]
        return rows


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SignedSite]:
    (tmp_path / "served").mkdir()
    with support.serve(tmp_path / "served") as server:
        made_site = SignedSite(tmp_path, monkeypatch, server)
        made_site.demand(tmp_path)
        yield made_site


@pytest.mark.parametrize("newer", [True, False])
@pytest.mark.parametrize("of_index", [True, False])
def test_a_signed_release_is_taken(site: SignedSite, newer: bool, of_index: bool) -> None:
    assert site.refused() == "cosign-unsigned"
    assert site.world.run("check") == 1
    digest = site.tagged if of_index else site.image
    (site.refer if newer else site.sign)(digest)
    assert site.world.run("check") == 10
    assert site.world.run("apply") == 0


def test_what_oras_pushed_is_signed_as_it_is(site: SignedSite) -> None:
    files = support.files_of(site.publisher.directory)
    digest = str(site.server.content.push_plainly(files)["digest"])
    assert site.world.run("apply") == 1
    site.sign(digest)
    assert site.world.run("apply") == 0


def test_a_strangers_signature_is_none(site: SignedSite) -> None:
    site.sign(site.image, made.STRANGER)
    assert site.refused() == "cosign-other-key"


def test_the_signature_of_another_release_is_none(site: SignedSite) -> None:
    """Even where the image of that one stands beside it in the index."""
    older = site.image
    site.sign(older)
    site.push(FakeRelease("0.3.0"))
    document = site.index
    document["manifests"].insert(0, {
        "mediaType": support.MANIFEST, "digest": older, "artifactType": RELEASE,
        "size": len(site.server.content.manifests[older][1]),
    })  # fmt: skip
    site.server.content.raw(json.dumps(document).encode(), support.INDEX, "latest")
    assert site.world.run("apply") == 1
    assert str(site.world.state()["last_error"]).startswith("cosign-unsigned: ")


def test_a_signed_image_counts_by_what_it_lists(site: SignedSite) -> None:
    """Not by its title or its annotations, which are the release's own."""
    content, document = site.server.content, site.index
    [row] = [row for row in document["manifests"] if "platform" in row]
    false = [layer for layer in site.layers() if layer["annotations"][TITLE] != "manifest.json"]
    kind = "application/vnd.kubesolo.os.manifest.v1+json"
    false.append(content.blob(b"{}", kind, "manifest.json"))
    image = content.image(RELEASE, false, annotations=row["annotations"])
    row |= image
    index = content.raw(json.dumps(document).encode(), support.INDEX, "latest")
    for digest in (image["digest"], index["digest"]):
        site.sign(digest)
    assert site.world.run("apply") == 1
    assert str(site.world.state()["last_error"]).startswith("cosign-unsigned: ")


def test_one_fault_of_the_registry_is_no_missing_signature(site: SignedSite) -> None:
    site.refer(site.image)
    site.server.misbehave("/referrers/", http.retry_after(503, "0"), times=2)
    assert site.world.run("apply") == 0
    site.push(FakeRelease("0.3.0"))
    site.server.misbehave("/referrers/", http.status(503))
    assert site.world.run("check") == 1


@pytest.mark.parametrize("server", ["http://127.0.0.1:1/", "disk:RELEASES/os"])
def test_only_a_registry_has_signatures(
    site: SignedSite, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"require_cosign": "yes", "cosign_key": str(site.key)}
    for given in ((), ("--server", server)):
        named = {"registry": site.server.place} if given else {"server": server}
        site.configure(**named, **settings)
        assert site.world.run("apply", *given) == 1
        assert "only a registry has such signatures" in capsys.readouterr().err
    assert site.server.seen == []


def test_a_key_that_is_none_is_said_before_anybody_is_asked(site: SignedSite) -> None:
    site.key.write_text("none")
    assert site.world.run("apply") == 1
    assert str(site.world.state()["last_error"]).startswith("no-cosign-key: ")
    assert site.server.seen == []
