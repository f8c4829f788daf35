"""A server that takes its time keeps nobody else from the node."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.services.requests import main
from product.agent.slots.writer import Fetch, SlotWriter
from product.agent.system.lock import exclusive
from product.agent.tests import support_http as http
from product.agent.tests.test_end_to_end import Publisher
from product.agent.tests.world import FakeRelease, World
from product.manifest import Artifact

SLOW = [
    pytest.param(http.silent, id="silence"),
    pytest.param(http.dripping_headers, id="a header that drips"),
    pytest.param(http.continuing, id="100 Continue without end"),
]


class Site:
    """A node whose slot B holds an older release, its publisher, and a web server that drips."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch, server: http.Server) -> None:
        self.server = server
        self.publisher = Publisher(base)
        shutil.copytree(self.publisher.directory, server.directory, dirs_exist_ok=True)
        self.publisher.httpd.server_close()
        self.world = World(base / "node", patch, real_server=True)
        self.world.fill("B", FakeRelease("0.0.9"))
        self.configure(f"server={server.url}\n")

    def configure(self, text: str) -> None:
        self.world.write_file(
            self.world.paths.config, f"{text}pubkey={self.publisher.pubkey}\n"
        )  # fmt: skip

    def publish(self, release: FakeRelease) -> None:
        self.publisher.publish(release)
        shutil.copytree(self.publisher.directory, self.server.directory, dirs_exist_ok=True)

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[list[int | None]]:
        """The command in a thread, as a process of its own; its exit code, once it is over."""
        codes: list[int | None] = []
        before = len(self.server.seen)
        thread = threading.Thread(target=lambda: codes.append(self.world.run(*command)))
        thread.start()
        end = time.monotonic() + 20
        while len(self.server.seen) == before and time.monotonic() < end:
            time.sleep(0.01)
        yield codes
        thread.join(30)
        assert codes, "it never ended"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    served = tmp_path / "served"
    served.mkdir()
    with http.serve(served) as server:
        yield Site(tmp_path, monkeypatch, server)


@pytest.mark.parametrize("behaviour", SLOW)
def test_a_check_of_a_slow_server_keeps_nobody_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch, behaviour: http.Behaviour
) -> None:
    monkeypatch.setattr("product.agent.trust.fetcher.FILE_SECONDS", 8.0)
    site.server.misbehave("", behaviour)
    with site.running("check") as codes:
        assert site.world.run("rollback") == 0
        assert codes == [], "the rollback waited for it"
    assert codes == [1]
    assert site.world.env()["active_slot"] == "B"


def test_a_pods_check_of_one_keeps_nobody_waiting_either(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("product.agent.trust.fetcher.FILE_SECONDS", 8.0)
    place = site.server.url.removeprefix("http://")
    site.configure(f"server=http://127.0.0.1:1/\npod_servers={place}\n")
    folder = Path(site.world.paths.data) / "requests"
    folder.mkdir(parents=True)
    (folder / "pod.request").write_text(f'{{"action": "check", "server": "{site.server.url}"}}')
    site.server.misbehave("", http.dripping_headers)
    thread = threading.Thread(target=main, args=(site.world.node(),))
    thread.start()
    while not site.server.seen:
        time.sleep(0.01)
    assert site.world.run("rollback") == 0
    assert thread.is_alive(), "the rollback waited for it"
    thread.join(30)
    assert "timed out" in (folder / "pod.reply").read_text()


WAITS = [*SLOW, pytest.param(http.retry_after(503, "45"), id="Retry-After")]


@pytest.mark.parametrize("behaviour", WAITS)
def test_a_rollback_goes_before_an_update_that_waits_for_a_server(
    site: Site, behaviour: http.Behaviour
) -> None:
    site.server.misbehave("timestamp", behaviour)
    with site.running("apply") as codes:
        began = time.monotonic()
        assert site.world.run("rollback") == 0
        assert time.monotonic() - began < 20
    assert codes == [1]
    assert site.world.env()["active_slot"] == "B"
    assert site.world.env()["boot_success"] == "1"
    assert site.world.history() == ["apply failed", "rollback rolled_back"]


def test_a_rollback_ends_a_download(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The slot that it would return to is being written, so there is nothing to return to; what
    was fetched stays."""
    site.publish(FakeRelease("0.2.0"))
    site.server.misbehave("artifacts", http.dripping)
    with site.running("apply") as codes:
        end = time.monotonic() + 20
        while site.world.state()["phase"] != "downloading" and time.monotonic() < end:
            time.sleep(0.05)
        while not list(site.world.directory("B").glob("*.part")) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        began = time.monotonic()
        assert site.world.run("rollback") == 1
        assert time.monotonic() - began < 20
    assert codes == [1]
    assert "slot B holds no release that could be booted" in capsys.readouterr().err
    assert site.world.env()["active_slot"] == "A"
    assert str(site.world.state()["last_error"]).startswith("gave-way: ")
    [part] = site.world.directory("B").glob("*.part")
    assert part.stat().st_size > 0
    site.server.misbehaviours.clear()
    assert site.world.run("apply") == 0
    assert site.world.run("activate") == 0


def test_a_rollback_ends_an_update_between_two_artifacts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is asked of a server, as with a stick, or what the running slot has too."""
    site.publish(FakeRelease("0.2.0"))
    real = SlotWriter.place
    placed: list[str] = []
    claim = exclusive(f"{site.world.paths.lock}.urgent")

    def place(writer: SlotWriter, artifact: Artifact, fetch: Fetch) -> bool:
        placed.append(artifact.name)
        done = real(writer, artifact, fetch)
        if len(placed) == 1:
            claim.__enter__()
        return done

    monkeypatch.setattr(SlotWriter, "place", place)
    assert site.world.run("apply") == 1
    claim.__exit__(None, None, None)
    assert len(placed) == 1
    assert str(site.world.state()["last_error"]).startswith("gave-way: ")
    assert site.world.run("apply") == 0


@pytest.mark.parametrize("behaviour", SLOW)
def test_a_probe_that_hangs_costs_a_trial_seconds(
    site: Site, monkeypatch: pytest.MonkeyPatch, behaviour: http.Behaviour
) -> None:
    """It hung before the update as well, so the release is not blamed for it."""
    monkeypatch.setattr("product.agent.update.baseline.SECONDS", 0)
    site.publish(FakeRelease("0.2.0"))
    site.server.misbehave("probe", behaviour)
    site.configure(f"server={site.server.url}\nhealthcheck_url={site.server.url}/probe\n")
    began = time.monotonic()
    assert site.world.run("apply") == 0
    assert site.world.run("activate", "--reboot") is None
    assert site.world.power_on() == "B"
    monkeypatch.setattr(site.world.clock, "pause", time.sleep)
    monkeypatch.setattr(site.world.clock, "monotonic", time.monotonic)
    assert site.world.boot_service() == 0
    assert site.world.state()["phase"] == "success"
    assert time.monotonic() - began < 90
