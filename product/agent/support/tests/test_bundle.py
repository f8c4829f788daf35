"""A bundle is written whatever fails, in bounded time and size, for its owner alone."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from product.agent.support import bundle
from product.agent.support.bundle import Outcome, Part, write_bundle
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
