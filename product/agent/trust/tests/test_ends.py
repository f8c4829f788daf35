"""What status says of metadata that ends soon."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from product.agent.tests.world import World
from product.agent.trust.ends import ending
from product.release.keys import KeyDirectory
from product.release.repository import Repository

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("role", "days", "words"),
    [
        ("root", 31, None),
        ("root", 29, "root metadata of the server ends in 29 days, on 2026-12-30: its publisher"),
        ("targets", 30, "targets metadata of the server ends in 30 days, on 2026-12-31: its"),
        ("targets", -1, "targets metadata of the server has ended since 2026-11-30: its publisher"),
        ("timestamp", 1, None),
    ],
)
def test_the_end_of_what_a_publisher_signed(
    tmp_path: Path, role: str, days: int, words: str | None
) -> None:
    keys = KeyDirectory.generate(tmp_path / "keys")
    repository = Repository.create(tmp_path / "repository", keys, clock=lambda: NOW)
    repository.refresh(roles=[role], expires=NOW + timedelta(days=days))
    state = repository.read()
    names = {"root": f"{state.root.version}.root", "targets": f"{state.targets.version}.targets"}
    for name, file in {**names, "timestamp": "timestamp"}.items():
        source = repository.metadata / f"{file}.json"
        (tmp_path / f"{name}.json").write_bytes(source.read_bytes())
    found = ending(str(tmp_path), NOW.timestamp())
    assert len(found) == (words is not None)
    assert not words or found[0].startswith(words)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"signed": {"expires": 7}}',
        '{"signed": {"expires": "0001-01-01T00:00:00+10:00"}}',
        "[" * 100_000,
    ],
)
def test_damage_is_no_end(tmp_path: Path, content: str) -> None:
    (tmp_path / "root.json").write_text(content)
    assert ending(str(tmp_path), NOW.timestamp()) == []


def test_status_says_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    end = datetime.fromtimestamp(world.clock.now(), UTC) + timedelta(days=10)
    signed = {"signed": {"expires": end.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    world.write_file(f"{world.paths.metadata}/root.json", json.dumps(signed))
    assert world.run("status") == 0
    assert "problem: root metadata of the server ends in 10 days" in capsys.readouterr().out
