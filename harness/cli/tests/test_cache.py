"""What ``cache`` shows, and what ``cache prune`` leaves: everything in use, and keys."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from harness.cli.tests.command import harness
from harness.qemu.stored import Kind, entries, prune

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A harness's cache: ``upper`` lies over ``lower``, the others over nothing."""
    place = tmp_path / "kubesolo-os-harness" / "harness"
    for number, (name, below) in enumerate(
        {"lower": None, "upper": "lower", "alone": None}.items()
    ):
        folder = place / "states" / name
        folder.mkdir(parents=True)
        (folder / "memory").write_bytes(bytes(1 + number) * 100000)
        meta = {"key": {"arch": "x86_64", "memory_mib": 512}, "name": f"state-{name}"}
        below_meta = {"state": below, "nonce": "x"} if below else None
        (folder / "state.json").write_text(json.dumps({**meta, "below": below_meta}))
    (place / "runs" / "machine-left").mkdir(parents=True)
    (place / "release-keys").mkdir()
    (place / "accelerator-x86_64-1.json").write_text("{}")
    old = time.time() - 9 * DAY
    for path in (*(place / "states").iterdir(), *(place / "runs").iterdir(), *place.iterdir()):
        os.utime(path, (old, old))
    return place


def names(cache: Path) -> set[str]:
    return {entry.path.name for entry in entries(cache)}


def test_all_that_is_old_goes_but_keys(cache: Path) -> None:
    prune(cache, 7 * DAY)
    assert {entry.kind for entry in entries(cache)} == {Kind.OTHER}
    assert "release-keys" in names(cache)


def test_what_is_young_stays(cache: Path) -> None:
    os.utime(cache / "states" / "alone")
    gone = prune(cache, 7 * DAY)
    assert "alone" in names(cache)
    assert {"lower", "upper", "machine-left"} <= {entry.path.name for entry in gone}


def test_a_state_in_use_stays_with_all_that_it_lies_over(cache: Path) -> None:
    with (cache / "states" / "upper.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert {e.path.name for e in entries(cache) if e.in_use} == {"upper", "lower"}
        prune(cache, 0)
        assert {"upper", "lower"} <= names(cache)
        assert (cache / "states" / "lower" / "memory").exists()
    prune(cache, 0)
    assert not {"upper", "lower"} & names(cache)


def test_a_machine_that_runs_keeps_its_folder(cache: Path) -> None:
    descriptor = os.open(cache / "runs" / "machine-left", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        prune(cache, 0)
        assert "machine-left" in names(cache)
    finally:
        os.close(descriptor)


def test_the_command_shows_and_a_dry_run_removes_nothing(cache: Path) -> None:
    place = cache.parent.parent
    shown = harness("cache", cwd=place, XDG_CACHE_HOME=str(place))
    assert shown.returncode == 0, shown.stderr
    assert "state-upper (x86_64, 512 MiB)" in shown.stdout
    assert "9 d ago" in shown.stdout
    before = names(cache)
    tried = harness(
        "cache", "prune", "--older-than", "7d", "--dry-run", cwd=place, XDG_CACHE_HOME=str(place)
    )
    assert "would remove state state-upper" in tried.stdout
    assert names(cache) == before
    done = harness("cache", "prune", "--older-than", "7d", cwd=place, XDG_CACHE_HOME=str(place))
    assert done.returncode == 0, done.stderr
    assert "upper" not in names(cache)
