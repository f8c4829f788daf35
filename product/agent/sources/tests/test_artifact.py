"""Fetching artifacts from a server that may do anything."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.sources.artifact import fetch_artifact
from product.agent.sources.configured import configured_source
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy
from product.agent.tests import support_http as http
from product.manifest import Artifact

CONTENT = random.Random(7).randbytes(300_000)
ARTIFACT = Artifact("root.squashfs", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
# Patient enough for three tries, without the waits of the real thing.
POLICY = FetchPolicy(tries=3, first_wait=0.001, longest_wait=0.002, silence=5.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.Server]:
    served = tmp_path / "served"
    (served / "artifacts").mkdir(parents=True)
    (served / "artifacts" / ARTIFACT.sha256).write_bytes(CONTENT)
    with http.serve(served) as running:
        yield running


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "root.squashfs"


def bring(
    server: str | None,
    dest: Path | str,
    *,
    policy: FetchPolicy = POLICY,
    interrupt: Callable[[], None] | None = None,
    **wishes: Any,
) -> int:
    """The artifact from ``server``, as an update of a node configured so brings it."""
    with configured_source(Config(server=server), policy, interrupt=interrupt) as source:
        return fetch_artifact(
            source, ARTIFACT, str(dest), policy=policy, interrupt=interrupt, **wishes
        )


def fetch(server: http.Server, dest: Path, **changes: Any) -> None:
    """Every fetch that succeeds says truly what it wrote."""
    policy = POLICY._replace(**changes)
    assert bring(server.url, dest, policy=policy) == zlib.crc32(CONTENT)


def failure(server: http.Server, dest: Path, **changes: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        fetch(server, dest, **changes)
    return caught.value


def ranges(server: http.Server) -> list[int | None]:
    return [start for _, start in server.seen]


def test_a_whole_file_is_fetched_synced_and_its_progress_told(
    server: http.Server, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    told: list[tuple[int, int]] = []
    bring(
        server.url + "/",
        dest,
        policy=DEFAULT_POLICY,
        progress=lambda done, total: told.append((done, total)),
    )
    assert dest.read_bytes() == CONTENT
    assert told[-1] == (ARTIFACT.size, ARTIFACT.size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert dest.stat().st_ino in synced
    assert server.seen == [(f"/artifacts/{ARTIFACT.sha256}", None)]


def test_a_partial_file_is_gone_on_with(server: http.Server, dest: Path) -> None:
    dest.write_bytes(CONTENT[:100_000])
    fetch(server, dest)
    assert dest.read_bytes() == CONTENT
    assert ranges(server) == [100_000]


def test_a_complete_file_is_not_asked_for(server: http.Server, dest: Path) -> None:
    dest.write_bytes(CONTENT)
    fetch(server, dest)
    assert server.seen == []


@pytest.mark.parametrize(
    "leftover",
    [
        pytest.param(bytes(100_000), id="zeros of a power cut"),
        pytest.param(bytes(len(CONTENT)), id="as long but wrong"),
        pytest.param(CONTENT + b"more", id="too long"),
    ],
)
def test_a_damaged_leftover_costs_a_fresh_fetch_not_the_update(
    server: http.Server, dest: Path, leftover: bytes
) -> None:
    dest.write_bytes(leftover)
    fetch(server, dest)
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        pytest.param(http.range_ignored, [1000], id="200 to a range"),
        pytest.param(http.status(416), [1000, None], id="416 without a size"),
        pytest.param(
            lambda handler, data, start: handler.answer(
                206, data, {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}
            ),
            [1000, None],
            id="206 from elsewhere",
        ),
        pytest.param(
            lambda handler, data, start: handler.answer(206, data[start:]),
            [1000, None],
            id="206 without Content-Range",
        ),
        pytest.param(http.short_part(5000), [1000, 6000], id="short 206"),
        pytest.param(http.status(503), [1000, 1000], id="503 once"),
        pytest.param(http.cut_after(7000), [1000, 8000], id="cut"),
    ],
)
def test_every_answer_to_a_range_leads_to_the_right_bytes(
    server: http.Server, dest: Path, behaviour: http.Behaviour, expected: list[int | None]
) -> None:
    server.misbehave("artifacts", behaviour, times=1)
    dest.write_bytes(CONTENT[:1000])
    fetch(server, dest)
    assert dest.read_bytes() == CONTENT
    assert ranges(server) == expected


def test_an_unannounced_length_is_fine(server: http.Server, dest: Path) -> None:
    server.misbehave("artifacts", http.unannounced)
    fetch(server, dest)
    assert dest.read_bytes() == CONTENT


def test_a_connection_cut_again_and_again_is_gone_on_with(server: http.Server, dest: Path) -> None:
    server.misbehave("artifacts", http.cut_after(100_000), times=2)
    fetch(server, dest, tries=1)
    assert dest.read_bytes() == CONTENT
    assert ranges(server) == [None, 100_000, 200_000]


def test_a_server_that_always_breaks_off_is_given_up_and_the_part_kept(
    server: http.Server, dest: Path
) -> None:
    server.misbehave("artifacts", http.cut_after(60_000), times=2)
    server.misbehave("artifacts", http.cut_after(0))
    error = failure(server, dest)
    assert error.code == "server-unreachable"
    assert "120000 of 300000 bytes" in error.message
    assert dest.read_bytes() == CONTENT[:120_000]
    assert len(server.seen) == 2 + 3


def test_requests_are_bounded_even_where_each_brings_a_byte(
    server: http.Server, dest: Path
) -> None:
    server.misbehave("artifacts", http.cut_after(1))
    assert failure(server, dest, requests=7).code == "server-unreachable"
    assert len(server.seen) == 7


def test_total_time_is_bounded(server: http.Server, dest: Path) -> None:
    server.misbehave("artifacts", http.status(503))
    began = time.monotonic()
    assert failure(server, dest, total=0.3, first_wait=0.1, longest_wait=0.1, tries=1000).code
    assert time.monotonic() - began < 5
    assert len(server.seen) < 10


@pytest.mark.parametrize(
    ("behaviour", "code", "kept"),
    [
        pytest.param(http.tampered, "digest-mismatch", False, id="tampered"),
        pytest.param(http.replaced(CONTENT[:-1]), "size-mismatch", True, id="too short"),
        pytest.param(http.replaced(CONTENT + b"x"), "size-mismatch", True, id="too long"),
        pytest.param(http.endless, "size-mismatch", True, id="endless"),
        pytest.param(
            http.replaced(b"<html>please log in</html>", "text/html; charset=utf-8"),
            "captive-portal",
            True,
            id="captive portal",
        ),
        pytest.param(http.status(511), "captive-portal", True, id="511"),
        pytest.param(http.status(404), "server-unreachable", True, id="404"),
        pytest.param(http.status(503), "server-unreachable", True, id="503"),
        pytest.param(http.status(204), "server-unreachable", True, id="204"),
        pytest.param(http.redirect("file:///etc/hostname"), "bad-redirect", True, id="to file"),
        pytest.param(http.redirect("https://127.0.0.1:1/"), "bad-redirect", True, id="to https"),
        pytest.param(http.redirect("http://["), "bad-redirect", True, id="to no URL"),
        pytest.param(http.redirect("http://host:port/"), "bad-redirect", True, id="to no port"),
        pytest.param(http.redirect("http://%C3%A4..b/"), "bad-redirect", True, id="to no name"),
        pytest.param(http.redirect("http://%0d%0a/"), "server-unreachable", True, id="to a break"),
        pytest.param(http.redirect("http://%00/"), "server-unreachable", True, id="to a NUL"),
        pytest.param(http.redirect("http:///path"), "bad-redirect", True, id="to no host"),
        pytest.param(http.redirect("artifacts"), "bad-redirect", True, id="redirects for ever"),
    ],
)
def test_refusals_have_names(
    server: http.Server, dest: Path, behaviour: http.Behaviour, code: str, kept: bool
) -> None:
    server.misbehave("", behaviour)
    error = failure(server, dest)
    assert error.code == code
    assert dest.exists() is kept
    # Nothing is written that was not part of the artifact's size, let alone without bound.
    assert not kept or CONTENT.startswith(dest.read_bytes())


def test_a_wrong_size_is_seen_in_a_partial_answer_and_costs_nothing(
    server: http.Server, dest: Path
) -> None:
    (server.directory / "artifacts" / ARTIFACT.sha256).write_bytes(CONTENT[:-5])
    for begun in (CONTENT[:1000], CONTENT[:-2]):
        dest.write_bytes(begun)
        assert failure(server, dest).code == "size-mismatch"
        assert dest.read_bytes() == begun
    assert ranges(server) == [1000, len(CONTENT) - 2]


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(http.replaced(CONTENT[:-1]), id="200 of another length"),
        pytest.param(http.replaced(b"gone"), id="a short 200"),
        pytest.param(http.unannounced_text(b"gone"), id="a short 200 without a length"),
        pytest.param(http.unsatisfied(7), id="416 of another length"),
        pytest.param(http.status(416), id="416 to all"),
        pytest.param(http.status(404), id="404"),
        pytest.param(http.cut_after(0), id="nothing"),
        pytest.param(http.whole_cut_after(100), id="200 that breaks off"),
    ],
)
def test_no_answer_takes_away_what_has_come(
    server: http.Server, dest: Path, behaviour: http.Behaviour
) -> None:
    """A download of 90 % is what a link of days has brought."""
    begun = CONTENT[:270_000]
    dest.write_bytes(begun)
    server.misbehave("artifacts", behaviour)
    failure(server, dest)
    assert dest.read_bytes() == begun
    assert server.sent <= 4 * len(CONTENT)
    server.misbehaviours.clear()
    fetch(server, dest)
    assert ranges(server)[-1] == 270_000


def test_a_server_that_takes_closed_ranges_alone_brings_the_file_once(
    server: http.Server, dest: Path
) -> None:
    server.misbehave("artifacts", http.closed_ranges_alone)
    fetch(server, dest)
    assert dest.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert None not in ranges(server)[1:]


def test_a_server_without_ranges_on_a_link_that_breaks_takes_a_small_multiple(
    server: http.Server, dest: Path
) -> None:
    """Each answer brings a little more than the one before, so no try is fruitless."""
    for count in range(100_000, 290_000, 1000):
        server.misbehave("artifacts", http.whole_cut_after(count), times=1)
    error = failure(server, dest)
    assert error.code == "server-unreachable"
    assert "4 times over" in error.message
    assert server.sent <= 4 * len(CONTENT) + 256 * 1024
    kept = dest.stat().st_size
    assert kept > 100_000
    assert dest.read_bytes() == CONTENT[:kept]
    server.misbehaviours.clear()
    fetch(server, dest)
    assert ranges(server)[-1] == kept


def test_a_server_without_ranges_is_gone_on_with(server: http.Server, dest: Path) -> None:
    dest.write_bytes(CONTENT[:100_000])
    server.misbehave("artifacts", http.status(416), times=1)
    server.misbehave("artifacts", http.whole_cut_after(200_000), times=1)
    server.misbehave("artifacts", http.range_ignored)
    fetch(server, dest)
    assert dest.read_bytes() == CONTENT
    assert ranges(server) == [100_000, None, None]


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(http.silent, id="silence"),
        pytest.param(http.dripping_headers, id="a header that drips"),
        pytest.param(http.continuing, id="100 Continue without end"),
        pytest.param(http.slow_redirects(0.2), id="slow redirects"),
        pytest.param(http.dripping_chunks, id="a chunk's size that drips"),
    ],
)
def test_a_server_that_takes_its_time_is_given_up(
    server: http.Server, dest: Path, behaviour: http.Behaviour
) -> None:
    server.misbehave("artifacts", behaviour)
    began = time.monotonic()
    error = failure(server, dest, answer=0.5, silence=0.5, tries=2)
    assert error.code == "server-unreachable"
    assert "timed out" in error.message
    assert time.monotonic() - began < 15


def test_a_download_may_take_longer_than_an_answer(server: http.Server, dest: Path) -> None:
    fetch_policy = POLICY._replace(answer=0.3)
    bring(server.url, dest, rate_limit=400_000, policy=fetch_policy)
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [503, 429])
def test_retry_after_is_heard(server: http.Server, dest: Path, code: int) -> None:
    server.misbehave("artifacts", http.retry_after(code, "1"), times=1)
    began = time.monotonic()
    fetch(server, dest)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    "value", ["86400", "Sun, 06 Nov 2094 08:49:37 GMT"], ids=["seconds", "date"]
)
def test_a_server_that_wants_a_long_rest_gets_it_another_day(
    server: http.Server, dest: Path, value: str
) -> None:
    server.misbehave("artifacts", http.retry_after(503, value))
    began = time.monotonic()
    assert "asked to wait" in failure(server, dest).message
    assert time.monotonic() - began < 15
    assert len(server.seen) == 1


@pytest.mark.parametrize("value", ["", "soon", "-5", "9" * 400, "Mon, 99 Nov 9999 08:49:37 GMT"])
def test_a_retry_after_that_is_none_counts_for_nothing(
    server: http.Server, dest: Path, value: str
) -> None:
    server.misbehave("artifacts", http.retry_after(503, value), times=1)
    fetch(server, dest)


def test_a_download_is_interrupted_and_what_has_come_stays(server: http.Server, dest: Path) -> None:
    server.misbehave("artifacts", http.dripping)
    end = time.monotonic() + 0.3

    def interrupt() -> None:
        if time.monotonic() > end:
            raise AgentError("enough", code="gave-way")

    with pytest.raises(AgentError, match="enough"):
        bring(server.url, dest, interrupt=interrupt)
    assert time.monotonic() < end + 15
    assert dest.stat().st_size > 0
    assert CONTENT.startswith(dest.read_bytes())


def test_redirects_within_the_scheme_are_followed(server: http.Server, dest: Path) -> None:
    server.misbehave("^/artifacts", http.redirect(f"/moved/artifacts/{ARTIFACT.sha256}"), times=1)
    server.misbehave("^/moved", http.redirect(f"{server.url}/artifacts/{ARTIFACT.sha256}"))
    fetch(server, dest)
    assert dest.read_bytes() == CONTENT


def test_a_dripping_server_is_given_up(server: http.Server, dest: Path) -> None:
    server.misbehave("artifacts", http.dripping)
    began = time.monotonic()
    error = failure(server, dest, window=0.2, requests=2)
    assert error.code == "server-unreachable"
    assert "less than 1024 a second" in error.message
    assert time.monotonic() - began < 5


def test_the_rate_limit_holds_and_is_not_taken_for_slowness(
    server: http.Server, dest: Path
) -> None:
    began = time.monotonic()
    bring(
        server.url,
        dest,
        rate_limit=600_000,
        policy=POLICY._replace(window=0.05, slowest=10_000_000, tries=1),
    )
    assert time.monotonic() - began >= 0.4
    assert dest.read_bytes() == CONTENT


def test_no_listener_is_named_with_its_address(dest: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(AgentError) as caught:
            bring(address, dest)
    assert caught.value.code == "server-unreachable"
    assert address in caught.value.message


@pytest.mark.parametrize(
    "server", [None, "", "ftp://host/", "file:///srv", "host:80", "http://", "http://h:x/", "h?q"]
)
def test_an_unusable_server_is_named(dest: Path, server: str | None) -> None:
    with pytest.raises(AgentError) as caught:
        bring(server, dest)
    assert caught.value.code == "no-server"
    assert not dest.exists()


def test_a_full_disk_is_told_as_such(server: http.Server) -> None:
    with pytest.raises(AgentError) as caught:
        bring(server.url, "/dev/full")
    assert caught.value.code == "no-space"
    assert "No space left" in caught.value.message


def test_a_missing_directory_is_told_as_such(server: http.Server, tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        bring(server.url, tmp_path / "no" / "file")
    assert caught.value.code == "write-failed"
