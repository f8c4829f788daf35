"""What came into a slot is counted once, however often a fetch was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.update.tally import Tally
from product.manifest import Artifact, Manifest

ARTIFACT = Artifact("root.squashfs", 1000, "ab" * 32)


def write(path: str, size: int, error: AgentError | None = None) -> int:
    Path(path).write_bytes(b"x" * size)
    if error:
        raise error
    return 0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "root.squashfs.part")


def test_a_fetch_that_goes_on(path: str) -> None:
    tally = Tally()
    cut = AgentError("it broke off", code="server-unreachable")
    with pytest.raises(AgentError):
        tally.counting("full", lambda _, to: write(to, 400, cut))(ARTIFACT, path)
    assert tally.bytes == {"full": 400, "delta": 0, "copied": 0}
    tally.counting("full", lambda _, to: write(to, 1000))(ARTIFACT, path)
    assert tally.bytes["full"] == 1000


def test_a_fetch_that_could_not_begin(path: str) -> None:
    def fetch(artifact: Artifact, to: str) -> int:
        raise OSError("no network")

    tally = Tally()
    with pytest.raises(OSError, match="no network"):
        tally.counting("full", fetch)(ARTIFACT, path)
    assert tally.bytes["full"] == 0


def test_a_whole_file_that_was_the_wrong_one(path: str) -> None:
    def fetch(artifact: Artifact, to: str) -> int:
        raise AgentError("another", code="digest-mismatch")

    tally = Tally()
    with pytest.raises(AgentError):
        tally.counting("full", fetch)(ARTIFACT, path)
    assert tally.bytes["full"] == 1000


def test_a_copy_does_not_go_on(path: str) -> None:
    write(path, 400)
    tally = Tally()
    tally.counting("copied", lambda _, to: write(to, 1000))(ARTIFACT, path)
    assert tally.bytes == {"full": 0, "delta": 0, "copied": 1000}


def test_a_delta_is_no_artifact_of_the_release(path: str) -> None:
    tally = Tally()
    manifest = Manifest("0.2.0", "x86_64", (ARTIFACT,))
    fetch = tally.fetching(lambda artifact, to: write(to, artifact.size), manifest)
    fetch(ARTIFACT, path)
    fetch(Artifact("root.squashfs.delta", 30, "cd" * 32), f"{path}.delta")
    assert tally.bytes == {"full": 1000, "delta": 30, "copied": 0}
