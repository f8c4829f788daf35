"""Version and channel stand in one place."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from product.agent.config import Config
from product.current import CHANNEL, VERSION
from product.version import is_version

ROOT = Path(__file__).parents[2]


def test_nothing_else_says_the_version() -> None:
    literal = re.compile(rf"""["']v?{re.escape(VERSION)}["']""")
    found = [
        str(path.relative_to(ROOT))
        for folder in ("product", "harness")
        for path in (ROOT / folder).rglob("*.py")
        if "tests" not in path.parts and literal.search(path.read_text())
    ]
    assert found == ["product/current.py"]
    for name in ("noxfile.py", "setup.py", "pyproject.toml"):
        assert not literal.search((ROOT / name).read_text()), name
    assert is_version(VERSION)


def test_the_installed_project_has_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "product.current.VERSION"
    }
    # What an installation says is what setup.py makes of it.
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == VERSION


def test_nodes_follow_the_channel_that_releases_go_to() -> None:
    assert Config().channel == CHANNEL
    literal = re.compile(r"""= ["']stable["']""")
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "product").rglob("*.py")
        if "tests" not in path.parts and literal.search(path.read_text())
    ]
    # The agent ships alone; the strict channel stays strict whatever the default becomes.
    assert sorted(found) == [
        "product/agent/config.py", "product/current.py", "product/publish/request.py",
    ]  # fmt: skip
