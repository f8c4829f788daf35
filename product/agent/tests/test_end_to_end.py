"""A signed repository on a plain web server, and an agent with nothing replaced but its disks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from product.agent.tests.world import FakeRelease, World
from product.release import channels
from product.release.keys import KeyDirectory
from product.release.repository import Repository


class Handler(SimpleHTTPRequestHandler):
    """Files, and silence."""

    def log_message(self, format: str, *args: object) -> None:
        """The tests' output is no place for it."""


class Publisher:
    """A repository and the web server in front of it."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "repository"
        self._slot = base / "slot"
        keys = KeyDirectory.generate(base / "keys")
        self.pubkey = base / "root.pem"
        self.pubkey.write_bytes(keys.public_pem("root"))
        self.repository = Repository.create(self.directory, keys)
        handler = partial(Handler, directory=str(self.directory))
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/"

    def publish(self, release: FakeRelease) -> None:
        self._slot.mkdir(exist_ok=True)
        for name, data in release.content.items():
            (self._slot / name).write_bytes(data)
        (self._slot / "manifest.json").write_bytes(release.manifest_bytes)
        self.repository.publish(self._slot, channel="stable", notes="tested")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    publisher = Publisher(tmp_path)
    thread = threading.Thread(target=publisher.httpd.serve_forever)
    thread.start()
    yield publisher
    publisher.httpd.shutdown()
    thread.join()
    publisher.httpd.server_close()


def test_from_publishing_to_commit_and_from_a_bad_release_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    publisher: Publisher,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World(tmp_path / "node", monkeypatch, real_server=True)
    world.write_file(world.paths.config, f"server={publisher.url}\npubkey={publisher.pubkey}\n")
    publisher.publish(FakeRelease("0.2.0"))
    assert world.run("check", "--json") == 10
    offered = json.loads(capsys.readouterr().out)
    assert (offered["available"], offered["notes"]) == ("0.2.0", "tested")
    assert world.run("apply") == 0
    assert world.run("activate", "--reboot") is None
    assert world.power_on() == "B"
    assert world.boot_service() == 0
    assert world.state()["phase"] == "success"
    assert world.run("apply") == 0
    assert world.state()["phase"] == "idle"

    bad = FakeRelease("0.2.1")
    publisher.publish(bad)
    assert world.run("apply") == 0
    assert world.run("activate", "--reboot") is None
    assert [world.power_on() for _ in range(4)] == ["A", "A", "A", "B"]
    assert world.boot_service() == 0
    assert world.state()["last_error"] == "rolled back: 3 failed boots of 0.2.1"
    assert world.run("apply") == 11
    assert world.quarantined() == [bad.digest]


def test_pause_withdrawal_and_the_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publisher: Publisher
) -> None:
    world = World(tmp_path / "node", monkeypatch, real_server=True)
    world.write_file(world.paths.config, f"server={publisher.url}\npubkey={publisher.pubkey}\n")
    publisher.publish(FakeRelease("0.1.0"))
    publisher.publish(FakeRelease("0.2.0"))
    channels.pause(publisher.repository, "stable", "being looked into")
    assert world.run("apply") == 11
    assert world.state()["last_error"] == (
        "rollout: 0.2.0 is paused by its publisher: being looked into"
    )
    channels.resume(publisher.repository, "stable")
    channels.roll_out(publisher.repository, "stable", percent=0)
    assert world.run("apply") == 11
    assert world.run("apply", "--force") == 0
    assert "rolled out to 0 of 100 nodes" in str(world.state()["bypassed"])
    assert world.run("activate", "--reboot") is None
    assert world.power_on() == "B"
    assert world.boot_service() == 0

    channels.withdraw(publisher.repository, "stable")
    assert world.run("apply") == 11
    assert world.state()["last_error"] == "downgrade: 0.1.0 is older than the running 0.2.0"
    publisher.publish(FakeRelease("0.2.0"))
    channels.withdraw(publisher.repository, "stable", allow_downgrade=True)
    assert world.run("apply") == 0
    assert world.run("activate", "--reboot") is None
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    assert (world.state()["phase"], world.state()["to_version"]) == ("success", "0.1.0")
    assert world.run("check") == 0


def test_a_tampered_artifact_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publisher: Publisher
) -> None:
    world = World(tmp_path / "node", monkeypatch, real_server=True)
    world.write_file(world.paths.config, f"server={publisher.url}\npubkey={publisher.pubkey}\n")
    publisher.publish(FakeRelease("0.2.0"))
    for path in (publisher.directory / "artifacts").iterdir():
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:-1] + b"X")
    assert world.run("apply") == 1
    assert str(world.state()["last_error"]).startswith("digest-mismatch: ")
    assert not (world.directory("B") / "manifest.json").exists()
    assert world.run("activate") == 1
    assert world.env()["active_slot"] == "A"
