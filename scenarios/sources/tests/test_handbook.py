"""The commands of docs/publishing.md that need a registry or a stick."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from harness.servers.registry import Registry
from product.agent.config import Config
from product.agent.sources.oci import OciSource
from product.agent.trust.client import find_release
from product.image.cache import Cache
from scenarios.sources.tests.publisher import Publisher

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(
    r"^```sh registry\n(.*?)^```$",
    (ROOT / "docs/publishing.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


def test_every_command_runs_and_a_node_follows(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    assert len(BLOCKS) == 3
    (tmp_path / "media/KSOLOUPD").mkdir(parents=True)
    with Registry(runs=tmp_path / "runs") as registry:
        shell = f"""set -eu
kubesolo-release() {{
    case $1 in push) set -- "$@" --plain-http ;; esac
    PYTHONPATH={ROOT} "{sys.executable}" -m product.release "$@"
}}
"""
        for block in BLOCKS:
            script = block.replace("registry.example.com", registry.host)
            script = script.replace("/media/", f"{tmp_path}/media/")
            done = subprocess.run(
                ["bash", "-c", shell + script], cwd=tmp_path, capture_output=True, text=True,
                timeout=300, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
                                  "KUBESOLO_CACHE": str(Cache().root)},
            )  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        with OciSource(f"{registry.url}/kubesolo-os", "stable") as source:
            config = Config(pubkey=str(publisher.folder / "keys/root.pub.pem"))
            release = find_release(
                source, config, architecture="x86_64", metadata_dir=str(tmp_path / "store")
            )
        assert release.version == "0.2.0"
    assert (tmp_path / "stick.img").stat().st_size > 48 << 20
    assert (tmp_path / "media/KSOLOUPD/metadata/timestamp.json").is_file()
