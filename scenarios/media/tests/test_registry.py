"""The OCI image of the system through a real registry and other people's tools, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.servers.registry import Registry
from product.image import cli
from product.image.build import Image
from product.image.cache import Cache, file_sha256
from product.image.media.oci import write_image
from product.image.tools import IMAGES, HostTools, host_arch

if TYPE_CHECKING:
    from conftest import Images

NAME = "os/kubesolo-os:0.1.0"


@pytest.fixture(scope="module")
def skopeo() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "test-tools.toml")


@pytest.fixture(scope="module")
def registry_tools() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")


@pytest.fixture
def registry(tmp_path: Path, registry_tools: HostTools) -> Iterator[Registry]:
    with Registry(tools=registry_tools, runs=tmp_path / "runs") as registry:
        yield registry


@pytest.fixture(scope="module")
def image(images: Images) -> Image:
    return images[host_arch().value]


@pytest.fixture(scope="module")
def layout(images: Images, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oci") / "os.oci.tar"
    write_image(images.builder(host_arch().value), image, path, channel=None)
    return path


def command(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["kubesolo-image", *map(str, words)])
    try:
        return cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No login of whoever runs the tests counts."""
    monkeypatch.setenv("KUBESOLO_CACHE", str(Cache().root))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("keep", [True, False], ids=["as it is", "compressed by skopeo"])
def test_skopeo_copies_it_to_a_registry_and_its_disk_comes_back(
    keep: bool, layout: Path, image: Image, registry: Registry, skopeo: HostTools, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, home: Path,
) -> None:  # fmt: skip
    place = f"docker://{registry.host}/{NAME}"
    digests = ["--preserve-digests"] if keep else []
    skopeo.run(
        "skopeo", "--insecure-policy", "copy", *digests, "--dest-tls-verify=false",
        f"oci-archive:{layout}:0.1.0", place, environment={"HOME": str(home), "TMPDIR": "/tmp"},
    )  # fmt: skip
    about = json.loads(skopeo.run("skopeo", "inspect", "--tls-verify=false", place))
    assert about["Os"] == "linux"
    assert about["Labels"]["io.kubesolo.os.version"] == "0.1.0"
    assert about["Labels"]["io.kubesolo.os.disk.sha256"] == image.sha256
    assert len(about["Layers"]) == 8
    disk = tmp_path / "disk.img"
    assert command(monkeypatch, "from-oci", place, "--output", disk, "--plain-http") == 0
    assert file_sha256(disk) == image.sha256
    copied = tmp_path / "copied.tar"
    skopeo.run(
        "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", place,
        f"oci-archive:{copied}:x", environment={"HOME": str(home), "TMPDIR": "/tmp"},
    )  # fmt: skip
    disk.unlink()
    assert command(monkeypatch, "from-oci", copied, "--output", disk) == 0
    assert file_sha256(disk) == image.sha256


def test_a_registry_without_it_is_said_in_a_line(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place = f"docker://{registry.host}/{NAME}"
    disk = tmp_path / "disk.img"
    assert command(monkeypatch, "from-oci", place, "--output", disk, "--plain-http") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: oras failed: ")
    assert "not found" in said
    assert "Traceback" not in said
    assert not disk.exists()
    assert command(monkeypatch, "from-oci", "no.tar", "--output", disk) == 1
    assert "starts with docker://" in capsys.readouterr().err
    assert command(monkeypatch, "from-oci", "docker://x", "--output", disk) == 1
    assert "is no place in a registry" in capsys.readouterr().err
