"""A repository in a registry: what is read of an index, and what hostile ones do not get."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.sources.configured import configured_source
from product.agent.sources.oci import MAX_FILE, OciSource
from product.agent.sources.oci_manifest import MAX_MANIFEST, MAX_ROWS, parse_oci_manifest
from product.agent.sources.protocol import FetchPolicy
from product.agent.tests import support_http as http
from product.agent.tests import support_registry as support
from product.agent.tests.support_registry import INDEX, MANIFEST, METADATA, RELEASE, Content

TIMESTAMP = b'{"timestamp": 1}'
FILES = {"metadata/timestamp.json": TIMESTAMP, "metadata/1.root.json": b'{"root": 1}'}
POLICY = FetchPolicy(tries=2, first_wait=0.001, longest_wait=0.002, silence=5.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[support.Server]:
    with support.serve(tmp_path) as running:
        yield running


def read(server: support.Server, path: str = "metadata/timestamp.json", tag: str = "x") -> bytes:
    with OciSource(server.place, tag, POLICY) as source:
        return read_from(source, path)


def read_from(source: OciSource, path: str, *, fresh: bool = False) -> bytes:
    answer = source.open(path, fresh=fresh)
    try:
        return answer.read1(1 << 20) if answer.status == 200 else str(answer.status).encode()
    finally:
        answer.close()


def refusal(server: support.Server, path: str = "metadata/timestamp.json") -> AgentError:
    with pytest.raises(AgentError) as caught:
        read(server, path)
    assert len(server.seen) < 20
    return caught.value


def layers(content: Content, files: dict[str, bytes] | None = None) -> list[dict[str, Any]]:
    return [content.blob(data, "application/x", path) for path, data in (files or FILES).items()]


def metadata(content: Content, **more: Any) -> dict[str, Any]:
    return content.image(METADATA, layers(content), **more)


Push = Callable[[Content], object]
ODD: list[Any] = [7, None, "x"]

# What is pushed, as a client of any origin may have made it.
UNDERSTOOD: dict[str, Push] = {
    "an index": lambda c: c.index([metadata(c)], "x"),
    "an index that leaves out the type of its rows": lambda c: c.index(
        [
            {k: v for k, v in c.image(RELEASE, []).items() if k != "artifactType"},
            {k: v for k, v in metadata(c).items() if k != "artifactType"},
        ],
        "x",
    ),
    "an index with what nobody knows": lambda c: c.index(
        [
            c.image("application/vnd.other", []),
            {"mediaType": "application/vnd.docker.distribution.manifest.v2+json",
             "digest": f"sha256:{'1' * 64}", "size": 1},
            {"mediaType": MANIFEST, "digest": f"sha512:{'1' * 128}", "size": 1},
            {"mediaType": MANIFEST, "digest": 7, "size": "x"},
            *ODD, {},
            c.image("application/vnd.other", []) | {"platform": {"architecture": "amd64"}},
            c.image(RELEASE, []) | {"platform": "odd", "annotations": [1]},
            metadata(c),
        ],
        "x", other={"deep": [1]}, annotations=7,
    ),
    "no media type in the index": lambda c: c.raw(
        json.dumps({"schemaVersion": 2, "manifests": [metadata(c)]}).encode(), INDEX, "x"
    ),
    "one manifest by oras": lambda c: c.image("application/vnd.any", layers(c), "x"),
    "one manifest without a type": lambda c: c.image(None, layers(c), "x"),
    "one manifest of paths with a dot": lambda c: c.image(
        None, layers(c, {f"./{path}": data for path, data in FILES.items()}), "x"
    ),
    "a file twice": lambda c: c.image(None, layers(c) * 2, "x"),
    "layers without titles": lambda c: c.image(
        None, [c.blob(b"1", "application/x"), *layers(c)], "x"
    ),
    "two metadata manifests": lambda c: c.index([metadata(c), c.image(METADATA, [])], "x"),
}  # fmt: skip


@pytest.mark.parametrize("push", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_a_repository_is_found(server: support.Server, push: Push) -> None:
    push(server.content)
    assert read(server) == TIMESTAMP


def _index_in_index(content: Content) -> None:
    inner = content.index([metadata(content)])
    content.index([inner | {"artifactType": METADATA}], "x")


def _itself(content: Content) -> None:
    """A row that names a manifest which the registry answers with the index itself."""
    row = {
        "mediaType": MANIFEST,
        "digest": f"sha256:{'2' * 64}",
        "size": 10,
        "artifactType": METADATA,
    }
    content.index([row], "x")
    content.manifests[row["digest"]] = content.manifests["x"]  # type: ignore[index]


def _swapped(content: Content) -> None:
    """A row whose manifest is another one's bytes."""
    right = metadata(content)
    wrong = content.image(METADATA, layers(content, {"metadata/timestamp.json": b"wrong"}))
    content.index([right], "x")
    content.manifests[right["digest"]] = content.manifests[wrong["digest"]]


def _smaller(content: Content) -> None:
    [row, other] = layers(content)
    content.image(METADATA, [row | {"size": 3}, other], "x")


def _damaged(content: Content) -> None:
    content.index([metadata(content)], "x")
    for digest in content.blobs:
        content.blobs[digest] = content.blobs[digest].upper()


HOSTILE: dict[str, tuple[Push, str]] = {
    "nothing": (lambda c: None, "no-tag"),
    "no JSON": (lambda c: c.raw(b"{", INDEX, "x"), "bad-oci-manifest"),
    "no object": (lambda c: c.raw(b"[]", INDEX, "x"), "bad-oci-manifest"),
    "deep nesting": (lambda c: c.raw(b"[" * 200_000, INDEX, "x"), "bad-oci-manifest"),
    "a number of many digits": (
        lambda c: c.raw(b'{"manifests": ' + b"9" * 100_000 + b"}", INDEX, "x"), "bad-oci-manifest",
    ),
    "a huge index": (lambda c: c.raw(bytes(MAX_MANIFEST + 1), INDEX, "x"), "bad-oci-manifest"),
    "too many rows": (lambda c: c.index([{}] * (MAX_ROWS + 1), "x"), "bad-oci-manifest"),
    "rows that are none": (
        lambda c: c.raw(b'{"manifests": {"a": 1}}', INDEX, "x"), "bad-oci-manifest",
    ),
    "an index and an image at once": (
        lambda c: c.index([metadata(c)], "x", layers=layers(c)), "bad-oci-manifest",
    ),
    "an image that says it is an index": (
        lambda c: c.image(METADATA, layers(c), "x", mediaType=INDEX), "bad-oci-manifest",
    ),
    "an index in an index": (_index_in_index, "bad-oci-manifest"),
    "an index that leads to itself": (_itself, "digest-mismatch"),
    "a manifest of other bytes": (_swapped, "digest-mismatch"),
    "an index of nothing": (lambda c: c.index([], "x"), "bad-oci-manifest"),
    "an index of containers": (
        lambda c: c.index([c.image(None, []) | {"platform": {"architecture": "amd64"}}], "x"),
        "bad-oci-manifest",
    ),
    "many rows to look into": (
        lambda c: c.index([c.image(None, [c.blob(b"%d" % n, "x")]) for n in range(100)], "x"),
        "bad-oci-manifest",
    ),
    "an index that names what is not there": (
        lambda c: c.index([metadata(c) | {"digest": f"sha256:{'3' * 64}"}], "x"),
        "no-tag",
    ),
    "a container": (lambda c: c.image(None, [c.blob(b"1", "x")], "x"), "bad-oci-manifest"),
    "a folder that oras packed": (
        lambda c: c.image(None, [c.blob(b"1", "x", "metadata")], "x"), "bad-oci-manifest",
    ),
    "one title, two files": (
        lambda c: c.image(None, [*layers(c), c.blob(b"{}", "x", "metadata/timestamp.json")], "x"),
        "bad-oci-manifest",
    ),
    "titles out of the repository": (
        lambda c: c.image(None, layers(c, {
            "../metadata/timestamp.json": b"1", "/metadata/timestamp.json": b"2",
            "metadata/../x": b"3", "metadata//x": b"4", "metadata/\n": b"5",
            "metadata/\u00e4": b"6", "metadata/" + "x" * 600: b"7",
        }), "x"),
        "bad-oci-manifest",
    ),
    "a blob of another size": (_smaller, "size-mismatch"),
    "a blob of other bytes": (_damaged, "digest-mismatch"),
    "a file larger than any": (
        lambda c: c.image(METADATA, [layers(c)[0] | {"size": MAX_FILE + 1}], "x"),
        "bad-oci-manifest",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("push", "code"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_content_has_a_name(server: support.Server, push: Push, code: str) -> None:
    push(server.content)
    error = refusal(server)
    assert error.code == code
    assert error.hint


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (http.endless, "size-mismatch"),
        (http.tampered, "digest-mismatch"),
        (http.cut_after(3), "server-unreachable"),
        (http.status(404), "server-unreachable"),
        (http.status(403), "access-denied"),
        (http.replaced(b"<html>", "text/html"), "captive-portal"),
    ],
)
def test_a_blob_that_is_not_served_has_a_name(
    server: support.Server, behaviour: http.Behaviour, code: str
) -> None:
    server.content.index([metadata(server.content)], "x")
    server.misbehave("/blobs/", behaviour)
    assert refusal(server).code == code


def test_the_tag_is_read_once(server: support.Server) -> None:
    content = server.content
    content.index([metadata(content)], "x")
    with OciSource(server.place, "x", POLICY) as source:
        assert read_from(source, "metadata/timestamp.json") == TIMESTAMP
        # A publisher pushes meanwhile.
        newer = layers(content, {"metadata/timestamp.json": b'{"timestamp": 2}'})
        content.image(METADATA, newer, "x")
        assert read_from(source, "metadata/1.root.json") == FILES["metadata/1.root.json"]
        assert read_from(source, "metadata/2.root.json") == b"404"
        assert read_from(source, "metadata/timestamp.json", fresh=True) == b'{"timestamp": 2}'
        assert read_from(source, "metadata/1.root.json", fresh=True) == b"404"
    tags = [headers for path, headers in zip(server.seen, server.headers, strict=True)
            if path[0].endswith("/x")]  # fmt: skip
    assert [headers.get("cache-control") for headers in tags] == [None, "no-cache"]


def test_a_digest_pins_the_index(server: support.Server) -> None:
    content = server.content
    pinned = content.index([metadata(content)], "x")["digest"]
    assert read(server, tag=pinned) == TIMESTAMP
    content.manifests[pinned] = (INDEX, content.manifests[pinned][1] + b" ")
    with pytest.raises(AgentError) as caught:
        read(server, tag=pinned)
    assert caught.value.code == "digest-mismatch"


def test_the_configuration_names_a_registry(server: support.Server) -> None:
    server.content.index([metadata(server.content)], "latest")
    config = Config(registry=server.place)
    with configured_source(config, POLICY) as source:
        assert isinstance(source, OciSource)
        assert read_from(source, "metadata/timestamp.json") == TIMESTAMP
    config = Config(registry=server.place, tag="other")
    with (
        configured_source(config, POLICY) as source,
        pytest.raises(AgentError, match="no other of"),
    ):
        source.open("metadata/timestamp.json")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON"),
        (b" " * MAX_MANIFEST + b"{}", f"is larger than {MAX_MANIFEST} bytes"),
        (b'{"layers": [' + b"{}," * MAX_ROWS + b"{}]}", f"rows, more than {MAX_ROWS}"),
    ],
)
def test_what_is_parsed_is_bounded(data: bytes, reason: str) -> None:
    with pytest.raises(AgentError, match=f"the index .*{reason}"):
        parse_oci_manifest(data, "the index")
