"""``kubesolo-config`` on the node says what it says on a host."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "fixtures/cloud-config"
EXAMPLES = ROOT / "docs/examples"
KINDS = ("user-data", "network-config", "meta-data")
# Some hundred files, on an emulated node.
SECONDS = 120.0


def on_the_host(*words: str) -> tuple[int, str, str]:
    """Exit code, and what is printed on stdout and stderr."""
    command = [sys.executable, "-m", "product.cloudinit", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@scenario()
def test_the_node_judges_files_as_a_host_does(node: Node) -> None:
    node.at(State.READY)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for folder in (PUBLISHED, EXAMPLES):
            tar.add(folder, arcname=str(folder.relative_to(ROOT)))
    node.put(archive.getvalue(), "/run/seeds.tar.gz")
    node.succeed("mkdir /run/seeds && tar xzf /run/seeds.tar.gz -C /run/seeds")

    def on_the_node(*words: str) -> tuple[int, str, str]:
        done = node.run(
            ["/bin/sh", "-c", 'cd /run/seeds && exec kubesolo-config "$@"', "sh", *words],
            seconds=SECONDS,
        )
        return done.exit, done.stdout.decode(), done.stderr.decode()

    for kind in KINDS:
        files = sorted(str(path.relative_to(ROOT)) for path in (PUBLISHED / kind).iterdir())
        words = ("validate", "--json", "--kind", kind, *files)
        assert on_the_node(*words) == on_the_host(*words)
    for path in sorted(EXAMPLES.glob("*.yaml")):
        words = ("validate", str(path.relative_to(ROOT)))
        assert on_the_node(*words) == on_the_host(*words)
    words = ("render", "--show-secrets", str((EXAMPLES / "full.yaml").relative_to(ROOT)))
    rendered = on_the_node(*words)
    assert rendered == on_the_host(*words)
    assert rendered[0] == 0
    code, shown, _ = on_the_node("show")
    assert (code, shown.splitlines()[:2]) == (0, ["this boot:", "  outcome      none"])
