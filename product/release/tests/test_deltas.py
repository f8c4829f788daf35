"""Deltas that a publisher offers: from what, which, reproducible, and what becomes of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

import pytest

from product.agent.tests.support_delta import changed, make_image, words
from product.deltas import FORMAT, MAX_DELTAS, Delta, DeltasError, parse_deltas
from product.image.errors import ToolError
from product.image.tools import HostTools
from product.manifest import MANIFEST_NAME, ROOT_NAME, Artifact, Manifest
from product.release import channels, deltas
from product.release.cli import main
from product.release.deltas import DeltaOptions
from product.release.keys import KeyDirectory
from product.release.prune import prune
from product.release.repository import Repository
from product.release.state import read_state
from product.release.tests.slotfiles import make_slot
from product.release.verify import verify

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
STABLE = "stable/x86_64/manifest.json"


class Publisher:
    """A repository, and slots of three versions with real roots."""

    def __init__(self, tools: HostTools, folder: Path, slots: dict[str, Path]) -> None:
        self.tools, self.folder, self.slots = tools, folder, slots
        self.directory = folder / "repository"
        self.keys = KeyDirectory.generate(folder / "keys")
        self.repository = Repository.create(self.directory, self.keys, clock=lambda: NOW)
        self.told: list[str] = []

    def publish(self, version: str, channel: str = "stable", **options: float) -> tuple[Delta, ...]:
        self.repository.publish(
            self.slots[version],
            channel=channel,
            deltas=DeltaOptions(**options),  # type: ignore[arg-type]
            say=self.told.append,
        )
        return self.offered(channel)

    def offered(self, channel: str = "stable") -> tuple[Delta, ...]:
        path = f"{channel}/x86_64/manifest.json"
        return parse_deltas(read_state(self.directory).targets.targets[path].custom)

    def digest(self, version: str) -> str:
        return hashlib.sha256((self.slots[version] / ROOT_NAME).read_bytes()).hexdigest()

    def file(self, delta: Delta) -> Path:
        return self.directory / "artifacts" / delta.sha256


@pytest.fixture(scope="module")
def slots(host_tools: HostTools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("slots")
    library = words(1000, 700_000)
    made = {}
    for number, version in enumerate(("0.1.0", "0.2.0", "0.3.0", "0.4.0")):
        image = make_image(host_tools, folder, version, library=changed(library, number))
        made[version] = make_slot(folder / f"slot-{version}", version)
        (made[version] / ROOT_NAME).write_bytes(image)
        manifest = Manifest.parse((made[version] / MANIFEST_NAME).read_bytes())
        root = Artifact(ROOT_NAME, len(image), hashlib.sha256(image).hexdigest())
        artifacts = tuple(root if a.name == ROOT_NAME else a for a in manifest.artifacts)
        manifest = manifest._replace(artifacts=artifacts)
        (made[version] / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return made


@pytest.fixture
def publisher(host_tools: HostTools, tmp_path: Path, slots: dict[str, Path]) -> Publisher:
    return Publisher(host_tools, tmp_path, slots)


def test_deltas_start_from_the_releases_before(publisher: Publisher) -> None:
    assert publisher.publish("0.1.0") == ()
    publisher.publish("0.2.0")
    publisher.publish("0.3.0")
    found = publisher.publish("0.4.0", releases=2)
    sources = [publisher.digest(version) for version in ("0.3.0", "0.2.0")]
    assert [delta.source for delta in found] == sources
    for delta in found:
        assert (delta.name, delta.target) == (ROOT_NAME, publisher.digest("0.4.0"))
        assert delta.size < 0.1 * (publisher.slots["0.4.0"] / ROOT_NAME).stat().st_size
        data = publisher.file(delta).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (delta.size, delta.sha256)
    assert publisher.told[-1].startswith("delta of root.squashfs from 0.2.0: ")
    assert verify(publisher.directory, now=NOW).problems == ()


def test_the_same_inputs_give_the_same_bytes(
    host_tools: HostTools, tmp_path: Path, slots: dict[str, Path]
) -> None:
    found = []
    for name in ("one", "two"):
        publisher = Publisher(host_tools, tmp_path / name, slots)
        publisher.publish("0.1.0")
        found.append(publisher.publish("0.2.0"))
    assert found[0] == found[1] != ()


def test_what_is_too_large_is_not_offered(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    assert publisher.publish("0.2.0", limit=0.01) == ()
    assert "more than 0.01 %" in publisher.told[-1]
    names = {file.name for file in (publisher.directory / "artifacts").iterdir()}
    slots = publisher.slots.values()
    manifests = [Manifest.parse((slot / MANIFEST_NAME).read_bytes()) for slot in slots]
    assert names <= {artifact.sha256 for m in manifests for artifact in m.artifacts}


def test_what_cannot_be_made_is_said_and_the_release_is_published(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise ToolError("python3.13 failed with 1: DeltaError")

    publisher.publish("0.1.0")
    monkeypatch.setattr(HostTools, "run", fail)
    assert publisher.publish("0.2.0") == ()
    assert "nodes fetch the whole file: python3.13 failed" in publisher.told[-1]


def test_no_delta_is_offered_that_does_not_lead_there(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program that makes it applies it, and fails where the node would."""
    publisher.publish("0.1.0")
    truncated = tmp_path / "truncated"
    data = (publisher.slots["0.2.0"] / ROOT_NAME).read_bytes()
    truncated.write_bytes(data[:50_000])
    with pytest.raises(ToolError, match="SquashfsError"):
        deltas.make_with_tools(publisher.slots["0.1.0"] / ROOT_NAME, truncated, tmp_path / "out")


def test_promoting_takes_deltas_along_and_adds_those_of_the_channel(publisher: Publisher) -> None:
    publisher.publish("0.1.0", channel="stable")
    publisher.publish("0.2.0", channel="edge")
    (first,) = publisher.publish("0.3.0", channel="edge")
    channels.promote(publisher.repository, "edge", "stable")
    assert publisher.offered() == (first,)
    channels.promote(
        publisher.repository, "edge", "stable", deltas=DeltaOptions(), say=publisher.told.append
    )
    assert publisher.offered()[0] == first
    # The second promotion replaces the same release: what stable served before it is former.
    assert publisher.offered()[1].source == publisher.digest("0.1.0")


def test_a_delta_is_made_once(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    for channel in ("edge", "stable"):
        publisher.publish("0.1.0", channel=channel)
    (first,) = publisher.publish("0.2.0", channel="edge")
    monkeypatch.setattr(HostTools, "run", lambda *_, **__: pytest.fail("it was made again"))
    assert publisher.publish("0.2.0", channel="stable") == (first,)


def test_withdrawing_names_no_delta_that_is_gone(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    (gone,) = publisher.publish("0.2.0")
    publisher.publish("0.3.0")
    publisher.file(gone).unlink()
    channels.withdraw(publisher.repository, "stable")
    assert publisher.offered() == ()
    assert verify(publisher.directory, now=NOW).problems == ()


def test_pruning_keeps_what_a_kept_release_names(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    (old,) = publisher.publish("0.2.0", releases=1)
    (middle,) = publisher.publish("0.3.0", releases=1)
    (new,) = publisher.publish("0.4.0", releases=1)
    prune(publisher.directory, keep=2)
    assert [publisher.file(each).exists() for each in (old, middle, new)] == [False, True, True]
    assert verify(publisher.directory, now=NOW).problems == ()
    prune(publisher.directory, keep=1)
    assert [publisher.file(each).exists() for each in (middle, new)] == [False, True]


@pytest.mark.parametrize("damage", ["remove", "change"])
def test_verify_looks_at_deltas(publisher: Publisher, damage: str) -> None:
    publisher.publish("0.1.0")
    (delta,) = publisher.publish("0.2.0")
    if damage == "remove":
        publisher.file(delta).unlink()
    else:
        publisher.file(delta).write_bytes(bytes(delta.size))
    (problem,) = verify(publisher.directory, now=NOW).problems
    assert problem.startswith(f"{STABLE}: delta of root.squashfs from ")


@pytest.fixture
def run(publisher: Publisher) -> Callable[..., tuple[int, str]]:
    def run_it(*argv: str | Path) -> tuple[int, str]:
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            code = main([str(each) for each in argv])
        return code, out.getvalue()

    return run_it


def test_the_command_line(publisher: Publisher, run: Callable[..., tuple[int, str]]) -> None:
    keys = ("--keys", publisher.keys.path, "--clock-is-right")
    command = ("publish", publisher.directory)
    assert run(*command, publisher.slots["0.1.0"], *keys)[0] == 0
    code, said = run(*command, publisher.slots["0.2.0"], *keys)
    assert (code, "delta of root.squashfs from 0.1.0: " in said) == (0, True), said
    assert len(publisher.offered()) == 1
    assert run(*command, publisher.slots["0.3.0"], *keys, "--no-deltas")[0] == 0
    assert publisher.offered() == ()
    code, said = run(*command, publisher.slots["0.4.0"], *keys, "--deltas", "1")
    assert (code, len(publisher.offered())) == (0, 1), said
    assert run(*command, publisher.slots["0.4.0"], *keys, "--deltas", "-1")[0] == 2
    assert run("verify", publisher.directory)[0] == 0


ENTRY = Delta("root.squashfs", "a" * 64, "b" * 64, 10, "c" * 64).to_custom()


def test_the_signed_field() -> None:
    assert parse_deltas({}) == ()
    later = {"format": "kubesolo-delta-9", "anything": 1}
    found = parse_deltas({"deltas": [later, {**ENTRY, "more": 1}]})
    assert [delta.to_custom() for delta in found] == [ENTRY]
    assert ENTRY["format"] == FORMAT


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x", "not a list"),
        ([ENTRY] * (MAX_DELTAS + 1), "more than 64"),
        ([1], "not an object with a format"),
        ([{}], "not an object with a format"),
        ([{**ENTRY, "from": "A" * 64}], "has from"),
        ([{**ENTRY, "to": None}], "has to"),
        ([{**ENTRY, "name": "../x"}], "has name"),
        ([{**ENTRY, "sha256": "c" * 63}], "has sha256"),
        ([{**ENTRY, "size": True}], "has size"),
        ([{**ENTRY, "size": 0}], "has size"),
        ([{**ENTRY, "size": 1 << 60}], "has size"),
    ],
)
def test_signed_fields_of_strangers(value: object, reason: str) -> None:
    with pytest.raises(DeltasError, match=reason):
        parse_deltas({"deltas": value})
