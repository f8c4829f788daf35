"""A login in the server's address is used, and stands in nothing that leaves the agent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.services.requests import main
from product.agent.services.timer import main as look
from product.agent.tests import support_http as http
from product.agent.tests.test_end_to_end import Publisher
from product.agent.tests.world import FakeRelease, World

SECRET = "hunter-22"
HEADER = "Basic bWU6aHVudGVyLTIy"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.Server]:
    (tmp_path / "served").mkdir()
    with http.serve(tmp_path / "served") as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: http.Server) -> World:
    monkeypatch.setattr("product.agent.trust.fetcher.FILE_SECONDS", 3.0)
    publisher = Publisher(tmp_path)
    publisher.httpd.server_close()
    publisher.publish(FakeRelease("0.2.0"))
    shutil.copytree(publisher.directory, server.directory, dirs_exist_ok=True)
    made = World(tmp_path / "node", monkeypatch, real_server=True)
    login = server.url.replace("//", f"//me:{SECRET}@")
    made.write_file(
        made.paths.config,
        f"server={login}/\npubkey={publisher.pubkey}\nhealthcheck_url={login}/probe\n",
    )
    return made


def written(world: World) -> str:
    """Everything that the agent wrote, but for its configuration."""
    found = [
        path.read_text(errors="replace")
        for path in Path(world.paths.root).rglob("*")
        if path.is_file() and str(path) != world.paths.config
    ]
    return "\n".join(found)


def test_it_is_sent_and_an_update_succeeds(world: World, server: http.Server) -> None:
    assert world.run("apply") == 0
    assert {headers.get("authorization") for headers in server.headers} == {HEADER}
    assert any(path.startswith("/artifacts") for path, _ in server.seen)
    assert SECRET not in written(world)


@pytest.mark.parametrize(
    ("path", "behaviour"),
    [
        pytest.param("", http.status(401), id="401"),
        pytest.param("", http.status(503), id="503"),
        pytest.param("", http.redirect(f"ftp://me:{SECRET}@host/"), id="redirect"),
        pytest.param("", http.replaced(b"<html>", "text/html"), id="page"),
        pytest.param("1.root", http.replaced(b"[]"), id="garbage"),
        pytest.param("manifest", http.tampered, id="tampered"),
        pytest.param("artifacts", http.status(401), id="artifact refused"),
        pytest.param("artifacts", http.tampered, id="artifact tampered"),
        pytest.param("artifacts", http.replaced(b"x"), id="artifact of another size"),
    ],
)
def test_no_failure_shows_it(
    world: World,
    server: http.Server,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    path: str,
    behaviour: http.Behaviour,
) -> None:
    server.misbehave(path, behaviour)
    folder = Path(world.paths.data) / "requests"
    folder.mkdir(parents=True)
    for action in ("check", "apply", "healthcheck"):
        (folder / f"{action}.request").write_text(f'{{"action": "{action}"}}')
    main(world.node())
    assert len(list(folder.glob("*.reply"))) == 3
    assert world.run("apply", "--json") == 1
    look(["run"], world.node())
    for command in ("check", "healthcheck", "history", "status"):
        world.run(command)
        world.run(command, "--json")
    assert world.run("support", "--output", str(tmp_path / "bundle.tar.gz")) == 0
    shutil.unpack_archive(tmp_path / "bundle.tar.gz", tmp_path / "bundle")
    bundle = "".join(
        path.read_text(errors="replace")
        for path in (tmp_path / "bundle").rglob("*")
        if path.is_file()
    )
    output = capsys.readouterr()
    for text in (output.out, output.err, written(world), bundle):
        assert text
        assert SECRET not in text
        assert HEADER.split()[1] not in text
