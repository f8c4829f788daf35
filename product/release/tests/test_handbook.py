"""Every command of docs/publishing.md, in its order, and nodes that follow all of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.sources.configured import configured_source
from product.agent.tests import support_http as http
from product.agent.trust.client import find_release
from product.release.tests.slotfiles import make_slot

ROOT = Path(__file__).parents[3]
HANDBOOK = (ROOT / "docs/publishing.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", HANDBOOK, re.MULTILINE | re.DOTALL)
SHELL = f"""set -eu
umask 077
kubesolo-release() {{ PYTHONPATH={ROOT} "{sys.executable}" -m product.release "$@"; }}
"""
# What nodes get after each block, of the channels stable and beta.
SERVED = [
    (None, None), (None, "0.2.0"), (None, "0.2.0"), ("0.2.0", "0.2.0"), ("0.2.0", "0.2.0"),
    ("0.2.0", "0.2.0"), ("0.2.0", "0.2.0"), ("0.2.0", "0.2.0"), ("0.2.0", "0.2.0"),
    ("0.2.0", "0.2.0"),
]  # fmt: skip


class Nodes:
    """A node that looks after every step, and one that looks for the first time."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def finds(self, channel: str, store: Path) -> str | None:
        from product.agent.errors import AgentError

        config = Config(server=self.url, pubkey=str(self.folder / "release.pem"), channel=channel)
        try:
            with configured_source(config) as source:
                return find_release(
                    source, config, architecture="x86_64", metadata_dir=str(store)
                ).version
        except AgentError as error:
            if error.code != "no-release":
                raise
            return None


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    for version in ("0.2.0", "0.3.0"):
        make_slot(tmp_path / f"slot-{version}", version)
    with http.serve(tmp_path / "repository") as server:
        yield Nodes(tmp_path, server.url)


def test_every_command_runs_and_nodes_follow(nodes: Nodes) -> None:
    assert len(BLOCKS) == len(SERVED)
    output = ""
    for number, (block, served) in enumerate(zip(BLOCKS, SERVED, strict=True)):
        done = subprocess.run(
            ["bash", "-c", SHELL + block],
            cwd=nodes.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        assert "warning" not in done.stderr
        output += done.stdout + done.stderr
        for store in (nodes.folder / "node", nodes.folder / f"new-{number}"):
            found = (nodes.finds("stable", store), nodes.finds("beta", store))
            assert found == served, block
    assert "stable/x86_64/manifest.json: serves 0.2.0, not 0.3.0" in output
    assert "lacks 0 signatures of the former root's keys and 0 of its own" in output
    assert "(restored from a backup?)" in output
    assert output.count("is served\n") == 3
