"""Releases out of a registry, wherever a server could be named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from product.agent.services.requests import main as serve_requests
from product.agent.tests import support_http as http
from product.agent.tests import support_registry as support
from product.agent.tests.support_registry import BASIC, LOGIN
from product.agent.tests.test_end_to_end import Publisher
from product.agent.tests.world import FakeRelease, World


class Site:
    """A node, its publisher, and the registry between them."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch, server: support.Server) -> None:
        self.server = server
        self.publisher = Publisher(base)
        self.publisher.httpd.server_close()
        self.world = World(base / "node", patch, real_server=True)
        self.configure(registry=server.place)
        self.push(FakeRelease("0.2.0"))

    def configure(self, **settings: str) -> None:
        lines = [f"{key}={value}\n" for key, value in settings.items()]
        self.world.write_file(
            self.world.paths.config, "".join([*lines, f"pubkey={self.publisher.pubkey}\n"])
        )

    def push(self, release: FakeRelease, tag: str = "latest") -> str:
        """The digest of the index."""
        self.publisher.publish(release)
        files = support.files_of(self.publisher.directory)
        return str(self.server.content.push(files, tag)["digest"])

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path(self.world.paths.history).open()]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "served").mkdir()
    with support.serve(tmp_path / "served") as server:
        yield Site(tmp_path, monkeypatch, server)


def test_an_update_comes_out_of_a_registry(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"oci://{site.server.place[7:]}:latest"
    assert site.world.run("check") == 10
    assert site.world.run("apply") == 0
    assert site.history()[-1]["source"] == address
    capsys.readouterr()
    assert site.world.run("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["source"] == address
    assert site.world.run("status") == 0
    assert f"releases come from: {address}" in capsys.readouterr().out
    assert site.world.run("activate", "--reboot") is None
    assert site.world.power_on() == "B"
    assert site.world.boot_service() == 0
    assert site.world.run("apply") == 0
    assert [entry.get("source") for entry in site.history()] == [address, None, None, address]


def test_a_download_goes_on_after_a_token_was_used_up(site: Site) -> None:
    site.configure(registry=site.server.place, username=LOGIN[0], password=LOGIN[1])
    site.server.ask_for_token()
    site.server.token_login = BASIC
    site.server.token_uses = 1
    site.server.misbehave("/blobs/", http.cut_after(100), times=2)
    assert site.world.run("apply") == 0
    assert site.server.tokens > 3
    # The password goes where a token is given, and nowhere else.
    shown = {path.startswith("/token") for (path, _), headers in
             zip(site.server.seen, site.server.headers, strict=True)
             if headers.get("authorization") == BASIC}  # fmt: skip
    assert shown == {True}


@pytest.mark.parametrize(
    ("login", "code"),
    [
        ({}, "login-required"),
        ({"username": "me", "password": "hunter22"}, "login-refused"),
    ],
)
def test_a_refusal_is_written_down_without_secrets(
    site: Site, capsys: pytest.CaptureFixture[str], login: dict[str, str], code: str
) -> None:
    site.configure(registry=site.server.place, **login)
    site.server.ask_for_password()
    assert site.world.run("apply") == 1
    assert site.world.run("status") == 0
    said = capsys.readouterr()
    assert str(site.world.state()["last_error"]).startswith(f"{code}: ")
    assert site.history()[-1]["source"].startswith("oci://")
    everything = f"{said.out}{said.err}{site.world.state()}{site.history()}"
    assert "hunter22" not in everything


def test_a_digest_holds_the_node_at_what_it_names(site: Site) -> None:
    pinned = site.push(FakeRelease("0.2.1"))
    site.configure(registry=site.server.place, tag=pinned)
    site.push(FakeRelease("0.3.0"))
    assert site.world.run("apply") == 0
    assert site.world.state()["to_version"] == "0.2.1"


def test_a_flag_goes_before_the_file(site: Site) -> None:
    site.push(FakeRelease("0.3.0"), "edge")
    site.configure(registry="127.0.0.1:1/nothing", tag="old")
    assert site.world.run("check", "--registry", site.server.place, "--tag", "latest") == 10
    site.configure(server="http://127.0.0.1:1/")
    assert site.world.run("apply", "--registry", site.server.place, "--tag", "edge") == 0
    assert site.world.state()["to_version"] == "0.3.0"
    assert site.history()[-1]["source"].endswith(":edge")


def test_the_documented_look_at_another_tag(site: Site) -> None:
    site.push(FakeRelease("0.3.0"), "edge")
    text = (Path(__file__).parents[3] / "docs/updating.md").read_text()
    [command] = [line for line in text.splitlines() if line.startswith("kubesolo-update check --")]
    words = command.replace("registry.example.com/kubesolo-os", site.server.place).split()
    assert site.world.run(*words[1:]) == 10
    assert site.server.seen[0][0].endswith("/manifests/edge")


def test_a_disk_is_named_in_the_history(site: Site) -> None:
    site.configure(server="disk:KSOLOUPD/kubesolo")
    assert site.world.run("apply") == 1
    assert site.history()[-1]["source"] == "disk:KSOLOUPD/kubesolo"
    site.configure(server="http://me:hunter22@127.0.0.1:1/r")
    assert site.world.run("apply") == 1
    assert site.history()[-1]["source"] == "http://***@127.0.0.1:1/r"


def ask(site: Site, request: dict[str, str]) -> dict[str, Any]:
    folder = Path(site.world.paths.data) / "requests"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pod.request").write_text(json.dumps(request))
    assert serve_requests(site.world.node()) == 0
    reply: dict[str, Any] = json.loads((folder / "pod.reply").read_text())
    return reply


def test_a_pod_names_a_registry_which_gets_no_login_of_the_nodes(site: Site) -> None:
    place = site.server.place
    own = {"server": "https://releases.example/os", "username": LOGIN[0], "password": LOGIN[1]}
    site.configure(**own)
    answer = ask(site, {"action": "check", "registry": place, "tag": "latest"})
    assert (answer["exit"], "node's own" in answer["text"]) == (1, True)
    assert site.server.seen == []
    host = place[7:].partition("/")[0]
    site.configure(**own, pod_servers=host)
    answer = ask(site, {"action": "check", "registry": place})
    assert (answer["outcome"], answer["exit"]) == ("available", 10)
    site.server.ask_for_password()
    assert (
        "wants a login, and none is configured"
        in ask(site, {"action": "check", "registry": place})["text"]
    )
    assert {headers.get("authorization") for headers in site.server.headers} == {None}


def test_a_pods_registry_leads_to_no_place_of_the_nodes(site: Site, tmp_path: Path) -> None:
    """By a redirect, or by the token server that it names."""
    (tmp_path / "own").mkdir()
    site.configure(pod_servers=site.server.place[7:].partition("/")[0])
    with http.serve(tmp_path / "own") as own:
        for behaviour in (http.redirect(f"{own.url}/admin"), None):
            if behaviour:
                site.server.misbehave("/manifests/", behaviour, times=1)
            else:
                site.server.ask_for_token(f"{own.url}/token")
            answer = ask(site, {"action": "check", "registry": site.server.place})
            assert "it is the node's own" in answer["text"]
        assert own.seen == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"registry": "registry.example"}, "the registry is none"),
        ({"registry": ""}, "the registry is none"),
        ({"registry": "a/b", "tag": "x y"}, "the tag is none"),
        ({"registry": "me:word@a/b"}, "the registry is none"),
        ({"tag": "x"}, "a tag of no registry"),
        ({"registry": "a/b", "server": "http://a/"}, "a server and a registry"),
    ],
)
def test_a_pods_bad_registry_is_one_error(site: Site, request_: dict[str, str], words: str) -> None:
    answer = ask(site, {"action": "check", **request_})
    assert (answer["exit"], words in answer["text"]) == (2, True)


def test_nothing_of_a_registry_is_left_open(site: Site) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert site.world.run("check") == 10
    assert len(os.listdir("/proc/self/fd")) <= before + 1
