"""The state file: table of steps, counts, garbage, and power cuts with all that a disk may keep."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from product.agent.records.state import (
    TRANSITIONS,
    Phase,
    StateError,
    UpdateState,
    load_state,
    save_state,
)

LEGAL = {
    ("idle", "checking"),
    ("idle", "rolled_back"),
    ("checking", "checking"),
    ("checking", "idle"),
    ("checking", "downloading"),
    ("checking", "failed"),
    ("checking", "rolled_back"),
    ("downloading", "checking"),
    ("downloading", "staged"),
    ("downloading", "failed"),
    ("downloading", "rolled_back"),
    ("staged", "checking"),
    ("staged", "activated"),
    ("staged", "rolled_back"),
    ("activated", "verifying"),
    ("activated", "rolled_back"),
    ("activated", "failed"),
    ("verifying", "success"),
    ("verifying", "rolled_back"),
    ("success", "checking"),
    ("success", "rolled_back"),
    ("rolled_back", "checking"),
    ("rolled_back", "rolled_back"),
    ("failed", "checking"),
    ("failed", "rolled_back"),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(Phase, Phase)))
def test_every_step_is_legal_or_an_error(old: Phase, new: Phase) -> None:
    state = UpdateState(phase=old)
    if (old.value, new.value) in LEGAL:
        assert state.to(new).phase is new
    else:
        with pytest.raises(StateError, match=f"from {old} to {new}"):
            state.to(new)


def test_every_phase_has_a_row() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert len(Phase) == 9


def test_attempts_are_counted_by_version() -> None:
    state = UpdateState().begin("0.1.0", 0).set_target("0.2.0", "2" * 64)
    assert state.attempt_count == 1
    state = state.fail("server-unreachable: gone").begin("0.1.0", 0).set_target("0.2.0", "2" * 64)
    assert (state.attempt_count, state.last_error) == (2, None)
    state = state.fail("x: y").begin("0.1.1", 0)
    assert (state.attempt_count, state.from_version) == (3, "0.1.1")
    assert state.set_target("0.3.0", "3" * 64).attempt_count == 1


def test_an_attempt_begins_with_nothing_bypassed() -> None:
    """It may be cut off before it has asked any gate."""
    assert UpdateState(bypassed="node_block_label: x").begin("0.1.0", 0).bypassed is None


def test_success_resets_the_counts() -> None:
    state = UpdateState(
        phase=Phase.VERIFYING, attempt_count=4, health_check_failures=2, last_error="unhealthy: x"
    ).succeed()
    assert (state.attempt_count, state.health_check_failures, state.last_error) == (0, 0, None)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "update" / "state.json")
    saved = save_state(path, UpdateState().begin("0.1.0", 0).set_target("0.2.0", "2" * 64), 86400)
    assert load_state(path) == (saved, ())
    document = json.loads(Path(path).read_text())
    assert document["phase"] == "checking"
    assert document["started_at"] == "1970-01-01T00:00:00Z"
    assert document["updated_at"] == "1970-01-02T00:00:00Z"
    assert {
        "phase",
        "from_version",
        "to_version",
        "started_at",
        "updated_at",
        "last_error",
        "attempt_count",
        "health_check_failures",
    } <= set(document)


def test_a_missing_file_is_a_fresh_state(tmp_path: Path) -> None:
    assert load_state(str(tmp_path / "state.json")) == (UpdateState(), ())


def test_unknown_keys_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"phase": "success", "to_version": "1.0.0", "new": [1]}')
    assert load_state(str(path)).state == UpdateState(phase=Phase.SUCCESS, to_version="1.0.0")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 400,
        b"{",
        b"[]",
        b'"idle"',
        b'{"phase": "dancing"}',
        b'{"phase": 3}',
        b'{"attempt_count": -1}',
        b'{"attempt_count": true}',
        b'{"attempt_count": "1"}',
        b'{"to_version": 2}',
        b"\xff\xfe",
        b"[" * 60000,
        b" " * 70000,
    ],
)
def test_garbage_is_set_aside_and_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    looked = load_state(str(path))
    assert looked.state == UpdateState()
    assert len(looked.problems) == 1
    assert path.read_bytes() == content, "a mere look moved it"
    loaded = load_state(str(path), set_aside=True)
    assert not path.exists()
    (aside,) = tmp_path.glob("state.json.corrupt-*")
    assert aside.read_bytes() == content
    assert str(aside) in loaded.problems[0]


class Disk:
    """What may be on the disk after a power cut, from the calls that reached the kernel.

    Content that was not fsynced may be missing, torn or zeros; names that were not brought to the
    disk by an fsync of their directory may be the old or the new ones.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str, bytes | str]] = []
        self._paths: dict[int, str] = {}
        self._content: dict[str, bytes] = {}
        real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace")}

        def spy_open(path: str, *arguments: int, **keywords: int) -> int:
            descriptor: int = real["open"](path, *arguments, **keywords)
            self._paths[descriptor] = path
            if arguments and arguments[0] & os.O_TRUNC:
                self._content[path] = b""
                self.events.append(("content", path, b""))
            return descriptor

        def spy_write(descriptor: int, data: bytes) -> int:
            # One byte less than asked for, so that short writes are handled too.
            taken: int = real["write"](descriptor, bytes(data)[: max(1, len(data) - 1)])
            path = self._paths[descriptor]
            self._content[path] += bytes(data)[:taken]
            self.events.append(("content", path, self._content[path]))
            return taken

        def spy_fsync(descriptor: int) -> None:
            self.events.append(("fsync", self._paths[descriptor], b""))
            real["fsync"](descriptor)

        def spy_replace(old: str, new: str) -> None:
            self.events.append(("rename", old, new))
            self._content[new] = self._content.pop(old)
            real["replace"](old, new)

        for name, spy in {
            "open": spy_open,
            "write": spy_write,
            "fsync": spy_fsync,
            "replace": spy_replace,
        }.items():
            monkeypatch.setattr(os, name, spy)

    def after(self, count: int, path: str, old: bytes | None) -> set[bytes | None]:
        """Every content that ``path`` may have when the power fails after ``count`` calls."""
        current: dict[str, bytes] = {}
        safe: dict[str, bytes] = {}
        names: list[tuple[str, bool]] = []  # content of the renamed file, durable or not
        possible: set[bytes | None] = {old}
        for kind, name, value in self.events[:count]:
            if kind == "content":
                assert isinstance(value, bytes)
                current[name] = value
            elif kind == "fsync" and name in current:
                safe[name] = current[name]
            elif kind == "fsync" and name == os.path.dirname(path):
                if names:
                    possible = self._contents(names[-1][0], current, safe)
            elif kind == "rename" and value == path:
                names.append((name, False))
                possible = possible | self._contents(name, current, safe)
        return possible

    @staticmethod
    def _contents(
        name: str, current: dict[str, bytes], safe: dict[str, bytes]
    ) -> set[bytes | None]:
        whole = current[name]
        if safe.get(name) == whole:
            return {whole}
        return {whole, b"", whole[: len(whole) // 2], bytes(len(whole))}


@pytest.mark.parametrize("existing", [True, False])
def test_a_power_cut_leaves_the_old_or_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    path = tmp_path / "state.json"
    old = UpdateState()
    if existing:
        old = save_state(str(path), UpdateState().begin("0.1.0", 0), 1)
    before = path.read_bytes() if existing else None
    disk = Disk(monkeypatch)
    new = save_state(
        str(path), old.begin("0.1.0", 2) if not existing else old.set_target("0.2.0", "2" * 64), 3
    )
    monkeypatch.undo()
    assert len(disk.events) >= 6
    seen = set()
    for count in range(len(disk.events) + 1):
        for content in disk.after(count, str(path), before):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
            loaded = load_state(str(path))
            assert loaded.problems == (), f"after {disk.events[:count]}"
            assert loaded.state in (old, new)
            seen.add(loaded.state)
    assert seen == {old, new}
    # Once the save has returned there is no way back.
    assert disk.after(len(disk.events), str(path), before) == {disk._content[str(path)]}


FAULTS: dict[str, Callable[..., object]] = {
    "write": os.write,
    "fsync": os.fsync,
    "replace": os.replace,
}


@pytest.mark.parametrize("call", list(FAULTS))
def test_a_failing_disk_is_an_error_and_the_old_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = str(tmp_path / "state.json")
    old = save_state(path, UpdateState(), 1)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StateError, match="No space left"):
            save_state(path, old.begin("0.1.0", 2), 2)
    assert load_state(path).state == old
