"""Updating by delta: a real publisher, a real server, and an agent with only its disks replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from product.agent.errors import BusyError
from product.agent.slots import delta as slot_delta
from product.agent.slots import zstd
from product.agent.slots.store import SlotStore
from product.agent.tests.support_delta import locked_library, make_pair
from product.agent.tests.support_http import Server, serve
from product.agent.tests.world import FakeRelease, World
from product.agent.update import attempt, deltas
from product.agent.update.gates import room_needed
from product.deltas import Delta, parse_deltas
from product.image.tools import HostTools
from product.manifest import ROOT_NAME
from product.release.deltas import DeltaOptions
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.state import read_state

OFFERED = DeltaOptions()


class Site:
    """A repository that serves 0.1.0, then 0.2.0 with a delta from it."""

    def __init__(self, tools: HostTools, folder: Path) -> None:
        self.library = locked_library(tools)
        images = make_pair(tools, folder)
        self.old, self.new = FakeRelease("0.1.0"), FakeRelease("0.2.0")
        for release, image in zip((self.old, self.new), images, strict=True):
            release.content[ROOT_NAME] = image
        self.directory = folder / "repository"
        keys = KeyDirectory.generate(folder / "keys")
        self.pubkey = folder / "root.pem"
        self.pubkey.write_bytes(keys.public_pem("root"))
        repository = Repository.create(self.directory, keys)
        self.told: list[str] = []
        for release in (self.old, self.new):
            slot = folder / f"slot-{release.version}"
            slot.mkdir()
            for name, data in release.content.items():
                (slot / name).write_bytes(data)
            (slot / "manifest.json").write_bytes(release.manifest_bytes)
            repository.publish(slot, channel="stable", deltas=OFFERED, say=self.told.append)
        target = read_state(self.directory).targets.targets["stable/x86_64/manifest.json"]
        (self.delta,) = parse_deltas(target.custom)

    @property
    def root(self) -> str:
        return f"/artifacts/{self.new.manifest.artifact(ROOT_NAME).sha256}"


@pytest.fixture(scope="module")
def site(host_tools: HostTools, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(host_tools, tmp_path_factory.mktemp("site"))


class Place:
    """A node that runs 0.1.0, and its server."""

    def __init__(self, world: World, server: Server, site: Site) -> None:
        self.world, self.server, self.site = world, server, site

    def configure(self, text: str = "") -> None:
        self.world.write_file(
            self.world.paths.config,
            f"server={self.server.url}\npubkey={self.site.pubkey}\n{text}",
        )

    def apply(self) -> int | None:
        return self.world.run("apply")

    @property
    def asked(self) -> dict[str, list[int | None]]:
        """For each artifact, the first byte of each request."""
        found: dict[str, list[int | None]] = {}
        for path, start in self.server.seen:
            found.setdefault(path, []).append(start)
        return found

    @property
    def delta_path(self) -> str:
        return f"/artifacts/{self.site.delta.sha256}"

    def file(self, name: str) -> Path:
        return self.world.directory("B") / name

    @property
    def part(self) -> Path:
        digest = self.site.new.manifest.artifact(ROOT_NAME).sha256
        return self.file(f"{ROOT_NAME}.{digest[:16]}.part")

    @property
    def delta_file(self) -> Path:
        return self.file(f"{ROOT_NAME}.{self.site.delta.sha256[:16]}.delta")

    def staged(self) -> None:
        """The slot holds the release, and nothing else."""
        content = self.site.new.content
        names = {path.name for path in self.world.directory("B").iterdir()}
        assert names == {*content, "manifest.json"}
        for name, data in content.items():
            assert self.file(name).read_bytes() == data

    def noted(self) -> list[str]:
        return [line for line in self.world.history() if line.startswith("delta")]

    def reason(self) -> str:
        """Of the last delta in the history."""
        lines = map(json.loads, Path(self.world.paths.history).read_text().splitlines())
        return str([e["reason"] for e in lines if e["event"] == "delta"][-1])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Iterator[Place]:
    monkeypatch.setattr(zstd, "LIBRARY", site.library)
    world = World(tmp_path / "node", monkeypatch, real_server=True)
    world.fill("A", site.old)
    with serve(site.directory) as server:
        made = Place(world, server, site)
        made.configure()
        yield made


@contextmanager
def instead(place: Place, data: bytes) -> Iterator[None]:
    """The delta's file has other bytes, and the signature is over those."""
    changed = place.site.delta._replace(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    real = deltas.choose

    def choose(*arguments: object) -> deltas.Chosen:
        chosen = real(*arguments)  # type: ignore[arg-type]
        return chosen._replace(deltas=dict.fromkeys(chosen.deltas, changed))

    file = place.site.directory / "artifacts" / changed.sha256
    file.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "choose", choose)
        yield
    file.unlink()


def test_only_the_delta_is_fetched(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.apply() == 0
    place.staged()
    assert place.asked[place.delta_path] == [None]
    assert place.site.root not in place.asked
    assert place.noted() == ["delta applied"]
    counted = json.loads(Path(place.world.paths.counters).read_text())["bytes"]
    assert counted["delta"] == place.site.delta.size
    others = sum(len(data) for name, data in place.site.new.content.items() if name != ROOT_NAME)
    assert counted["full"] + counted["copied"] == others
    share = place.site.delta.size * 100 / len(place.site.new.content[ROOT_NAME])
    assert share < 4
    assert f"({share:.1f} %)" in place.reason()
    assert "root.squashfs: 100 %" not in capsys.readouterr().err
    assert place.world.run("activate", "--reboot") is None
    assert place.world.power_on() == "B"
    assert place.world.boot_service() == 0


def test_a_server_without_the_delta(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.server.misbehave(place.delta_path, lambda handler, *_: handler.answer(404, b""))
    assert place.apply() == 0
    place.staged()
    assert place.asked[place.site.root] == [None]
    assert place.noted() == ["delta failed"]
    assert "not by a delta, but as a whole: " in capsys.readouterr().err


def test_a_delta_that_the_server_damaged(place: Place) -> None:
    place.server.misbehave(
        place.delta_path, lambda handler, data, _: handler.answer(200, data[:-9] + b"tampered!")
    )
    assert place.apply() == 0
    place.staged()
    assert place.reason().startswith("digest-mismatch: ")


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: b"", "delta-damaged"),
        (lambda data: data[: len(data) // 2], "delta-damaged"),
        (lambda data: data[:8] + bytes(8) + data[16:], "delta-damaged"),
        (lambda data: b"\x1f\x8b" + data, "delta-damaged"),
    ],
)
def test_a_delta_that_was_signed_wrong(place: Place, damage: object, code: str) -> None:
    data = (place.site.directory / "artifacts" / place.site.delta.sha256).read_bytes()
    with instead(place, damage(data) or b"\0"):  # type: ignore[operator]
        assert place.apply() == 0
    place.staged()
    assert place.reason().startswith(f"{code}: ")
    assert place.asked[place.site.root] == [None]


def test_a_running_slot_that_is_not_what_it_says(place: Place) -> None:
    file = place.world.directory("A") / ROOT_NAME
    data = bytearray(file.read_bytes())
    data[20_000:] = bytes(len(data) - 20_000)
    file.write_bytes(data)
    assert place.apply() == 0
    place.staged()
    assert place.noted() == ["delta failed"]
    assert place.asked[place.site.root] == [None]


def test_the_beginning_of_a_delta_goes_on_after_a_power_cut(place: Place) -> None:
    data = (place.site.directory / "artifacts" / place.site.delta.sha256).read_bytes()
    place.delta_file.write_bytes(data[:1000])
    assert place.apply() == 0
    place.staged()
    assert place.asked[place.delta_path] == [1000]


def test_a_power_cut_while_applying(place: Place) -> None:
    data = (place.site.directory / "artifacts" / place.site.delta.sha256).read_bytes()
    place.delta_file.write_bytes(data)
    # What an unclean end leaves of the file: its length, not its bytes.
    place.part.write_bytes(bytes(100_000))
    assert place.apply() == 0
    place.staged()
    assert place.delta_path not in place.asked, "what was there was fetched again"
    assert place.site.root not in place.asked


def test_the_beginning_of_the_whole_file_goes_on(place: Place) -> None:
    """A delta failed before; its next try must not cost what has come of the file since."""
    place.part.write_bytes(place.site.new.content[ROOT_NAME][:50_000])
    assert place.apply() == 0
    place.staged()
    assert place.asked[place.site.root] == [50_000]
    assert place.delta_path not in place.asked


def test_a_slow_node_goes_on_with_the_whole_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "SLOWEST_LINK", 1e12)
    assert place.apply() == 0
    place.staged()
    assert place.reason().startswith("delta-slow: ")
    # Nothing was lost of what the delta had made of the file.
    assert len(place.asked[place.site.root]) == 1


def test_a_rollback_ends_the_applying_and_is_no_failure_of_the_delta(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply(*_: object, **__: object) -> None:
        raise BusyError("the update was ended, because a rollback goes before it")

    monkeypatch.setattr(slot_delta, "apply_delta", apply)
    assert place.apply() == 12
    assert place.noted() == []
    assert place.delta_file.exists()
    assert place.site.root not in place.asked
    monkeypatch.undo()
    monkeypatch.setattr(zstd, "LIBRARY", place.site.library)


def test_a_system_without_the_library(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "LIBRARY", "libnothing.so.7")
    assert place.apply() == 0
    place.staged()
    assert place.reason().startswith("delta-unsupported: ")


def test_turned_off(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure("deltas=no\n")
    assert place.apply() == 0
    place.staged()
    assert place.delta_path not in place.asked
    assert "no delta is used: deltas=no in update.conf" in capsys.readouterr().err
    assert place.noted() == []


def test_short_of_memory(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.world.write_file(f"{place.world.paths.proc}/meminfo", "MemAvailable:  40000 kB\n")
    assert place.apply() == 0
    place.staged()
    assert "only 39 MiB of memory are available" in capsys.readouterr().err


def test_a_slot_with_room_for_the_release_alone(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need = room_needed(place.site.new.manifest)
    monkeypatch.setattr(SlotStore, "capacity", lambda *_: need + 10)
    assert place.apply() == 0
    place.staged()
    assert "has room for" in capsys.readouterr().err
    assert place.delta_path not in place.asked


def test_another_build_runs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    other = FakeRelease("0.1.0")
    other.content[ROOT_NAME] = place.site.old.content[ROOT_NAME] + bytes(4096)
    place.world.fill("A", other)
    assert place.apply() == 0
    place.staged()
    assert "none starts from 0.1.0 as it runs here" in capsys.readouterr().err


def test_the_smallest_that_fits_is_taken(place: Place) -> None:
    root = place.site.new.manifest.artifact(ROOT_NAME)
    own = Delta(ROOT_NAME, "a" * 64, root.sha256, 500, "1" * 64)
    others = (
        own._replace(size=700),
        own._replace(source="b" * 64, size=5),
        own._replace(target="c" * 64, size=5),
        own._replace(name="vmlinuz", size=5),
        own._replace(size=root.size + 1),
    )
    found = deltas._smallest((*others, own), {ROOT_NAME: "a" * 64}, [root])
    assert found == {ROOT_NAME: own}
    assert deltas._smallest(others[1:], {ROOT_NAME: "a" * 64}, [root]) == {}
