"""The commands of docs/media.md, with the small image in place of the one that ships."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.servers.registry import Registry
from product.image.cache import Cache, file_sha256
from product.image.tools import IMAGES, HostTools

if TYPE_CHECKING:
    from conftest import Images

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(
    r"^```sh media\n(.*?)^```$", (ROOT / "docs/media.md").read_text(), re.MULTILINE | re.DOTALL
)
# Another host builds it, too; the document names one.
ARCH = "x86_64"


def test_every_command_runs(tmp_path: Path, images: Images, host_tools: HostTools) -> None:
    assert len(BLOCKS) == 4
    skopeo = HostTools.prepare(Cache(), IMAGES / "test-tools.toml")
    (tmp_path / "shop-12").mkdir()
    (tmp_path / "user-data").write_text("#cloud-config\nhostname: shop-12\n")
    shell = f"""set -eu
kubesolo-image() {{
    case $1 in
        media) set -- "$@" --recipe appliance --arch {ARCH} ;;
        from-oci) set -- "$@" --plain-http ;;
    esac
    PYTHONPATH={ROOT} "{sys.executable}" -m product.image "$@"
}}
qemu-img() {{ {shlex.join(host_tools.argv("qemu-img"))} "$@"; }}
skopeo() {{
    case $1 in
        copy) set -- "$@" --dest-tls-verify=false ;;
        inspect) set -- "$@" --tls-verify=false ;;
    esac
    {shlex.join(skopeo.argv("skopeo"))} --insecure-policy "$@"
}}
"""
    said = []
    with Registry(runs=tmp_path / "runs") as registry:
        for block in BLOCKS:
            script = block.replace("registry.example.com", registry.host)
            done = subprocess.run(
                ["bash", "-c", shell + script], cwd=tmp_path, capture_output=True, text=True,
                timeout=900, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
                                  "KUBESOLO_CACHE": str(Cache().root)},
            )  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
            said.append(done.stdout)
    image = images.builder(ARCH).image("0.1.0")
    assert said[0].count(": OK\n") == 5
    assert "virtual size: 16 GiB" in said[1]
    private = tmp_path / f"shop-12/kubesolo-os-0.1.0-{ARCH}.qcow2"
    assert private.stat().st_mode & 0o777 == 0o600
    raw = tmp_path / "raw.img"
    host_tools.run("qemu-img", "convert", "-O", "raw", private, raw)
    place = f"{raw}@@{1 << 20}"
    found = host_tools.run("mtype", "-i", place, "::kubesolo/user-data")
    assert b"hostname: shop-12" in found
    assert (tmp_path / "node.img").stat().st_size == image.disk.stat().st_size
    assert json.loads(said[3][said[3].index("{") : said[3].rindex("}") + 1])["Os"] == "linux"
    assert file_sha256(tmp_path / "disk.img") == image.sha256
    assert said[3].split()[-2] == image.sha256
