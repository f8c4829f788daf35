"""What every source keeps to: one table of tests, run for each kind."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.net.access import Access
from product.agent.sources.artifact import fetch_artifact
from product.agent.sources.http import HttpSource
from product.agent.sources.oci import OciSource
from product.agent.sources.protocol import Answer, FetchPolicy, Source, place
from product.agent.sources.tests.test_volume import Computer
from product.agent.tests import support_http as http
from product.agent.tests import support_registry as registry
from product.image.tools import HostTools
from product.manifest import Artifact

CONTENT = random.Random(9).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ARTIFACT = Artifact("root.squashfs", len(CONTENT), SHA256)
FILES = {
    "metadata/timestamp.json": b'{"a": 1}',
    "targets/stable/x86_64/0.manifest.json": b"{}",
    f"artifacts/{SHA256}": CONTENT,
}
POLICY = FetchPolicy(tries=2, first_wait=0.001, longest_wait=0.002, silence=5.0)

# The source of a repository, which it may be asked to open anew.
Open = Callable[[], Source]


def _write(folder: Path) -> None:
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@contextmanager
def over_http(base: Path, tools: HostTools) -> Iterator[Open]:
    """A web server."""
    _write(base / "served")
    with http.serve(base / "served") as server:
        yield lambda: HttpSource(server.url.replace("//", "//me:word@"), POLICY)


@contextmanager
def on_a_disk(base: Path, tools: HostTools) -> Iterator[Open]:
    """A stick."""
    with pytest.MonkeyPatch.context() as patch:
        computer = Computer(base, tools, patch)
        computer.disk("sda", "RELEASES")
        _write(computer.shown / "os")
        yield lambda: computer.source("disk:RELEASES/os")


@contextmanager
def in_a_registry(base: Path, tools: HostTools) -> Iterator[Open]:
    """What ``kubesolo-release push`` made of it."""
    with registry.serve(base) as server:
        server.content.push(FILES)
        yield lambda: OciSource(server.place, policy=POLICY)


@contextmanager
def in_a_registry_by_oras(base: Path, tools: HostTools) -> Iterator[Open]:
    """What ``oras push`` made of it, where only tokens are taken, for one request each."""
    with registry.serve(base) as server:
        pushed = server.content.push_plainly(FILES, "by-hand")
        server.ask_for_token()
        server.token_login = registry.BASIC
        server.token_uses = 1
        yield lambda: OciSource(
            server.place, pushed["digest"], policy=POLICY, access=Access(login=registry.BASIC)
        )


SOURCES = [over_http, on_a_disk, in_a_registry, in_a_registry_by_oras]


@pytest.fixture(params=SOURCES, ids=lambda source: source.__name__)
def repository(
    request: pytest.FixtureRequest, tmp_path: Path, host_tools: HostTools
) -> Iterator[Open]:
    folder = tmp_path / "source"
    folder.mkdir()
    with ExitStack() as stack:
        yield stack.enter_context(request.param(folder, host_tools))


@pytest.fixture
def source(repository: Open) -> Iterator[Source]:
    with repository() as opened:
        yield opened


def body(answer: Answer) -> bytes:
    try:
        content = bytearray()
        while chunk := answer.read1(1000):
            assert len(chunk) <= 1000
            content += chunk
        return bytes(content)
    finally:
        answer.close()


def test_each_file_is_at_its_path(source: Source) -> None:
    for path, content in FILES.items():
        for fresh in (False, True):
            answer = source.open(path, fresh=fresh, until=time.monotonic() + 20)
            assert (answer.status, body(answer)) == (200, content)


@pytest.mark.parametrize(
    "path",
    ["metadata/2.root.json", f"artifacts/{'0' * 64}", "artifacts", "metadata", "none/at/all",
     "metadata/../../escaped", "../escaped"],
)  # fmt: skip
def test_what_is_not_there_is_404_and_the_next_file_comes(source: Source, path: str) -> None:
    answer = source.open(path)
    answer.close()
    assert answer.status == 404
    answer = source.open("metadata/timestamp.json")
    assert body(answer) == FILES["metadata/timestamp.json"]


@pytest.mark.parametrize(
    ("start", "end", "status", "expected"),
    [
        (0, None, 200, CONTENT),
        (1000, None, 206, CONTENT[1000:]),
        (1000, len(CONTENT) - 1, 206, CONTENT[1000:]),
        (len(CONTENT) - 1, len(CONTENT) - 1, 206, CONTENT[-1:]),
        (len(CONTENT), None, 416, b""),
    ],
)
def test_a_range_of_an_artifact(
    source: Source, start: int, end: int | None, status: int, expected: bytes
) -> None:
    answer = source.open(f"artifacts/{SHA256}", start=start, end=end)
    found = answer.header("content-range")
    assert (answer.status, body(answer)) == (status, expected)
    if status == 206:
        assert found == f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    elif status == 416:
        assert found == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("begun", [0, 1, 120_000, len(CONTENT), len(CONTENT) + 1])
def test_an_artifact_is_brought_and_gone_on_with(
    source: Source, tmp_path: Path, begun: int
) -> None:
    target = tmp_path / "target"
    target.write_bytes((CONTENT + b"x")[:begun])
    fetch_artifact(source, ARTIFACT, str(target), policy=POLICY)
    assert target.read_bytes() == CONTENT


def test_what_an_earlier_fetch_spoiled_is_brought_anew(source: Source, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(bytes(100_000))
    fetch_artifact(source, ARTIFACT, str(target), policy=POLICY)
    assert target.read_bytes() == CONTENT


def test_an_artifact_of_another_size_is_refused(source: Source, tmp_path: Path) -> None:
    wrong = ARTIFACT._replace(size=ARTIFACT.size - 1)
    with pytest.raises(AgentError) as caught:
        fetch_artifact(source, wrong, str(tmp_path / "target"), policy=POLICY)
    assert caught.value.code == "size-mismatch"
    assert place(source, f"artifacts/{SHA256}") in caught.value.message


def test_it_is_shown_without_a_login_and_by_its_setting(source: Source) -> None:
    assert "word" not in source.address
    assert not source.address.endswith("/")
    assert source.setting in ("server", "registry")


def test_it_is_opened_again_and_again(repository: Open) -> None:
    for _ in range(2):
        with repository() as first, repository() as second:
            for source in (first, second):
                assert body(source.open("metadata/timestamp.json")) == b'{"a": 1}'


def test_nobody_is_asked_before_a_file_is(repository: Open) -> None:
    with repository():
        pass
