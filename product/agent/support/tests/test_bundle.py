"""A bundle is written whatever fails, in bounded time and size, for its owner alone."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from product.agent.cli import main
from product.agent.config import Config
from product.agent.logs import boots as index
from product.agent.logs import lines
from product.agent.support import bundle, parts
from product.agent.support.bundle import Outcome, Part, write_bundle
from product.agent.support.redact import Redactor
from product.agent.system.paths import Paths
from product.agent.tests.world import World


def _write(tmp_path: Path, *parts: Part) -> tuple[Outcome, dict[str, str]]:
    target = io.BytesIO()
    outcome = write_bundle(
        parts, target, Paths(str(tmp_path)), root="bundle", now=1.0, monotonic=time.monotonic
    )
    target.seek(0)
    return outcome, _read(target)


def _read(file: io.BytesIO) -> dict[str, str]:
    found = {}
    with tarfile.open(fileobj=file) as archive:
        for entry in archive:
            assert entry.mode == 0o600
            content = archive.extractfile(entry)
            assert content is not None
            found[entry.name.removeprefix("bundle/")] = content.read().decode()
    return found


def _raise() -> bytes:
    raise RuntimeError("no such thing")


def _hang() -> bytes:
    time.sleep(60)
    return b""


def test_a_part_that_fails_or_hangs_costs_itself_alone(tmp_path: Path) -> None:
    outcome, found = _write(
        tmp_path,
        Part("raises", _raise),
        Part("dies", lambda: os.abort()),
        Part("hangs", _hang, 0.3),
        Part("well", lambda: b"server=https://u:swordfish1@host"),
    )
    assert outcome.files.keys() == {"well"}
    assert found["well"] == "server=https://[redacted]@host"
    assert outcome.failed == {
        "raises": "RuntimeError: no such thing",
        "dies": "no answer: the process that was to ask for it has died",
        "hangs": "no answer within 0.3 s",
    }
    for name, reason in outcome.failed.items():
        assert f"{name}: {reason}" in found["README.txt"]


def test_size_and_time_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "PART_BYTES", 1000)
    monkeypatch.setattr(bundle, "TOTAL_BYTES", 2500)
    parts = [Part(f"part-{n}", lambda: b"x" * 5000 + b"end") for n in range(5)]
    outcome, found = _write(tmp_path, *parts)
    assert sum(outcome.files.values()) == 2500
    assert found["part-0"].endswith("end")
    assert outcome.failed["part-0"] == "only its last 1000 bytes are here"
    assert outcome.failed["part-4"].startswith("left out: ")
    monkeypatch.setattr(bundle, "TOTAL_SECONDS", 0.0)
    outcome, found = _write(tmp_path, *parts)
    assert found.keys() == {"README.txt"}


@pytest.mark.parametrize(
    ("place", "missing", "there"),
    [
        (index, "list_crashes", "logs/boot-1.txt"),
        (index, "list_boots", "commands/mounts.txt"),
        (lines, "pods_in", "logs/boot-1.txt"),
    ],
)
def test_a_listing_that_hangs_costs_itself_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    place: object, missing: str, there: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(place, missing, lambda *_: _hang())
    monkeypatch.setattr(parts, "LOOK_SECONDS", 0.3)
    made = list(parts.parts_of(world.node(), Config))
    names = [part.name for part in made]
    assert there in names
    outcome, found = _write(tmp_path, made[-1])
    ((name, reason),) = outcome.failed.items()
    assert reason == "AgentError: what there is cannot be listed: no answer within 0.3 s"
    assert f"{name}: {reason}" in found["README.txt"]


def test_a_disk_without_an_answer_leaves_what_lies_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = os.path.exists

    def on_disk(path: str) -> bool:
        return bool(_hang()) if "/etc/" in path else exists(path)

    monkeypatch.setattr(os.path, "exists", on_disk)
    monkeypatch.setattr(parts, "LOOK_SECONDS", 0.3)
    names = [part.name for part in parts.parts_of(world.node(), Config)]
    assert "files/run/kubesolo/boot.json" in names
    assert "files" in names


def test_the_configuration_is_read_in_a_child(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "load_config", lambda *_: _hang())
    monkeypatch.setattr(parts, "STATUS_SECONDS", 0.3)
    path = tmp_path / "bundle.tar.gz"
    assert world.run("support", "--output", str(path)) == 0
    assert path.exists()


def test_what_cannot_be_cleaned_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Redactor, "clean", lambda self, text: "" if "hard" not in text else _hang().decode()
    )
    monkeypatch.setattr(bundle, "PART_SECONDS", 0.3)
    outcome, found = _write(tmp_path, Part("well", lambda: b"well"), Part("odd", lambda: b"hard"))
    assert outcome.failed.keys() == {"odd"}
    assert "secrets could not be taken out (no answer within 0.3 s)" in outcome.failed["odd"]
    assert found.keys() == {"well", "README.txt"}


def test_the_command_writes_one_on_any_node(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bundle.tar.gz"
    assert world.run("support", "--output", str(path), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(path)
    assert "status.json" in document["parts"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert world.run("support", "--output", "/proc/no/such/place") == 1
    assert "cannot write the bundle /proc/no/such/place" in capsys.readouterr().err


def test_it_goes_to_standard_output_as_over_ssh(
    world: World, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert world.run("support", "--output", "-") == 0
    found = capsysbinary.readouterr().out
    with tarfile.open(fileobj=io.BytesIO(found)) as archive:
        names = archive.getnames()
    assert any(name.endswith("/status.json") for name in names)
    assert names[-1].endswith("/README.txt")
