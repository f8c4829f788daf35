"""The agent's image: its client, run by its own busybox, against the host's end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.services.requests import serve
from product.agent.tests.world import FakeRelease, Rebooted, World
from product.image.cache import Cache
from product.image.oci import build_archives
from product.image.tests.test_oci import layer_of, unpack
from product.image.tools import host_arch


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("agent-image")
    archive = build_archives(["agent"], host_arch(), Cache())["agent"]
    return unpack(layer_of(archive), root)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, monkeypatch)
    # The age of files is judged by it.
    made.clock.seconds = time.time()
    (Path(made.paths.data) / "requests").mkdir(parents=True)
    return made


class Client:
    """Runs the program of the image as a pod would."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.folder = folder
        self._command = [str(image / "bin/busybox"), "sh"]
        self._script = str(image / "usr/bin/kubesolo-update-request")
        self._path = str(image / "bin")

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        settings = {
            "PATH": self._path,
            "KUBESOLO_REQUESTS": str(self.folder),
            "KUBESOLO_NAME": "kubesolo-update-27-x",
            "KUBESOLO_DEADLINE": "60",
            **environment,
        }
        return subprocess.Popen(
            [*self._command, self._script, *arguments],
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors


@pytest.fixture
def client(image: Path, world: World) -> Client:
    return Client(image, Path(world.paths.data) / "requests")


@pytest.fixture
def host(world: World) -> Iterator[None]:
    """The service of the host, as fast as a test wants it."""
    stop = threading.Event()

    def rounds() -> None:
        while not stop.is_set():
            try:
                serve(world.node(), f"{world.paths.data}/requests")
            except Rebooted:
                return
            time.sleep(0.05)

    thread = threading.Thread(target=rounds, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(20)


@pytest.mark.usefixtures("host")
def test_check_prints_and_exits_as_the_agent_does(world: World, client: Client) -> None:
    world.offered = FakeRelease("0.2.0")
    assert client.run("check") == (10, "available\n0.2.0 is available, 0.1.0 runs\n", "")
    assert not list(client.folder.iterdir())


@pytest.mark.usefixtures("host")
def test_a_registry_is_named_in_place_of_a_server(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []
    monkeypatch.setattr(
        sys.modules["product.agent.trust.client"],
        "find_release",
        lambda source, config, **_: named.append(source.address),
    )
    for tag in ("", "edge"):
        client.run("check", KUBESOLO_REGISTRY="r.example:5000/os", KUBESOLO_TAG=tag)
    assert named == ["oci://r.example:5000/os:latest", "oci://r.example:5000/os:edge"]


@pytest.mark.usefixtures("host")
def test_apply_is_answered_before_the_reboot(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.clock, "pause", time.sleep)
    world.offered = FakeRelease("0.2.0")
    code, output, _ = client.run("apply", KUBESOLO_SERVER="http://10.0.2.2:8000/repository")
    assert (code, output.splitlines()[0]) == (0, "rebooting")
    assert "the node reboots into it" in output
    end = time.monotonic() + 20
    while not world.reboots and time.monotonic() < end:
        time.sleep(0.05)
    assert world.reboots == 1
    assert not list(client.folder.iterdir())


@pytest.mark.usefixtures("host")
def test_several_lines_and_quotes_come_through(world: World, client: Client) -> None:
    code, output, _ = client.run("healthcheck")
    assert code == 0
    assert output.splitlines()[0] == "done"
    assert len(output.splitlines()) > 4
    world.offered = FakeRelease("0.2.0", architecture='"odd\\')
    code, output, _ = client.run("apply")
    assert code == 11
    assert '"odd\\' in output


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ((), {}, "unknown action ''"),
        (("reboot",), {}, "unknown action 'reboot'"),
        (("check",), {"KUBESOLO_SERVER": "ftp://x"}, "not an http or https address"),
        (("check",), {"KUBESOLO_SERVER": 'http://x", "y": "'}, "which is not an address"),
        (("check",), {"KUBESOLO_SERVER": "http://x\ny"}, "which is not an address"),
        (("check",), {"KUBESOLO_REGISTRY": 'r.example/os"'}, "which name no repository"),
        (("check",), {"KUBESOLO_REGISTRY": "r/os", "KUBESOLO_TAG": "a b"}, "name no repository"),
        (("check",), {"KUBESOLO_TAG": "x"}, "of no registry"),
        (("check",), {"KUBESOLO_REGISTRY": "r/os", "KUBESOLO_SERVER": "http://x"}, "both set"),
        (("check",), {"KUBESOLO_NAME": "../x"}, "cannot name a request"),
        (("check",), {"KUBESOLO_NAME": "A"}, "cannot name a request"),
        (("check",), {"KUBESOLO_NAME": "a" * 64}, "more than 63"),
        (("check",), {"KUBESOLO_DEADLINE": "soon"}, "not a number of seconds"),
    ],
)
def test_bad_input_is_one_error(
    client: Client, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    code, output, errors = client.run(*arguments, **environment)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert words in errors
    assert not list(client.folder.iterdir())


def test_without_the_directory_it_says_so(client: Client) -> None:
    code, _, errors = client.run("check", KUBESOLO_REQUESTS="/nowhere")
    assert code == 1
    assert errors.startswith("error: /nowhere is not here\nhint: mount")


def test_without_a_host_it_ends_at_its_deadline_and_leaves_nothing(client: Client) -> None:
    start = time.monotonic()
    code, _, errors = client.run("check", KUBESOLO_DEADLINE="2")
    assert (code, errors.split("\n")[0]) == (1, "error: the host did not answer within 2 s")
    assert time.monotonic() - start < 30
    assert not list(client.folder.iterdir())


def test_a_pod_that_is_stopped_withdraws_its_request(client: Client) -> None:
    process = client.start("check")
    request = client.folder / "kubesolo-update-27-x.request"
    end = time.monotonic() + 20
    while not request.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert json.loads(request.read_text()) == {"action": "check"}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert not list(client.folder.iterdir())


def test_an_old_reply_is_not_taken_for_the_new_one(client: Client) -> None:
    (client.folder / "kubesolo-update-27-x.reply").write_text('{\n "exit": 0,\n}')
    code, _, _ = client.run("check", KUBESOLO_DEADLINE="2")
    assert code == 1


def test_an_answer_that_is_none_is_said(client: Client) -> None:
    process = client.start("check")
    request = client.folder / "kubesolo-update-27-x.request"
    end = time.monotonic() + 20
    while not request.exists() and time.monotonic() < end:
        time.sleep(0.02)
    (client.folder / "kubesolo-update-27-x.reply").write_text("nonsense")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "is not understood" in errors


def test_a_directory_that_cannot_be_written_is_said(client: Client) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    client.folder.chmod(0o500)
    code, _, errors = client.run("check")
    assert (code, "cannot write" in errors) == (1, True)
