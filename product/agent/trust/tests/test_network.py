"""Metadata from servers, caches and networks as they really are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.tests import support_http as http
from product.agent.trust import fetcher
from product.agent.trust.tests.test_client import NOW, NodeSide, Publisher


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher")
    made.publish("0.2.0")
    return made


@pytest.fixture
def server(publisher: Publisher) -> Iterator[http.Server]:
    with http.serve(publisher.directory) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, server: http.Server, publisher: Publisher) -> NodeSide:
    return NodeSide(tmp_path, server, publisher.pubkey)


def store(node: NodeSide) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in node.store.iterdir()}


def _breaking_off(handler: http.Handler, data: bytes, start: int) -> None:
    handler.answer(200, data[:5], length=len(data) + 5)
    handler.close_connection = True


@pytest.mark.parametrize(
    "path", ["1.root.json", "2.root.json", "timestamp.json", "2.snapshot.json", "manifest.json"]
)
@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(http.status(503), id="503"),
        pytest.param(http.retry_after(429, "0"), id="429"),
        pytest.param(http.status(500), id="500"),
        pytest.param(_breaking_off, id="cut"),
    ],
)
def test_one_fault_of_the_server_is_no_failure(
    node: NodeSide, server: http.Server, path: str, behaviour: http.Behaviour
) -> None:
    server.misbehave(path.replace(".", r"\."), behaviour, times=2)
    assert node.find().version == "0.2.0"


def test_retry_after_is_heard(node: NodeSide, server: http.Server) -> None:
    server.misbehave("timestamp", http.retry_after(503, "1"), times=1)
    began = time.monotonic()
    assert node.find().version == "0.2.0"
    assert time.monotonic() - began >= 1


def test_a_server_that_wants_a_long_rest_is_not_waited_for(
    node: NodeSide, server: http.Server
) -> None:
    server.misbehave("timestamp", http.retry_after(503, "3600"))
    began = time.monotonic()
    error = node.refusal()
    assert error.code == "server-unreachable"
    assert "answered 503 and asked to wait 3600 s" in error.message
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(http.silent, id="silence"),
        pytest.param(http.dripping_headers, id="a header that drips"),
        pytest.param(http.continuing, id="100 Continue without end"),
        pytest.param(http.slow_redirects(0.2), id="slow redirects"),
        pytest.param(http.dripping, id="a body that drips"),
        pytest.param(http.dripping_chunks, id="a chunk's size that drips"),
        pytest.param(http.dripping_trailers, id="trailers without end"),
    ],
)
@pytest.mark.parametrize("path", ["1.root.json", "timestamp.json", "manifest.json"])
def test_a_file_has_one_deadline_for_all_tries(
    node: NodeSide,
    server: http.Server,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: http.Behaviour,
    path: str,
) -> None:
    monkeypatch.setattr(fetcher, "FILE_SECONDS", 0.5)
    server.misbehave(path.replace(".", r"\."), behaviour)
    began = time.monotonic()
    error = node.refusal()
    assert error.code == "server-unreachable"
    assert "timed out" in error.message
    assert time.monotonic() - began < 15


def test_all_files_have_one_deadline(
    node: NodeSide, server: http.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "ALL_SECONDS", 1.0)

    def slow(handler: http.Handler, data: bytes, start: int) -> None:
        time.sleep(0.4)
        handler.answer(200 if data else 404, data)

    server.misbehave("", slow)
    began = time.monotonic()
    assert node.refusal().code == "server-unreachable"
    assert time.monotonic() - began < 15


PAGE = b"\xef\xbb\xbf\r\n <!doctype html><html>log in</html>" + b" " * 70_000


@pytest.mark.parametrize(
    ("path", "behaviour"),
    [
        pytest.param(r"[^1]\.root\.json", http.replaced(PAGE, "text/html"), id="page for a root"),
        pytest.param("1.root.json", http.replaced(PAGE, "text/html"), id="page for the first"),
        pytest.param("", http.replaced(PAGE, "text/html; charset=utf-8"), id="page for all"),
        pytest.param("", http.replaced(b"Please log in", "text/html"), id="text called a page"),
        pytest.param("", http.replaced(PAGE), id="page that is not called one"),
        pytest.param("", http.replaced(b"", "text/html"), id="an empty page"),
        pytest.param("manifest", http.replaced(PAGE, "text/html"), id="page for the manifest"),
        pytest.param("", http.status(511), id="511"),
        pytest.param("metadata", http.redirect("/login"), id="a login host"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_web_page_is_called_one(
    node: NodeSide,
    server: http.Server,
    publisher: Publisher,
    path: str,
    behaviour: http.Behaviour,
    known: bool,
) -> None:
    (publisher.directory / "login").write_bytes(PAGE)
    if known:
        node.find()
        if path == "1.root.json":
            (node.store / "root.json").unlink()
    server.misbehave(path, behaviour)
    error = node.refusal()
    assert error.code == "captive-portal"
    assert "does not serve what the publisher signed" not in str(error.hint)
    server.misbehaviours.clear()
    assert node.find().version == "0.2.0"


def test_a_page_in_place_of_a_root_names_the_fallback_rule(
    node: NodeSide, server: http.Server
) -> None:
    server.misbehave(r"2\.root\.json", http.replaced(PAGE, "text/html"))
    assert "fallback rule" in str(node.refusal().hint)


def test_metadata_that_is_called_a_page_is_metadata(node: NodeSide, server: http.Server) -> None:
    def mislabelled(handler: http.Handler, data: bytes, start: int) -> None:
        handler.answer(200 if data else 404, data, {"Content-Type": "text/html"})

    server.misbehave("", mislabelled)
    assert node.find().version == "0.2.0"


@pytest.fixture
def yesterday(publisher: Publisher, node: NodeSide, tmp_path: Path) -> Path:
    """The repository before its newest release, which the node knows."""
    old = tmp_path / "old"
    shutil.copytree(publisher.directory, old)
    publisher.now = NOW - timedelta(hours=1)
    publisher.publish("0.3.0")
    assert node.find().version == "0.3.0"
    return old


def stale(old: Path) -> http.Behaviour:
    timestamp = (old / "metadata/timestamp.json").read_bytes()
    return lambda handler, data, start: handler.answer(200, timestamp)


def test_a_cache_that_is_a_moment_behind_is_asked_again(
    node: NodeSide, server: http.Server, yesterday: Path
) -> None:
    server.misbehave("timestamp", stale(yesterday), times=2)
    assert node.find().version == "0.3.0"
    last = [h for (path, _), h in zip(server.seen, server.headers, strict=True) if "time" in path]
    assert last[-1]["cache-control"] == "no-cache"


def test_a_cache_that_is_hours_behind_is_not_called_an_attack(
    node: NodeSide, server: http.Server, yesterday: Path
) -> None:
    before = store(node)
    server.misbehave("timestamp", stale(yesterday))
    error = node.refusal()
    assert error.code == "metadata-stale"
    assert "try again later" in str(error.hint)
    assert store(node) == before
    assert sum("timestamp" in path for path, _ in server.seen) < 10


def test_what_lasts_is_called_one(node: NodeSide, server: http.Server, yesterday: Path) -> None:
    before = store(node)
    server.misbehave("timestamp", stale(yesterday))
    node.now = NOW + timedelta(days=2)
    assert node.refusal().code == "metadata-rollback"
    assert store(node) == before


def test_an_attackers_page_hides_no_next_root(
    node: NodeSide, server: http.Server, publisher: Publisher
) -> None:
    """A page is an error, and never the end of the walk over roots."""
    node.find()
    publisher.repository.rotate("root")
    server.misbehave(r"2\.root\.json", http.replaced(PAGE, "text/html"))
    assert node.refusal().code == "captive-portal"


def test_a_login_is_sent_for_all_files_and_shown_nowhere(
    node: NodeSide, server: http.Server
) -> None:
    node.config = node.config._replace(server=server.url.replace("//", "//me:hunter22@"))
    assert node.find().version == "0.2.0"
    assert {h.get("authorization") for h in server.headers} == {"Basic bWU6aHVudGVyMjI="}
    faults = [http.status(401), http.status(500), http.tampered, http.replaced(PAGE)]
    for behaviour in faults:
        for path in ("1.root", "2.root", "timestamp", "snapshot", "targets/", "manifest"):
            shutil.rmtree(node.store)
            server.misbehave(path, behaviour)
            with pytest.raises(AgentError) as caught:
                node.find()
            assert "hunter22" not in f"{caught.value.message} {caught.value.hint}"
            server.misbehaviours.clear()
    node.config = node.config._replace(channel="beta")
    assert "hunter22" not in node.refusal().message


def test_a_pods_server_is_judged(node: NodeSide, server: http.Server) -> None:
    place = server.url.removeprefix("http://")
    node.config = node.config._replace(server_from_pod=True)
    assert node.refusal().code == "server-refused"
    assert server.seen == []
    node.config = node.config._replace(pod_servers=place)
    assert node.find().version == "0.2.0"
