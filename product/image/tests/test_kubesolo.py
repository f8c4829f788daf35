"""The ``kubesolo`` payload: what its tree holds, from which archive, with which configuration."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from product.image.build import Builder
from product.image.cache import Cache
from product.image.cli import main
from product.image.drift import settle
from product.image.errors import DownloadError, ImageError, LockError, RecipeError
from product.image.kernel import ModuleIndex, check_needs, prepare
from product.image.locks import Lock
from product.image.oci import BUILT, NAMES
from product.image.payload.kubesolo import KubesoloPayload
from product.image.payload.kubesolo_config import check, render
from product.image.payload.kubesolo_release import unpack_program
from product.image.payload.table import payload_of
from product.image.recipe import Arch, Recipe
from product.image.rootfs import packages_tree
from product.image.tests.test_kubesolo_release import (
    NAME,
    RELEASE,
    VARIANT,
    Server,
    program,
    publish,
    tar_gz,
)
from product.image.tools import IMAGES, HostTools, host_arch
from product.node.settings import OF_KUBESOLO

RECIPE = IMAGES / "kubesolo.toml"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def tools() -> HostTools:
    return HostTools.prepare(Cache())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(tar_gz(("kubesolo", program())))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / "cache")
    # The packages of the container images are there already.
    made.blobs.rmdir()
    made.blobs.symlink_to(Cache().blobs)
    return made


def payload(**options: Any) -> KubesoloPayload:
    table = {"kind": "kubesolo", "release": RELEASE, **options}
    return KubesoloPayload.of(Recipe.load(RECIPE), table)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_archive(path: Path, **options: Any) -> KubesoloPayload:
    """With the archive's digest, without which it is not used."""
    digest = sha256_of(path) if path.is_file() else "0" * 64
    return payload(archive=str(path), sha256=digest, **options)


def test_the_recipe_names_a_payload_of_this_kind() -> None:
    recipe = Recipe.load(RECIPE)
    made = payload_of(recipe)
    assert isinstance(made, KubesoloPayload)
    for arch in Arch:
        lock = Lock.load(recipe.lock_path(arch))
        lock.check_request(recipe.request(arch), recipe.lock_path(arch))
        names = {package.name for package in lock.packages}
        assert {"iptables", "nftables", "containerd", "python3-yaml"} <= names
        assert "runc" not in names


@pytest.mark.parametrize(
    "program", ["usr/sbin/nft", "usr/sbin/xtables-nft-multi", "usr/bin/mount", "usr/bin/ctr"]
)
def test_the_image_has_the_libraries_of_what_kubesolo_calls(program: str, tools: HostTools) -> None:
    recipe = Recipe.load(RECIPE)
    arch = host_arch()
    root = packages_tree(recipe, settle(recipe, arch).lock, arch, Cache(), tools)
    libraries = root / "usr/lib" / arch.multiarch
    (loader,) = root.glob("usr/lib*/ld-linux*")
    listed = subprocess.run(
        [loader, "--library-path", libraries, "--list", root / program],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"=> (\S+)", listed)
    assert found
    assert [path for path in found if not path.startswith(str(root))] == []


def test_the_tree_of_an_archive(archive: Path, cache: Cache, tools: HostTools) -> None:
    tree = of_archive(archive).prepare(Arch.X86_64, cache, tools)
    assert (tree / "usr/bin/kubesolo").read_bytes() == program()
    assert (tree / "usr/bin/kubesolo").stat().st_mode & 0o777 == 0o755
    described = json.loads((tree / "usr/lib/kubesolo/payload.json").read_text())
    assert described == {
        "schema": 1,
        "kind": "kubesolo",
        "version": RELEASE,
        "kubernetes": "1.35.1",
        "services": ["kubesolo", "kubesolo-images"],
        "kubeconfig": "/var/lib/kubesolo/pki/admin/admin.kubeconfig",
        "containerd": "/var/lib/kubesolo/containerd/containerd.sock",
        "datastore": {"path": "/var/lib/kubesolo/kine/db", "service": "kubesolo"},
        "images": "/usr/lib/kubesolo/images",
        "settings": sorted(OF_KUBESOLO),
    }
    for name in described["services"]:
        run = tree / "usr/lib/kubesolo/services" / name / "run"
        assert run.stat().st_mode & 0o111, run
    assert (tree / "usr/lib/kubesolo/images/agent.tar").is_file()
    links = {
        name: str((tree / name).readlink()) for name in ("etc/cni", "etc/containerd", "opt/cni")
    }
    assert links == {
        "etc/cni": "/var/lib/kubesolo/cni",
        "etc/containerd": "/etc/kubesolo/containerd",
        "opt/cni": "/var/lib/kubesolo/opt-cni",
    }


def test_the_agent_reads_what_is_described(
    archive: Path, cache: Cache, tools: HostTools, tmp_path: Path
) -> None:
    from product.node.payload import read_payload

    tree = of_archive(archive).prepare(Arch.X86_64, cache, tools)
    assert read_payload(str(tree / "usr/lib/kubesolo/payload.json"))


def test_the_releases_own_name_says_its_version(
    archive: Path, cache: Cache, tools: HostTools
) -> None:
    newer = archive.with_name("kubesolo-v1.3.0-linux-amd64-musl.tar.gz")
    archive.rename(newer)
    tree = of_archive(newer).prepare(Arch.X86_64, cache, tools)
    assert json.loads((tree / "usr/lib/kubesolo/payload.json").read_text())["version"] == "v1.3.0"


def test_a_locked_release_is_fetched_and_used(
    server: Server, cache: Cache, tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server)
    made = payload()
    monkeypatch.setattr(made, "_lock", tmp_path / "lock.json")
    assert [line.split()[0] for line in made.relock(server.url)] == ["x86_64", "aarch64"]
    assert made.relock(server.url) == ["up to date"]
    for arch in Arch:
        tree = made.prepare(arch, cache, tools)
        assert (tree / "usr/bin/kubesolo").read_bytes() == program(arch)
    asked = len(server.asked)
    made.prepare(Arch.X86_64, cache, tools)
    assert len(server.asked) == asked


def test_locking_goes_on_where_upstream_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object) -> None:
        raise DownloadError("cannot fetch it", hint="take another way")

    monkeypatch.setattr("product.image.payload.kubesolo.lock_release", unreachable)
    monkeypatch.setattr("product.image.cli.relock", lambda *_, **__: [])
    monkeypatch.setattr("sys.argv", ["image", "lock", str(RECIPE)])
    assert main() == 0
    captured = capsys.readouterr()
    assert "kubesolo payload: not renewed: cannot fetch it" in captured.out
    assert captured.err.splitlines()[-1] == "hint: take another way"


def test_a_recipes_release_is_the_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = payload(release="v9.9.9")
    with pytest.raises(LockError, match=r"the recipe wants v9\.9\.9"):
        made.digest(Arch.X86_64)


def test_everything_that_the_tree_is_made_from_names_it(archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    other.write_bytes(tar_gz(("kubesolo", program(kubernetes="1.35.2"))))
    digests = {
        of_archive(archive).digest(Arch.X86_64),
        of_archive(archive).digest(Arch.AARCH64),
        of_archive(other).digest(Arch.X86_64),
        of_archive(archive, images=[]).digest(Arch.X86_64),
        of_archive(archive, images=["agent", "nginx"]).digest(Arch.X86_64),
        of_archive(archive, kubernetes="1.35").digest(Arch.X86_64),
        of_archive(archive, config={"network": {"mtu": 1400}}).digest(Arch.X86_64),
    }
    assert len(digests) == 7


@pytest.mark.parametrize("table", [False, True])
def test_an_archives_digest_is_checked(
    archive: Path, cache: Cache, tools: HostTools, table: bool
) -> None:
    right: Any = hashlib.sha256(archive.read_bytes()).hexdigest()
    wrong: Any = "0" * 64
    given: Any = str(archive)
    if table:
        right, wrong, given = ({"x86_64": value} for value in (right, wrong, given))
    payload(archive=given, sha256=right).prepare(Arch.X86_64, cache, tools)
    with pytest.raises(ImageError, match="not the archive that was asked for") as caught:
        payload(archive=given, sha256=wrong).prepare(Arch.X86_64, cache, tools)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in caught.value.message


def test_an_archive_without_a_known_digest_is_refused(
    archive: Path, cache: Cache, tools: HostTools
) -> None:
    digest = sha256_of(archive)
    unknown: tuple[dict[str, Any], ...] = ({}, {"sha256": {"aarch64": digest}})
    for options in unknown:
        made = payload(archive=str(archive), **options)
        with pytest.raises(ImageError, match="is not verified: no digest of it") as caught:
            made.digest(Arch.X86_64)
        assert digest in caught.value.message
        assert "--payload-sha256" in caught.value.message
        assert f"--payload-sha256 {digest}" in str(caught.value.hint)
        with pytest.raises(ImageError, match="is not verified"):
            made.prepare(Arch.X86_64, cache, tools)
    assert not list(cache.trees.glob("payload-*"))
    payload(archive=str(archive), sha256={"x86_64": digest}).prepare(Arch.X86_64, cache, tools)


def test_the_command_line_takes_the_digest(
    archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(builder: Builder, *_: object) -> None:
        assert builder.payload is not None
        raise ImageError(f"built from {builder.payload.digest(builder.arch)}")

    monkeypatch.setattr(Builder, "image", named)
    monkeypatch.setattr(Builder, "slot", named)
    table = Recipe.load(RECIPE).payload or {}
    expected = of_archive(archive, config=table["config"]).digest(Arch.X86_64)
    for command in ("build", "slot"):
        argv = ["image", command, "--arch", "x86_64", "--recipe", str(RECIPE)]
        argv += ["--payload-archive", str(archive)]
        for given, words in (
            ([], "is not verified: no digest of it is known for x86_64"),
            (["--payload-sha256", "0" * 64], f"expected SHA-256 {'0' * 64}, got"),
            (["--payload-sha256", "0" * 63], "payload.sha256"),
            (["--payload-sha256", sha256_of(archive)], f"built from {expected}"),
        ):
            monkeypatch.setattr("sys.argv", [*argv, *given])
            assert main() == 1
            (line,) = re.findall("^error: .*", capsys.readouterr().err, re.M)
            assert words in line


def test_an_archive_that_changes_while_it_is_unpacked_is_not_kept(
    archive: Path, cache: Cache, tools: HostTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(source: Path, target: Path) -> None:
        source.write_bytes(tar_gz(("kubesolo", program(kubernetes="1.35.2"))))
        unpack_program(source, target)

    made = of_archive(archive)
    monkeypatch.setattr("product.image.payload.kubesolo.unpack_program", unpack)
    with pytest.raises(ImageError, match="changed while it was built from"):
        made.prepare(Arch.X86_64, cache, tools)
    assert not list(cache.trees.glob("payload-*"))


def test_a_mirrors_archive_is_used_by_a_digest_alone(
    server: Server, cache: Cache, tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server)
    row = {"url": f"https://upstream.invalid/{RELEASE}/{NAME}", "size": None, "sha256": None}
    lock = tmp_path / "lock.json"
    lock.write_text(
        json.dumps({"release": RELEASE, "variant": VARIANT, "archives": {"x86_64": row}})
    )

    def of_mirror(**options: Any) -> KubesoloPayload:
        made = payload(mirror=server.url, **options)
        monkeypatch.setattr(made, "_lock", lock)
        return made

    with pytest.raises(LockError, match="has no verified digest") as caught:
        of_mirror().prepare(Arch.X86_64, cache, tools)
    assert "--payload-sha256" in caught.value.message
    assert server.asked == []
    with pytest.raises(DownloadError, match="not the pinned archive: expected SHA-256 0000"):
        of_mirror(sha256="0" * 64).prepare(Arch.X86_64, cache, tools)
    assert not list(cache.trees.glob("payload-*"))
    right = hashlib.sha256(server.files[f"/{RELEASE}/{NAME}"]).hexdigest()
    tree = of_mirror(sha256=right).prepare(Arch.X86_64, cache, tools)
    assert (tree / "usr/bin/kubesolo").read_bytes() == program()
    asked = len(server.asked)
    of_mirror(sha256=right, kubernetes="1.35").prepare(Arch.X86_64, cache, tools)
    assert len(server.asked) == asked, "it is in the cache"


def test_a_file_with_a_locked_archives_name_is_that_archive(
    archive: Path, cache: Cache, tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / NAME
    archive.rename(named)
    row = {"url": f"https://upstream.invalid/{NAME}", "size": 1, "sha256": "0" * 64}
    lock = tmp_path / "lock.json"
    lock.write_text(
        json.dumps({"release": RELEASE, "variant": VARIANT, "archives": {"x86_64": row}})
    )
    made = payload(archive=str(named))
    monkeypatch.setattr(made, "_lock", lock)
    with pytest.raises(ImageError, match="expected SHA-256 0000"):
        made.prepare(Arch.X86_64, cache, tools)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (None, {}, "there is no archive"),
        (b"junk", {}, "is no tar.gz"),
        (tar_gz(("kubesolo", program(Arch.AARCH64))), {}, "is a program for aarch64"),
        (tar_gz(("kubesolo", program(kubernetes=None))), {}, "does not say which Kubernetes"),
        (
            tar_gz(("kubesolo", program(kubernetes="1.35.0"))),
            {"kubernetes": "1.34"},
            "holds Kubernetes 1.35.0, the recipe says 1.34",
        ),
    ],
)
def test_an_unusable_archive_is_one_error(
    tmp_path: Path,
    cache: Cache,
    tools: HostTools,
    data: bytes | None,
    options: dict[str, str],
    words: str,
) -> None:
    path = tmp_path / "given.tar.gz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ImageError, match=words):
        of_archive(path, **options).prepare(Arch.X86_64, cache, tools)
    assert not list(cache.trees.glob("payload-*"))


def test_the_recipe_may_say_the_kubernetes_version(
    tmp_path: Path, cache: Cache, tools: HostTools
) -> None:
    path = tmp_path / "given.tar.gz"
    path.write_bytes(tar_gz(("kubesolo", program(kubernetes=None))))
    tree = of_archive(path, kubernetes="1.35").prepare(Arch.X86_64, cache, tools)
    assert json.loads((tree / "usr/lib/kubesolo/payload.json").read_text())["kubernetes"] == "1.35"


def test_the_command_line_says_it_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = Recipe.load(RECIPE).folder / "locks/kubesolo-release.json"
    if all(pin["sha256"] for pin in json.loads(lock.read_text())["archives"].values()):
        pytest.skip("the release is locked here")
    monkeypatch.setattr("sys.argv", ["image", "slot", "--arch", "x86_64", "--recipe", str(RECIPE)])
    assert main() == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(" ")]
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert "no verified digest" in lines[0]
    assert "--payload-archive" in lines[1]
    for way in ("--payload-sha256", "--payload-archive", "--recipe images/upstream.toml"):
        assert way in lines[0]


@pytest.mark.parametrize("arch", list(Arch))
def test_the_appliances_kernel_has_what_it_needs(arch: Arch, tools: HostTools) -> None:
    recipe = Recipe.load(RECIPE)
    kernel = prepare(settle(recipe, arch).lock, arch, Cache(), tools)
    needs = payload().kernel
    check_needs(kernel, needs, "kubesolo")
    assert ModuleIndex(kernel).closure(needs.modules)


def test_every_documented_setting_is_taken() -> None:
    table = tomllib.loads("""
        path = "/var/lib/kubesolo"
        [kubernetes]
        nodeName = "edge-1.example"
        apiServer = { extraSANs = ["kubesolo.local", "10.0.0.4"], startupTimeoutSeconds = 900 }
        [kubernetes.kubelet]
        systemReserved = { cpu = "1", memory = "500Mi", ephemeral-storage = "1Gi", pid = "100" }
        [kubernetes.kubelet.cpuManager]
        policy = "static"
        policyOptions = { full-pcpus-only = "true" }
        reservedCPUs = "0-1,3"
        [network]
        nodeIP = "10.0.0.5"
        mtu = 1400
        disableIPv6 = true
        loadBalancer = { enabled = true, ip = "10.0.0.6" }
        [pki]
        caCert = "/etc/kubesolo/ca.crt"
        caKey = "/etc/kubesolo/ca.key"
        [runtime]
        endpoint = "unix:///run/crio/crio.sock"
        containerMode = false
        [storage]
        localPath = { enabled = true, sharedPath = "/mnt/shared" }
        dbWALRepair = true
        [logging]
        debug = true
        pprof = true
        [metrics]
        enabled = true
        bindAddress = "0.0.0.0:9105"
        [api]
        enabled = false
        socketPath = "/run/config.sock"
        [portainer]
        edgeID = "device-1"
        edgeKey = "aHR0cHM6Ly9lLmV4YW1wbGV8ZS5leGFtcGxlOjgwMDB8YWJ8Nw"
        async = true
        image = "docker.io/portainer/agent:lts"
        [d2k]
        enabled = true
        namespace = "d2k"
        """)
    document = json.loads(render(check(table, "r")))
    assert document == {"apiVersion": "kubesolo.io/v1alpha1", "kind": "Config", **table}


def test_what_is_not_given_is_left_to_kubesolo() -> None:
    assert json.loads(render(check({}, "r"))) == {
        "apiVersion": "kubesolo.io/v1alpha1",
        "kind": "Config",
        "api": {"enabled": False},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path = '/data'", "payload.config.path"),
        ("netwrk = {}", "unknown key 'payload.config.netwrk'"),
        ("network.nodeIp = '10.0.0.1'", "unknown key 'payload.config.network.nodeIp'"),
        ("network.mtu = '1400'", "payload.config.network.mtu"),
        ("network.mtu = true", "payload.config.network.mtu"),
        ("network.mtu = -1", "payload.config.network.mtu"),
        ("network.nodeIP = '10.0.0'", "not an IP address"),
        ("logging.debug = 'yes'", "payload.config.logging.debug"),
        ("logging.debug = 1", "payload.config.logging.debug"),
        ("kubernetes.nodeName = 'Edge'", "RFC 1123"),
        ("kubernetes.apiServer.extraSANs = 'a,b'", "payload.config.kubernetes.apiServer.extraSANs"),
        ("kubernetes.apiServer.startupTimeoutSeconds = 0", "startupTimeoutSeconds"),
        ("kubernetes.kubelet.cpuManager.policy = 'dynamic'", "cpuManager.policy"),
        ("kubernetes.kubelet.cpuManager.reservedCPUs = 'all'", "reservedCPUs"),
        ("kubernetes.kubelet.systemReserved = {gpu = '1'}", "systemReserved"),
        ("pki.caCert = '/a'", "caCert and caKey go together"),
        ("pki.caCert = 'a'\npki.caKey = 'b'", "not an absolute path"),
        ("runtime.endpoint = 'tcp://x'", "neither an absolute path nor"),
        ("metrics.bindAddress = '9105'", "not HOST:PORT"),
        ("metrics.bindAddress = 'a:99999'", "not HOST:PORT"),
        ("portainer.edgeID = 'x'", "edgeID and edgeKey go together"),
        ("portainer.edgeID = 'x'\nportainer.edgeKey = 'secret'", "not a Portainer edge key"),
        ("d2k.enabled = true\nnetwork.loadBalancer.enabled = false", "needs network.loadBalancer"),
        ("d2k.namespace = 'A'", "payload.config.d2k.namespace"),
        ("api.enabled = true", "payload.config.api.enabled"),
        (f"api.socketPath = '/{'x' * 107}'", "payload.config.api.socketPath"),
        (
            "runtime.containerMode = true\nkubernetes.kubelet.cpuManager.policy = 'static'",
            "static CPU manager policy",
        ),
    ],
)
def test_a_setting_that_kubesolo_would_refuse_is_named(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        payload(config=tomllib.loads(text))
    # A key's value may be a secret.
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"release": "1.2"}, "payload.release"),
        ({"variant": "static"}, "payload.variant"),
        ({"mirror": "ftp://x"}, "payload.mirror"),
        ({"sha256": "abc"}, "payload.sha256"),
        ({"kubernetes": "v1"}, "payload.kubernetes"),
        ({"binary": "x"}, "unknown key 'payload.binary'"),
        ({"config": []}, "payload.config"),
        # KubeSolo brings its own.
        ({"images": ["agent", "pause"]}, "payload.images.1: .*'agent', 'busybox' or 'nginx'"),
        ({"images": ["redis"]}, "payload.images.0: "),
    ],
)
def test_an_option_of_the_payload_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        payload(**options)


def test_every_container_image_without_a_built_program_may_be_brought() -> None:
    payload(images=[name for name in NAMES if name not in BUILT])
