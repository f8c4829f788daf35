"""The slots: what may be written, in which order, and what counts as bootable."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.slots import content
from product.agent.slots.content import SlotError
from product.agent.slots.store import SlotStore
from product.agent.slots.writer import SlotWriter
from product.agent.system import direct_io
from product.agent.tests.world import SLOT_DEVICES, FakeRelease, World
from product.manifest import Artifact

RELEASE = FakeRelease("0.2.0")


def bring(artifact: Artifact, path: str) -> int:
    """What a fetch does."""
    Path(path).write_bytes(RELEASE.content[artifact.name])
    return zlib.crc32(RELEASE.content[artifact.name])


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
    SlotWriter(directory).invalidate(RELEASE.manifest)
    assert calls[:2] == ["manifest.json", "fsync"]
    assert calls[2:] == ["rubbish"]


def test_a_beginning_is_kept_for_its_own_release_only(world: World) -> None:
    directory = world.directory("B")
    (artifact, *_) = RELEASE.manifest.artifacts
    own = directory / f"{artifact.name}.{artifact.sha256[:16]}.part"
    own.write_bytes(RELEASE.content[artifact.name][:10])
    (directory / f"{artifact.name}.{'0' * 16}.part").write_bytes(b"of another")
    writer = SlotWriter(str(directory))
    writer.invalidate(RELEASE.manifest)
    assert [path.name for path in directory.iterdir()] == [own.name]
    found: list[bytes] = []

    def fetch(artifact: Artifact, path: str) -> int:
        found.append(Path(path).read_bytes())
        return bring(artifact, path)

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


def filled(directory: Path) -> SlotWriter:
    writer = SlotWriter(str(directory))
    writer.invalidate(RELEASE.manifest)
    for artifact in RELEASE.manifest.artifacts:
        writer.place(artifact, bring)
    return writer


@pytest.mark.parametrize("again", [False, True], ids=["just written", "from an earlier attempt"])
@pytest.mark.parametrize("artifact", RELEASE.manifest.artifacts, ids=lambda a: a.name)
def test_what_the_disk_does_not_keep_is_named(
    world: World, artifact: Artifact, again: bool
) -> None:
    writer = filled(world.directory("B"))
    if again:
        writer = filled(world.directory("B"))
    writer.verify(RELEASE.manifest)
    path = world.directory("B") / artifact.name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SlotError, match=f"{artifact.name} reads back as crc32") as caught:
        writer.verify(RELEASE.manifest)
    assert caught.value.code == "digest-mismatch"
    path.write_bytes(data[:-1])
    with pytest.raises(SlotError, match=f"{artifact.name} is {len(data) - 1} bytes") as caught:
        writer.verify(RELEASE.manifest)
    assert caught.value.code == "size-mismatch"
    path.unlink()
    path.mkdir()
    with pytest.raises((SlotError, OSError)):
        writer.verify(RELEASE.manifest)


def test_what_nobody_hashed_is_hashed_when_it_is_read_back(world: World) -> None:
    filled(world.directory("B"))
    stranger = SlotWriter(str(world.directory("B")))
    stranger.verify(RELEASE.manifest)
    path = world.directory("B") / "vmlinuz"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(SlotError, match="vmlinuz reads back as sha256"):
        stranger.verify(RELEASE.manifest)


def test_a_damaged_file_of_an_earlier_attempt_is_brought_again(world: World) -> None:
    filled(world.directory("B"))
    path = world.directory("B") / "vmlinuz"
    path.write_bytes(path.read_bytes()[::-1])
    writer = SlotWriter(str(world.directory("B")))
    assert [writer.place(artifact, bring) for artifact in RELEASE.manifest.artifacts] == [
        artifact.name == "vmlinuz" for artifact in RELEASE.manifest.artifacts
    ]
    writer.verify(RELEASE.manifest)


def test_files_are_read_back_after_everything_was_synced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = filled(world.directory("B"))
    calls: list[str] = []
    real, read = os.fsync, direct_io.from_disk

    def fsync(descriptor: int) -> None:
        calls.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    def from_disk(path: str) -> Iterator[memoryview]:
        calls.append(f"read {os.path.basename(path)}")
        return read(path)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(content, "from_disk", from_disk)
    writer.verify(RELEASE.manifest)
    names = [artifact.name for artifact in RELEASE.manifest.artifacts]
    directory = world.directory("B").name
    assert calls == [f"fsync {name}" for name in [*names, directory]] + [
        f"read {name}" for name in names
    ]


def test_a_copy_from_the_running_slot_is_checked_on_the_way(world: World, tmp_path: Path) -> None:
    world.fill("A", RELEASE)
    artifact = RELEASE.manifest.artifact("root.squashfs")
    target = tmp_path / "copy"
    source = world.directory("A") / artifact.name
    with store(world).running() as running:
        assert running.holds(artifact)
        assert not running.holds(artifact._replace(sha256="0" * 64))
        assert not running.holds(artifact._replace(name="vmlinuz"))
        checksum = running.copy(artifact, str(target))
        assert target.read_bytes() == RELEASE.content[artifact.name]
        assert checksum == zlib.crc32(target.read_bytes())
        source.write_bytes(source.read_bytes()[::-1])
        with pytest.raises(SlotError, match="is not what its manifest says"):
            running.copy(artifact, str(target))
    assert not target.exists()


def test_a_running_slot_without_a_manifest_lends_nothing(world: World) -> None:
    (world.directory("A") / "manifest.json").unlink()
    with store(world).running() as running:
        assert not any(map(running.holds, RELEASE.manifest.artifacts))
