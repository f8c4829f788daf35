"""A repository pushed to a real registry, as other people's tools and hostile hands meet it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.servers.registry import Login, Registry, Tls
from product.agent.net.tests.support_tls import certificate
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from product.manifest import ARTIFACT_NAMES, Artifact, Manifest
from product.release import channels
from product.release.cli import main
from product.release.errors import RegistryError
from product.release.oras import Access, Reference
from product.release.push import push
from product.release.repository import Repository
from product.release.state import read_state
from product.release.tests.slotfiles import make_slot
from scenarios.sources.tests.publisher import Publisher

LOGIN = Login("publisher", "p:ss word")


@pytest.fixture(scope="module")
def tools() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")


@pytest.fixture(scope="module")
def skopeo() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "test-tools.toml")


@pytest.fixture
def registry(tmp_path: Path, tools: HostTools) -> Iterator[Registry]:
    with Registry(tools=tools, runs=tmp_path / "runs") as registry:
        yield registry


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setenv("KUBESOLO_CACHE", str(Cache().root))
    # No login of whoever runs the tests counts.
    monkeypatch.setenv("HOME", str(tmp_path / "publisher"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    (tmp_path / "publisher").mkdir()
    return Publisher(tmp_path)


def get(registry: Registry, path: str) -> bytes:
    kinds = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    request = urllib.request.Request(
        f"{registry.url}/v2/os/kubesolo/{path}", headers={"Accept": kinds}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        data: bytes = answer.read()
        return data


def documents(registry: Registry, tag: str = "stable") -> list[tuple[dict[str, Any], Any]]:
    """Each row of the index with its manifest."""
    index = json.loads(get(registry, f"manifests/{tag}"))
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    return [
        (row, json.loads(get(registry, f"manifests/{row['digest']}"))) for row in index["manifests"]
    ]


def titles(manifest: Any) -> dict[str, str]:
    return {
        layer["annotations"]["org.opencontainers.image.title"]: layer["mediaType"]
        for layer in manifest["layers"]
    }


def uploads(registry: Registry) -> set[str]:
    """The digests of the blobs that were uploaded to the end."""
    return {
        each.path.rpartition("digest=")[2]
        for each in registry.requests()
        if each.method == "PUT" and "/blobs/uploads/" in each.path and each.status == 201
    }


def test_the_registry_holds_what_the_contract_says(
    world: Publisher, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish("0.3.0")
    world.publish("0.3.0", channel="beta")
    assert world.push(registry, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    index = get(registry, "manifests/stable")
    assert said["digest"] == f"sha256:{hashlib.sha256(index).hexdigest()}"
    assert said["changed"] is True
    *releases, (row, metadata) = documents(registry)
    assert [
        (each["channel"], each["architecture"], each["version"], each["digest"])
        for each in said["releases"]
    ] == [
        ("beta", "x86_64", "0.3.0", releases[0][0]["digest"]),
        ("stable", "aarch64", "0.2.0", releases[1][0]["digest"]),
        ("stable", "x86_64", "0.3.0", releases[2][0]["digest"]),
    ]
    for (found, manifest), platform in zip(releases, ("amd64", "arm64", "amd64"), strict=True):
        assert found["platform"] == {"architecture": platform, "os": "linux"}
        assert manifest["artifactType"] == "application/vnd.kubesolo.os.release.v1"
        assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
        assert titles(manifest) == {
            "vmlinuz": "application/vnd.kubesolo.os.kernel.v1+octet-stream",
            "initramfs.img": "application/vnd.kubesolo.os.initramfs.v1+zstd",
            "root.squashfs": "application/vnd.kubesolo.os.root.v1+squashfs",
            "kernel.env": "application/vnd.kubesolo.os.arguments.v1+octet-stream",
            "manifest.json": "application/vnd.kubesolo.os.manifest.v1+json",
        }
    told = releases[2][1]["annotations"]
    assert told.pop("io.kubesolo.os.release_date").endswith("Z")
    assert told == {
        "io.kubesolo.os.version": "0.3.0",
        "io.kubesolo.os.channel": "stable",
        "io.kubesolo.os.architecture": "x86_64",
        "io.kubesolo.os.min_compatible_version": "0.2.0",
        "io.kubesolo.os.release_notes": "A new\nkernel",
    }
    assert "io.kubesolo.os.min_compatible_version" not in releases[1][1]["annotations"]
    assert "platform" not in row
    assert said["metadata"] == row["digest"]
    assert metadata["artifactType"] == "application/vnd.kubesolo.os.metadata.v1"
    found = titles(metadata)
    assert set(found.values()) == {"application/vnd.kubesolo.os.metadata.v1+json"}
    state = read_state(world.directory)
    assert set(found) == {
        "metadata/1.root.json",
        "metadata/timestamp.json",
        f"metadata/{state.snapshot.version}.snapshot.json",
        f"metadata/{state.targets.version}.targets.json",
        *(
            f"targets/{target.get_prefixed_paths()[0]}"
            for target in state.targets.targets.values()
        ),
    }  # fmt: skip
    for layer in metadata["layers"]:
        path = layer["annotations"]["org.opencontainers.image.title"]
        assert get(registry, f"blobs/{layer['digest']}") == (world.directory / path).read_bytes()
    # A node asks for an artifact by its digest alone.
    for slot in ("0.3.0-x86_64-stable", "0.2.0-aarch64-stable"):
        for name in ARTIFACT_NAMES:
            data = (world.folder / slot / name).read_bytes()
            assert get(registry, f"blobs/sha256:{hashlib.sha256(data).hexdigest()}") == data


def test_only_what_nodes_need_is_uploaded(world: Publisher, registry: Registry) -> None:
    world.publish("0.3.0")
    assert world.push(registry) == 0
    gone = (world.folder / "0.2.0-x86_64-stable/vmlinuz").read_bytes()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(registry, f"blobs/sha256:{hashlib.sha256(gone).hexdigest()}")


def test_a_second_push_uploads_only_what_is_new(
    world: Publisher, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.push(registry) == 0
    before = uploads(registry)
    capsys.readouterr()
    assert world.push(registry) == 0
    assert uploads(registry) == before
    assert "unchanged" in capsys.readouterr().out
    world.publish("0.3.0")
    assert world.push(registry) == 0
    # Four artifacts, the manifest, and three files of new metadata.
    assert len(uploads(registry) - before) == 8
    assert "files were new there" in capsys.readouterr().out


def test_the_tag_moves_last(world: Publisher, registry: Registry) -> None:
    assert world.push(registry) == 0
    written = [each.path for each in registry.requests() if each.method == "PUT"]
    assert written[-1] == "/v2/os/kubesolo/manifests/stable"
    assert sum("/manifests/" in path for path in written) == 4


def test_the_same_repository_has_the_same_digests(
    world: Publisher, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.push(registry, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    shutil.copytree(world.directory, tmp_path / "copy")
    world.directory = tmp_path / "copy"
    assert world.push(registry, "--json", name="other/name") == 0
    second = json.loads(capsys.readouterr().out)
    assert second["reference"].endswith("/other/name:latest")
    assert (first["digest"], first["releases"]) == (second["digest"], second["releases"])


def test_other_tools_read_it(
    world: Publisher, registry: Registry, tools: HostTools, skopeo: HostTools, tmp_path: Path
) -> None:
    assert world.push(registry) == 0
    name = f"{registry.host}/os/kubesolo:stable"
    index = get(registry, "manifests/stable")
    raw = skopeo.run("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}")
    assert raw == index
    copy = ("--insecure-policy", "copy", "--all", "--src-tls-verify=false")
    skopeo.run("skopeo", *copy, f"docker://{name}", f"oci:{tmp_path / 'copied'}:stable")
    kept = {path.name for path in (tmp_path / "copied/blobs/sha256").iterdir()}
    assert hashlib.sha256(index).hexdigest() in kept
    home = {"HOME": str(tmp_path)}
    fetched = tools.run("oras", "manifest", "fetch", "--plain-http", name, environment=home)
    assert fetched == index
    *releases, (row, _) = documents(registry)
    pull = ("oras", "pull", "--plain-http", "-o")
    place = f"{registry.host}/os/kubesolo@"
    # All of the small files lie as they do in the repository.
    tools.run(*pull, tmp_path / "small", place + row["digest"], environment=home)
    state = read_state(tmp_path / "small")
    assert len(state.targets.targets) == 2
    x86 = next(each for each, _ in releases if each["platform"]["architecture"] == "amd64")
    tools.run(*pull, tmp_path / "slot", place + x86["digest"], environment=home)
    for each in (world.folder / "0.2.0-x86_64-stable").iterdir():
        assert (tmp_path / "slot" / each.name).read_bytes() == each.read_bytes()


def test_a_copy_to_another_registry_serves_the_same(
    world: Publisher, registry: Registry, tools: HostTools, skopeo: HostTools, tmp_path: Path
) -> None:
    assert world.push(registry) == 0
    with Registry(tools=tools, runs=tmp_path / "runs") as mirror:
        places = [f"docker://{each.host}/os/kubesolo:stable" for each in (registry, mirror)]
        skopeo.run(
            "skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false",
            "--dest-tls-verify=false", *places,
        )  # fmt: skip
        assert get(mirror, "manifests/stable") == get(registry, "manifests/stable")
        assert len(documents(mirror)) == 3
        # The publisher goes on with either.
        world.publish("0.3.0")
        assert world.push(mirror) == 0


def test_a_login_by_arguments_and_by_dockers_file(
    world: Publisher,
    tools: HostTools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Registry(tools=tools, runs=tmp_path / "runs", login=LOGIN) as registry:
        assert world.push(registry) == 1
        error = capsys.readouterr().err
        assert "docker login" in error
        user = ("--username", LOGIN.username, "--password-stdin")
        for typed, code in (("wrong\n", 1), (f"{LOGIN.password}\n", 0)):
            monkeypatch.setattr("sys.stdin", io.StringIO(typed))
            assert world.push(registry, *user) == code
            out, err = capsys.readouterr()
            assert typed.strip() not in out + err
        word = base64.b64encode(f"{LOGIN.username}:{LOGIN.password}".encode()).decode()
        logins = json.dumps({"auths": {registry.host: {"auth": word}}})
        (tmp_path / "logins.json").write_text(logins)
        world.publish("0.3.0")
        assert world.push(registry, "--registry-config", str(tmp_path / "logins.json")) == 0
        docker = tmp_path / "publisher/.docker"
        docker.mkdir()
        (docker / "config.json").write_text(logins)
        world.publish("0.4.0")
        assert world.push(registry) == 0
        assert (docker / "config.json").read_text() == logins


def test_a_password_is_in_no_argument(
    world: Publisher,
    tools: HostTools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[str]] = []
    real = HostTools.argv

    def argv(self: HostTools, program: str, *args: str) -> list[str]:
        seen.append(list(args))
        return real(self, program, *args)

    monkeypatch.setattr(HostTools, "argv", argv)
    with Registry(tools=tools, runs=tmp_path / "runs", login=LOGIN) as registry:
        monkeypatch.setattr("sys.stdin", io.StringIO(LOGIN.password))
        assert world.push(registry, "--username", LOGIN.username, "--password-stdin") == 0
    assert len(seen) > 2
    assert LOGIN.password not in json.dumps(seen)


def test_a_private_authority(
    world: Publisher, tools: HostTools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pem = certificate(tmp_path)
    with Registry(tools=tools, runs=tmp_path / "runs", tls=Tls(pem, pem)) as registry:
        assert world.push(registry) == 1
        assert "--ca-file FILE" in capsys.readouterr().err
        assert world.push(registry, "--ca-file", str(pem)) == 0


def test_plain_http_is_asked_for(
    world: Publisher, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(world.directory), f"{registry.host}/os/kubesolo"]) == 1
    error = capsys.readouterr().err
    assert "add --plain-http" in error


def test_a_push_that_is_cut_off_leaves_the_former_state(
    world: Publisher, registry: Registry
) -> None:
    assert world.push(registry) == 0
    served = get(registry, "manifests/stable")
    slot = make_slot(world.folder / "large", "0.3.0")
    # So much that a small file arrives before it does.
    (slot / "root.squashfs").write_bytes(bytes(96 << 20))
    manifest = Manifest.parse((slot / "manifest.json").read_bytes())
    artifacts = tuple(described(slot / each.name) for each in manifest.artifacts)
    (slot / "manifest.json").write_bytes(manifest._replace(artifacts=artifacts).to_bytes())
    world.repository.publish(slot, channel="stable")
    reference = Reference.parse(f"{registry.host}/os/kubesolo:stable")
    arrived = []

    def stop(line: str) -> None:
        if line.startswith("Copied  "):
            arrived.append(line)
            registry.stop()

    with pytest.raises(RegistryError, match="oras failed"):
        push(world.directory, reference, Access(plain_http=True), said=stop)
    assert arrived
    registry.start()
    assert get(registry, "manifests/stable") == served
    assert world.push(registry) == 0
    assert get(registry, "manifests/stable") != served
    assert get(registry, f"blobs/sha256:{artifacts[-1].sha256}")


def described(file: Path) -> Artifact:
    data = file.read_bytes()
    return Artifact(file.name, len(data), hashlib.sha256(data).hexdigest())


def test_what_does_not_verify_is_not_pushed(
    world: Publisher, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (world.folder / "0.2.0-x86_64-stable/vmlinuz").read_bytes()
    file = world.directory / "artifacts" / hashlib.sha256(data).hexdigest()
    file.write_bytes(b"damaged")
    assert world.push(registry, "--force") == 1
    error = capsys.readouterr().err
    assert f"nodes would refuse {world.directory}: stable/x86_64/manifest.json: vmlinuz" in error
    assert "kubesolo-release verify" in error
    assert [each for each in registry.requests() if each.method != "GET"] == []


def test_newer_metadata_are_not_replaced_by_older(
    world: Publisher, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world.directory, tmp_path / "backup")
    world.publish("0.3.0")
    assert world.push(registry) == 0
    served = get(registry, "manifests/stable")
    world.directory = tmp_path / "backup"
    assert world.push(registry) == 1
    error = capsys.readouterr().err
    assert "serves timestamp version 4, and" in error
    assert "would take it for a replay" in error
    assert get(registry, "manifests/stable") == served
    assert world.push(registry, "--force") == 0
    assert get(registry, "manifests/stable") != served


def test_two_that_were_signed_apart_are_told(
    world: Publisher, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world.directory, tmp_path / "copy")
    world.publish("0.3.0")
    assert world.push(registry) == 0
    other = Repository.open(tmp_path / "copy", world.keys)
    other.publish(make_slot(tmp_path / "another", "0.3.1"), channel="stable")
    world.directory = tmp_path / "copy"
    assert world.push(registry) == 1
    assert "signed apart" in capsys.readouterr().err


def test_a_strangers_repository_is_not_replaced(
    world: Publisher, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stranger").mkdir()
    assert Publisher(tmp_path / "stranger").push(registry) == 0
    world.publish("0.3.0")
    assert world.push(registry) == 1
    assert "begins with other root keys" in capsys.readouterr().err


def test_an_image_under_the_name_is_not_replaced(
    world: Publisher,
    registry: Registry,
    tools: HostTools,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_bytes(b"of somebody")
    name = f"{registry.host}/os/kubesolo:stable"
    home = {"HOME": str(tmp_path)}
    tools.run("oras", "push", "--plain-http", name, "file", cwd=tmp_path, environment=home)
    assert world.push(registry) == 1
    assert "holds something else than a release repository" in capsys.readouterr().err
    assert world.push(registry, "--force") == 0


def test_what_oras_made_of_a_directory_is_recognised(
    world: Publisher, registry: Registry, tools: HostTools, tmp_path: Path
) -> None:
    files = [
        str(path.relative_to(world.directory))
        for path in sorted(world.directory.rglob("*"))
        if path.is_file()
    ]
    name = f"{registry.host}/os/kubesolo:stable"
    home = {"HOME": str(tmp_path)}
    argv = ("push", "--plain-http", name, *files)
    tools.run("oras", *argv, cwd=world.directory, environment=home)
    before = uploads(registry)
    assert world.push(registry) == 0
    # The blobs are the same ones.
    assert uploads(registry) == before
    assert len(documents(registry)) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("os/kubesolo", "is no place in a registry"),
        ("https://registry.example.com/os", "without https://"),
        ("registry.example.com/OS", "small letters"),
        ("registry.example.com", "is no place"),
        ("registry.example.com/os@sha256:" + "0" * 64, "is no place"),
        ("registry.example.com/os:a b", "is no place"),
        ("registry.invalid/os", "check the registry's address"),
        ("127.0.0.1:1/os", "check the registry's address"),
    ],
)
def test_a_wrong_name_is_a_clear_error(
    world: Publisher, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(world.directory), name, "--plain-http"]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--username", "somebody"], "belong together"),
        (["--password-stdin"], "no password on stdin"),
        (["--ca-file", "nowhere.pem"], "--ca-file nowhere.pem is not a file"),
        (["--registry-config", "nowhere"], "--registry-config nowhere is not a file"),
    ],
)
def test_settings_that_cannot_be(
    world: Publisher,
    more: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["push", str(world.directory), "127.0.0.1:1/os", *more]) == 1
    assert words in capsys.readouterr().err


def test_a_directory_that_is_no_repository(
    world: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(tmp_path / "publisher"), "127.0.0.1:1/os"]) == 1
    assert "is not a release repository" in capsys.readouterr().err


def test_a_promoted_release_is_uploaded_once(world: Publisher, registry: Registry) -> None:
    assert world.push(registry) == 0
    before = uploads(registry)
    channels.promote(world.repository, "stable", "beta")
    assert world.push(registry) == 0
    # Three files of new metadata: the other channel's release is the same to the byte.
    assert len(uploads(registry) - before) == 3
    assert len(documents(registry)) == 5
