"""The node's own trust client and its fetch of artifacts, on what was really pushed or copied."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.servers.registry import Login, Registry
from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.sources.artifact import fetch_artifact
from product.agent.sources.configured import configured_source
from product.agent.sources.oci import OciSource
from product.agent.sources.protocol import FetchPolicy, Source
from product.agent.sources.volume import VolumeSource
from product.agent.system import mounts, program
from product.agent.trust.client import TrustedRelease, find_release
from product.image.cache import Cache
from product.image.seed import seed_image
from product.image.tools import IMAGES, HostTools
from product.release.stick import make_stick
from scenarios.sources.tests.publisher import ARCHITECTURES, Publisher

LOGIN = Login("node", "a:secret")
POLICY = FetchPolicy(tries=2, first_wait=0.01, longest_wait=0.02)


@pytest.fixture(scope="module")
def tools() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")


@pytest.fixture
def registry(tmp_path: Path, tools: HostTools) -> Iterator[Registry]:
    with Registry(tools=tools, runs=tmp_path / "runs") as registry:
        yield registry


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setenv("KUBESOLO_CACHE", str(Cache().root))
    monkeypatch.setenv("HOME", str(tmp_path / "publisher"))
    (tmp_path / "publisher").mkdir()
    return Publisher(tmp_path)


def find(
    source: Source, publisher: Publisher, store: Path, architecture: str = "x86_64"
) -> TrustedRelease:
    config = Config(pubkey=str(publisher.folder / "keys/root.pub.pem"))
    return find_release(
        source, config, architecture=architecture, metadata_dir=str(store), policy=POLICY
    )


def require_whole(source: Source, release: TrustedRelease, slot: Path, place: Path) -> None:
    """Fetch every artifact, one of them from the middle on."""
    for number, artifact in enumerate(release.manifest.artifacts):
        file = place / artifact.name
        data = (slot / artifact.name).read_bytes()
        if number == 1:
            file.write_bytes(data[: len(data) // 2])
        fetch_artifact(source, artifact, str(file), policy=POLICY)
        assert file.read_bytes() == data
        file.unlink()


def place(registry: Registry) -> str:
    return f"{registry.url}/os/kubesolo"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_node_follows_what_is_pushed(
    publisher: Publisher, registry: Registry, tmp_path: Path, architecture: str
) -> None:
    for version in ("0.2.0", "0.3.0"):
        if version != "0.2.0":
            publisher.publish(version, architecture)
        assert publisher.push(registry) == 0
        with OciSource(place(registry), "stable", POLICY) as source:
            release = find(source, publisher, tmp_path / "store", architecture)
            assert release.version == version
            slot = tmp_path / f"{version}-{architecture}-stable"
            require_whole(source, release, slot, tmp_path)


def test_a_digest_as_the_tag_stays_where_it_is(
    publisher: Publisher, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publisher.push(registry) == 0
    lines = capsys.readouterr().out.splitlines()
    digest = next(line for line in lines if line.startswith("index")).split()[1]
    publisher.publish("0.3.0")
    assert publisher.push(registry) == 0
    with OciSource(place(registry), digest, POLICY) as source:
        assert find(source, publisher, tmp_path / "store").version == "0.2.0"


def test_a_registry_with_a_login(publisher: Publisher, tools: HostTools, tmp_path: Path) -> None:
    word = base64.b64encode(f"{LOGIN.username}:{LOGIN.password}".encode()).decode()
    with Registry(tools=tools, runs=tmp_path / "runs", login=LOGIN) as registry:
        docker = tmp_path / "publisher/.docker"
        docker.mkdir()
        (docker / "config.json").write_text(
            f'{{"auths": {{"{registry.host}": {{"auth": "{word}"}}}}}}'
        )
        assert publisher.push(registry) == 0
        config = Config(
            registry=place(registry), tag="stable", username=LOGIN.username,
            password=LOGIN.password,
        )  # fmt: skip
        with configured_source(config, POLICY) as source:
            release = find(source, publisher, tmp_path / "store")
            require_whole(source, release, tmp_path / "0.2.0-x86_64-stable", tmp_path)
        with (
            OciSource(place(registry), "stable", POLICY) as source,
            pytest.raises(AgentError, match="login") as caught,
        ):
            find(source, publisher, tmp_path / "other")
        assert caught.value.code == "login-required"


def test_what_oras_made_of_the_directory(
    publisher: Publisher, registry: Registry, tools: HostTools, tmp_path: Path
) -> None:
    files = [
        str(path.relative_to(publisher.directory))
        for path in sorted(publisher.directory.rglob("*"))
        if path.is_file()
    ]
    tools.run(
        "oras", "push", "--plain-http", f"{registry.host}/os/kubesolo:stable", *files,
        cwd=publisher.directory, environment={"HOME": str(tmp_path)},
    )  # fmt: skip
    with OciSource(place(registry), "stable", POLICY) as source:
        release = find(source, publisher, tmp_path / "store")
        require_whole(source, release, tmp_path / "0.2.0-x86_64-stable", tmp_path)


def test_a_strangers_push_is_refused(
    publisher: Publisher, registry: Registry, tmp_path: Path
) -> None:
    assert publisher.push(registry) == 0
    with OciSource(place(registry), "stable", POLICY) as source:
        find(source, publisher, tmp_path / "store")
    (tmp_path / "stranger").mkdir()
    stranger = Publisher(tmp_path / "stranger")
    stranger.publish("9.9.9")
    assert stranger.push(registry, "--force") == 0
    for store in ("store", "new"):
        with (
            OciSource(place(registry), "stable", POLICY) as source,
            pytest.raises(AgentError) as caught,
        ):
            find(source, publisher, tmp_path / store)
        assert caught.value.code != "server-unreachable"


def test_an_older_push_that_was_forced_is_a_replay(
    publisher: Publisher, registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(publisher.directory, tmp_path / "backup")
    publisher.publish("0.3.0")
    assert publisher.push(registry) == 0
    with OciSource(place(registry), "stable", POLICY) as source:
        assert find(source, publisher, tmp_path / "store").version == "0.3.0"
    publisher.directory = tmp_path / "backup"
    assert publisher.push(registry, "--force") == 0
    with (
        OciSource(place(registry), "stable", POLICY) as source,
        pytest.raises(AgentError) as caught,
    ):
        find(source, publisher, tmp_path / "store")
    assert "older" in caught.value.message or "rollback" in caught.value.code


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host_tools: HostTools) -> Path:
    """The folder that mounting the one stick shows."""
    shown, root = tmp_path / "stick", tmp_path / "root"
    shown.mkdir()
    (root / "dev").mkdir(parents=True)
    (root / "sys/class/block/sdb").mkdir(parents=True)
    seed_image(root / "dev/sdb", {}, label="KSOLOUPD", tools=host_tools)

    def attach(device: str, at: str, **_: object) -> None:
        os.rmdir(at)
        os.symlink(shown, at)

    def run(argv: list[str]) -> tuple[int, str]:
        os.unlink(argv[-1])
        return 0, ""

    monkeypatch.setattr(mounts, "attach", attach)
    monkeypatch.setattr(program, "run", run)
    return shown


def test_a_node_follows_a_stick(publisher: Publisher, plugged: Path, tmp_path: Path) -> None:
    for version in ("0.2.0", "0.3.0"):
        if version != "0.2.0":
            publisher.publish(version)
        make_stick(publisher.directory, plugged)
        with VolumeSource("disk:KSOLOUPD", root=str(tmp_path / "root")) as source:
            release = find(source, publisher, tmp_path / "store")
            assert release.version == version
            require_whole(source, release, tmp_path / f"{version}-x86_64-stable", tmp_path)


def test_a_strangers_stick_is_refused(publisher: Publisher, plugged: Path, tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    make_stick(Publisher(tmp_path / "stranger").directory, plugged)
    with (
        VolumeSource("disk:KSOLOUPD", root=str(tmp_path / "root")) as source,
        pytest.raises(AgentError) as caught,
    ):
        find(source, publisher, tmp_path / "store")
    assert caught.value.code == "untrusted-signature"
