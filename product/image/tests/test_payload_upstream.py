"""The upstream payload: its options and what it says of itself, without its long builds."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.errors import ImageError, RecipeError
from product.image.options import recipe_path
from product.image.payload.upstream import CNI, IN_IMAGES, MARK, Program, UpstreamPayload
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES, host_arch
from product.node.settings import OF_IMAGES, OF_UPSTREAM

RECIPE = IMAGES / "upstream.toml"
OVERLAY = IMAGES / "payload/upstream"


def _payload(**options: object) -> UpstreamPayload:
    table = {"kind": "upstream", "images": ["pause"], **options}
    return UpstreamPayload.of(Recipe.load(RECIPE), table)


def test_options_are_checked() -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'payload\.colour'"):
        _payload(colour="red")
    with pytest.raises(RecipeError, match=r"payload\.kubernetes: String should match"):
        _payload(kubernetes="1.36.3")
    with pytest.raises(RecipeError, match=r"there is no Kubernetes 1\.34 in ") as caught:
        _payload(kubernetes="1.34")
    assert caught.value.hint == "there is 1.36, 1.35"
    with pytest.raises(RecipeError, match=r"payload\.images lacks pause, without which no pod"):
        _payload(images=["nginx"])


def test_each_minor_version_has_its_list_of_modules() -> None:
    newest, older = _payload(), _payload(kubernetes="1.35")
    assert _payload(kubernetes="1.36").version == newest.version
    assert newest.version.startswith("1.36.")
    assert older.version.startswith("1.35.")
    assert newest.digest(Arch.X86_64) != older.digest(Arch.X86_64)
    # All of Kubernetes' modules are of one release.
    for name, minor in (("go.mod", 36), ("1.35.mod", 35)):
        text = (IMAGES / "go/node" / name).read_text()
        patch = newest.version if minor == 36 else older.version
        staging = re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ v0\.(\S+)$", text, re.M)
        assert len(staging) > 20
        assert set(staging) == {patch.removeprefix("1.")}


def test_a_recipe_of_the_minor_version_before_changes_that_alone() -> None:
    newest = Recipe.load(RECIPE)
    before = Recipe.load(recipe_path(Path("upstream-1.35")))
    assert newest.payload is not None
    assert before.payload == {**newest.payload, "kubernetes": "1.35"}
    assert UpstreamPayload.of(before, before.payload).version.startswith("1.35.")
    assert before.lock_path(Arch.X86_64) == newest.lock_path(Arch.X86_64)
    assert before.request(Arch.X86_64) == newest.request(Arch.X86_64)


def test_services_and_files_are_those_that_it_names() -> None:
    payload = _payload()
    description = payload._description(None, Arch.X86_64)
    assert description["kubernetes"] == payload.version
    services = description["services"]
    assert isinstance(services, list)
    for service in services:
        assert (OVERLAY / "usr/lib/kubesolo/services" / service / "run").stat().st_mode & 0o100
    assert json.loads(json.dumps(description)) == description


def test_a_setting_that_needs_an_image_is_known_where_that_is_there() -> None:
    with_it = _payload(images=["pause", "metrics-server"])._description(None, Arch.X86_64)
    assert with_it["settings"] == list(OF_UPSTREAM)
    without = _payload(images=["pause"])._description(None, Arch.X86_64)["settings"]
    assert isinstance(without, list)
    assert set(OF_UPSTREAM) - set(without) == set(OF_IMAGES)
    for name in OF_IMAGES:
        assert name in IN_IMAGES
        assert (IMAGES / "go" / name / "manifests" / f"{name}.yaml").is_file()


@pytest.fixture(scope="module")
def program(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program for aarch64 that has the marks of the node's."""
    pause = _payload().program(IN_IMAGES["pause"], Arch.AARCH64, cache)
    path = tmp_path_factory.mktemp("given") / "kubenode"
    path.write_bytes(pause.read_bytes() + MARK + f" v{_payload().version} ".encode())
    return path


def test_a_given_program_is_checked(program: Path, tmp_path: Path, cache: Cache) -> None:
    taken = _payload(binary=str(program))
    assert taken.digest(Arch.AARCH64) != _payload().digest(Arch.AARCH64)
    pause = _payload().program(IN_IMAGES["pause"], Arch.AARCH64, cache)
    with pytest.raises(ImageError, match="pause is no kubenode") as caught:
        _payload(binary=str(pause)).digest(Arch.AARCH64)
    assert caught.value.hint
    with pytest.raises(ImageError, match=r"is not Kubernetes 1\.35\.\d+") as caught:
        _payload(binary=str(program), kubernetes="1.35").digest(Arch.AARCH64)
    assert "payload.kubernetes" in str(caught.value.hint)
    with pytest.raises(ImageError, match="a program for aarch64, the image is for x86_64"):
        _payload(binary=str(program)).digest(Arch.X86_64)
    with pytest.raises(ImageError, match="there is no file"):
        _payload(binary=str(tmp_path / "none")).digest(Arch.AARCH64)
    # One that is given for one architecture leaves the other alone.
    assert _payload(binary={"aarch64": str(program)}).digest(Arch.X86_64)


@pytest.mark.parametrize("plugin", CNI, ids=lambda plugin: plugin.name)
def test_a_plugin_knows_the_version_of_the_nodes_network(plugin: Program, cache: Cache) -> None:
    """Run on this host: it is static. A first run compiles it, half a minute."""
    network = json.loads((OVERLAY / "etc/cni/net.d/10-kubesolo.conflist").read_text())
    path = _payload().program(plugin, host_arch(), cache)
    done = subprocess.run(
        [path], env={"CNI_COMMAND": "VERSION"}, input=b'{"cniVersion": "1.1.0"}',
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert network["cniVersion"] in json.loads(done.stdout)["supportedVersions"]


def test_an_operators_registries_lie_where_an_operator_can_write() -> None:
    config = tomllib.loads((OVERLAY / "etc/containerd/config.toml").read_text())
    registry = config["plugins"]["io.containerd.cri.v1.images"]["registry"]
    assert Path(registry["config_path"]).is_relative_to("/etc/kubesolo")
