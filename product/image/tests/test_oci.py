"""Container images: what skopeo says of them, and what the programs in them do."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from product.image.cache import Cache
from product.image.errors import ImageError, RecipeError
from product.image.oci import BUILT, NAMES, build_archives, image_name
from product.image.oci.layer import file, folder, link, pack
from product.image.recipe import Arch
from product.image.tools import IMAGES, HostTools, host_arch

# Those that need no long build.
NO_MODULES = [name for name in NAMES if name not in BUILT or name == "pause"]


@pytest.fixture(scope="module")
def skopeo() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "test-tools.toml")


@pytest.fixture(scope="module")
def pause(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pause") / "pause"
    path.write_bytes(b"\x7fELF stands for the program")
    return path


@pytest.fixture(scope="module", params=list(Arch))
def archives(request: pytest.FixtureRequest, pause: Path) -> tuple[Arch, dict[str, Path]]:
    arch: Arch = request.param
    return arch, build_archives(NO_MODULES, arch, Cache(), programs={"pause": pause})


def members(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for info in tar:
            stream = tar.extractfile(info) if info.isfile() else None
            found[info.name] = (info, stream.read() if stream else b"")
        return found


def unpack(data: bytes, target: Path) -> Path:
    """A layer as files below ``target``."""
    for name, (info, content) in members(data).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if info.isdir():
            path.mkdir(exist_ok=True)
        elif info.issym():
            path.symlink_to(info.linkname)
        else:
            path.write_bytes(content)
            path.chmod(info.mode)
    return target


def layer_of(archive: Path) -> bytes:
    content = members(archive.read_bytes())
    index = json.loads(content["index.json"][1])
    manifest = json.loads(blob(content, index["manifests"][0]))
    return blob(content, manifest["layers"][0])


def blob(content: dict[str, tuple[tarfile.TarInfo, bytes]], row: dict[str, Any]) -> bytes:
    algorithm, _, digest = row["digest"].partition(":")
    data = content[f"blobs/{algorithm}/{digest}"][1]
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) == row["size"]
    return data


def test_every_descriptor_fits_its_blob(archives: tuple[Arch, dict[str, Path]]) -> None:
    arch, paths = archives
    assert sorted(paths) == sorted(NO_MODULES)
    for name, path in paths.items():
        content = members(path.read_bytes())
        assert json.loads(content["oci-layout"][1]) == {"imageLayoutVersion": "1.0.0"}
        (row,) = json.loads(content["index.json"][1])["manifests"]
        assert row["annotations"]["io.containerd.image.name"] == f"kubesolo.io/{name}:1"
        assert row["platform"] == {"architecture": arch.debian, "os": "linux"}
        manifest = json.loads(blob(content, row))
        config = json.loads(blob(content, manifest["config"]))
        assert (config["architecture"], config["os"]) == (arch.debian, "linux")
        layers = [blob(content, entry) for entry in manifest["layers"]]
        assert config["rootfs"]["diff_ids"] == [
            f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers
        ]
        blobs = [path for path in content if path.startswith("blobs/sha256/")]
        assert len(blobs) == 2 + len(layers)
        for data in layers:
            for info, _ in members(data).values():
                assert (info.uid, info.gid, info.mtime) == (0, 0, 1793491200)


def test_skopeo_copies_every_image(
    archives: tuple[Arch, dict[str, Path]], skopeo: HostTools, tmp_path: Path
) -> None:
    arch, paths = archives
    for name, path in paths.items():
        source = f"oci-archive:{path}:{image_name(name)}"
        # A copy verifies the digest of everything that it reads.
        skopeo.run(
            "skopeo", "--insecure-policy", "--override-arch", arch.debian,
            "copy", source, f"dir:{tmp_path / name}",
        )  # fmt: skip
        shown = json.loads(skopeo.run("skopeo", "inspect", "--no-tags", source))
        assert (shown["Architecture"], shown["Os"]) == (arch.debian, "linux")


def test_the_same_bytes_wherever_it_is_built(
    archives: tuple[Arch, dict[str, Path]], pause: Path, tmp_path: Path
) -> None:
    arch, paths = archives
    other = Cache(tmp_path / "another cache")
    # The packages are taken over: this is about building, not about downloading.
    other.blobs.rmdir()
    other.blobs.symlink_to(Cache().blobs)
    again = build_archives(NO_MODULES, arch, other, programs={"pause": pause})
    for name, path in again.items():
        assert path != paths[name]
        assert path.read_bytes() == paths[name].read_bytes(), name


def test_both_architectures_hold_the_same_files(pause: Path) -> None:
    listings = []
    for arch in Arch:
        images = build_archives(NO_MODULES, arch, Cache(), programs={"pause": pause})
        listings.append(
            {
                name: {
                    member.replace(arch.multiarch, "ARCH")
                    for member in members(layer_of(path))
                    if "ld-linux" not in member and not member.startswith("lib")
                }
                for name, path in images.items()
            }
        )
    assert listings[0] == listings[1]


def test_another_pause_is_another_image(pause: Path, tmp_path: Path) -> None:
    newer = tmp_path / "pause"
    newer.write_bytes(b"\x7fELF another")
    one = build_archives(["pause"], Arch.X86_64, Cache(), programs={"pause": pause})["pause"]
    two = build_archives(["pause"], Arch.X86_64, Cache(), programs={"pause": newer})["pause"]
    assert members(layer_of(one))["pause"][1] == pause.read_bytes()
    assert members(layer_of(two))["pause"][1] == newer.read_bytes()


@pytest.mark.parametrize("missing", [None, Path("/nowhere/pause")])
def test_pause_needs_its_program(missing: Path | None) -> None:
    with pytest.raises(ImageError, match="pause needs its program"):
        build_archives(
            ["pause"], Arch.X86_64, Cache(), programs={"pause": missing} if missing else {}
        )


def test_an_unknown_image_is_named() -> None:
    with pytest.raises(RecipeError, match="no container image 'ngnix'") as caught:
        build_archives(["ngnix"], Arch.X86_64, Cache())
    assert "busybox" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([file("../etc/passwd", b"")], "not a plain path"),
        ([file("/etc/passwd", b"")], "not a plain path"),
        ([file("a//b", b"")], "not a plain path"),
        ([file("a", b""), link("a", "b")], "has a twice"),
        ([link("a", "/tmp"), file("a/b", b"")], "has a/b below a, which is a link"),
    ],
)
def test_a_layer_stays_below_its_root(entries: list[Any], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        pack(entries, 0)


def test_a_layer_does_not_depend_on_the_order_of_its_entries() -> None:
    entries = [file("b/c", b"1"), folder("a", 0o1777), link("b/a", "c")]
    data = pack(entries, 1)
    assert data == pack(reversed(entries), 1)
    assert list(members(data)) == ["a", "b", "b/a", "b/c"]
    assert members(data)["a"][0].mode == 0o1777


def test_busybox_has_every_applet_it_is_linked_as(tmp_path: Path) -> None:
    archive = build_archives(["busybox"], host_arch(), Cache())["busybox"]
    root = unpack(layer_of(archive), tmp_path)
    output = subprocess.run(
        [root / "bin/busybox", "--list"], capture_output=True, text=True, check=True
    ).stdout
    linked = {path.name for path in (root / "bin").iterdir()} - {"busybox"}
    assert linked
    assert linked <= set(output.split())


def test_nginx_serves_its_page_with_the_libraries_of_the_image(tmp_path: Path) -> None:
    archive = build_archives(["nginx"], host_arch(), Cache())["nginx"]
    root = unpack(layer_of(archive), tmp_path / "root")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = (root / "etc/nginx/nginx.conf").read_text()
    assert "listen 80 default_server;" in config
    config = config.replace("listen 80", f"listen 127.0.0.1:{port}")
    config = config.replace("/tmp/", f"{tmp_path}/").replace("/var/www", f"{root}/var/www")
    config = config.replace("user nobody nogroup;", "")
    (tmp_path / "nginx.conf").write_text(config)
    (loader,) = root.glob("lib*/ld-linux*")
    own = [str(loader), "--library-path", str(root / "usr/lib" / host_arch().multiarch)]
    program = str(root / "usr/sbin/nginx")
    listed = subprocess.run([*own, "--list", program], capture_output=True, text=True, check=True)
    # The host's are not to help out.
    assert [path for path in re.findall(r"=> (\S+)", listed.stdout) if str(root) not in path] == []
    command = [
        *own, program,
        "-e", "stderr", "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off; master_process off;",
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env={})
    try:
        page = answer(f"http://127.0.0.1:{port}/", server)
    finally:
        server.terminate()
        log, _ = server.communicate(timeout=10)
    assert b"kubesolo nginx answers" in page
    assert b'"GET / HTTP/1.1" 200' in log


def answer(url: str, server: subprocess.Popen[bytes]) -> bytes:
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                body: bytes = response.read()
                return body
        except OSError:
            assert server.poll() is None, "nginx ended"
            assert time.monotonic() < end
            time.sleep(0.05)
