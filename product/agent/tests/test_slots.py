"""The slots: what may be written, in which order, and what counts as bootable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from product.agent.slots import SlotError, SlotStore, SlotWriter
from product.agent.tests.world import SLOT_DEVICES, FakeRelease, World
from product.manifest import Artifact

RELEASE = FakeRelease("0.2.0")


def store(world: World) -> SlotStore:
    node = world.node()
    return SlotStore(node.paths, node.volumes, node.boot)


@pytest.mark.parametrize(
    ("slot", "active", "reason"),
    [("A", "B", "is the one that runs"), ("B", "B", "is the one that boots next")],
)
def test_neither_the_running_nor_the_active_slot_is_written(
    world: World, slot: str, active: str, reason: str
) -> None:
    with pytest.raises(SlotError, match=reason), store(world).writing(slot, active):
        raise AssertionError("it was opened for writing")
    assert not world.volumes.made


def test_the_manifest_leaves_the_disk_before_anything_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill("B", FakeRelease("0.0.9"))
    directory = str(world.directory("B"))
    (world.directory("B") / "rubbish").write_text("")
    calls: list[str] = []
    for name in ("unlink", "fsync"):
        real = getattr(os, name)

        def spy(target: object, name: str = name, real: object = real) -> None:
            calls.append(name if name == "fsync" else os.path.basename(str(target)))
            real(target)  # type: ignore[operator]

        monkeypatch.setattr(os, name, spy)
    SlotWriter(directory, "/nonexistent").invalidate(RELEASE.manifest)
    assert calls[:2] == ["manifest.json", "fsync"]
    assert calls[2:] == ["rubbish"]


def test_a_beginning_is_kept_for_its_own_release_only(world: World) -> None:
    directory = world.directory("B")
    (artifact, *_) = RELEASE.manifest.artifacts
    own = directory / f"{artifact.name}.{artifact.sha256[:16]}.part"
    own.write_bytes(RELEASE.content[artifact.name][:10])
    (directory / f"{artifact.name}.{'0' * 16}.part").write_bytes(b"of another")
    writer = SlotWriter(str(directory), "/nonexistent")
    writer.invalidate(RELEASE.manifest)
    assert [path.name for path in directory.iterdir()] == [own.name]
    found: list[bytes] = []

    def fetch(artifact: Artifact, path: str) -> None:
        found.append(Path(path).read_bytes())
        Path(path).write_bytes(RELEASE.content[artifact.name])

    assert writer.place(artifact, fetch)
    assert found == [RELEASE.content[artifact.name][:10]]
    assert not writer.place(artifact, fetch), "it was there already"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("manifest.json", None, "it has no manifest"),
        ("manifest.json", b"{", "not JSON"),
        ("manifest.json", b"x" * 100_000, "larger than"),
        ("vmlinuz", None, "vmlinuz cannot be found"),
        ("vmlinuz", b"short", "vmlinuz is 5 bytes"),
    ],
)
def test_what_is_not_bootable(world: World, name: str, content: bytes | None, problem: str) -> None:
    world.fill("B", RELEASE)
    assert store(world).require_valid("B")[1] == RELEASE.digest
    path = world.directory("B") / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SlotError, match=problem):
        store(world).require_valid("B")


def test_a_slot_that_does_not_mount_is_not_bootable(world: World) -> None:
    world.volumes.unmountable.add(SLOT_DEVICES["B"])
    with pytest.raises(SlotError, match="wrong fs type"):
        store(world).require_valid("B")


def test_equal_sizes_are_not_enough_to_verify(world: World) -> None:
    store(world).verify("A")
    path = world.directory("A") / "root.squashfs"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(SlotError, match=r"root\.squashfs reads back") as caught:
        store(world).verify("A")
    assert caught.value.code == "digest-mismatch"
