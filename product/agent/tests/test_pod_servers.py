"""A server that a pod names leads the agent to no address of the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.services.requests import main
from product.agent.tests import support_http as http
from product.agent.tests.test_slow_server import Site
from product.agent.tests.world import FakeRelease


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "served").mkdir()
    with http.serve(tmp_path / "served") as server:
        made = Site(tmp_path, monkeypatch, server)
        made.publish(FakeRelease("0.2.0"))
        yield made


def ask(site: Site, action: str) -> dict[str, object]:
    folder = Path(site.world.paths.data) / "requests"
    folder.mkdir(parents=True, exist_ok=True)
    request = json.dumps({"action": action, "server": site.server.url})
    (folder / "pod.request").write_text(request)
    main(site.world.node())
    reply = json.loads((folder / "pod.reply").read_text())
    assert isinstance(reply, dict)
    return reply


@pytest.mark.parametrize("action", ["check", "apply"])
def test_it_is_refused_unasked(site: Site, action: str) -> None:
    reply = ask(site, action)
    assert (reply["exit"], reply["outcome"]) == (1, "failed")
    assert "may not name the server 127.0.0.1" in str(reply["text"])
    assert site.server.seen == []
    # The node's owner may.
    assert site.world.run("check") == 10


def test_its_artifacts_lead_to_none_either(site: Site, tmp_path: Path) -> None:
    place = site.server.url.removeprefix("http://")
    site.configure(f"server=http://127.0.0.1:1/\npod_servers={place}\n")
    (tmp_path / "own").mkdir()
    assert ask(site, "check")["exit"] == 10
    with http.serve(tmp_path / "own") as own:
        site.server.misbehave("artifacts", http.redirect(f"{own.url}/admin"))
        reply = ask(site, "apply")
        assert own.seen == []
    assert "may not name the server 127.0.0.1" in str(reply["text"])
    assert str(site.world.state()["last_error"]).startswith("server-refused: ")
