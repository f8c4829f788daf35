"""What ``pip install .`` gives: commands, their recipes, the harness as a plugin of pytest.

Nothing of it is at the top but ``kubesolo_os``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from product.image.build import Builder
from product.image.cache import default_root, tree_digest
from product.image.tools import host_arch

CHECKOUT = Path(__file__).parents[2]
COMMANDS = ("kubesolo-config", "kubesolo-image", "kubesolo-release", "kubesolo-update")
NOT_INSTALLED = ("pytest", "pexpect", "qemu", "nox", "mypy", "product", "harness", "scenarios")
SECONDS = 300


class Environment:
    """A fresh virtual environment that knows nothing of the checkout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = folder / "environment" / "bin"
        self._run(sys.executable, "-m", "venv", str(self._programs.parent))

    def run(self, program: str, *arguments: str) -> str:
        """What one of its programs prints."""
        return self._run(str(self._programs / program), *arguments)

    def _run(self, *command: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            command, cwd=self._folder, env=environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def copied(tmp_path: Path) -> Path:
    """The checkout without what was made in it."""
    source = tmp_path / "checkout"
    ignore = shutil.ignore_patterns(".git", "build", "out", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(CHECKOUT, source, symlinks=True, ignore=ignore)
    return source


# Every module of the harness but its __main__, which runs, and the one that needs labgrid.
IMPORT_ALL = """
import importlib, pkgutil, kubesolo_os.harness as harness
names = [m.name for m in pkgutil.walk_packages(harness.__path__, harness.__name__ + ".")]
for name in names:
    if not name.endswith(("__main__", ".lab.grid")):
        importlib.import_module(name)
import sys
own = sorted(n for n in sys.modules if n.split(".")[0] in ("harness", "product", "scenarios"))
print(len(names) > 50, own)
"""


def test_the_harness_is_installed_as_a_plugin_that_leaves_other_tests_alone(tmp_path: Path) -> None:
    source = copied(tmp_path)
    environment = Environment(tmp_path)
    environment.run("python", "-m", "pip", "install", f"{source}[harness]")
    shutil.rmtree(source)

    assert environment.run("python", "-c", IMPORT_ALL) == "True []\n"
    assert "probe" in environment.run("python", "-m", "kubesolo_os.harness", "--help")

    # Somebody else's project: no scenario, fixtures and markers of its own, an order of its own.
    (tmp_path / "test_theirs.py").write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def node(): return 'theirs'\n"
        "@pytest.mark.parametrize('arch', ['z80'])\n"
        "def test_b(node, arch): assert (node, arch) == ('theirs', 'z80')\n"
        "@pytest.mark.machine(cpus=4)\n"
        "@pytest.mark.needs('floppy')\n"
        "def test_a(): pass\n"
    )
    printed = environment.run("pytest", "-v", "-p", "no:cacheprovider", "test_theirs.py")
    assert "2 passed" in printed
    assert printed.index("test_b[z80]") < printed.index("test_a")
    assert "scenarios" not in printed
    assert not (tmp_path / "out").exists()
    assert "--artefacts" in environment.run("pytest", "--help")


def test_pip_install_gives_the_commands_and_the_recipes_and_nothing_at_the_top(
    tmp_path: Path,
) -> None:
    source = copied(tmp_path)
    environment = Environment(tmp_path)
    environment.run("python", "-m", "pip", "install", str(source))
    shutil.rmtree(source)

    for name in COMMANDS:
        assert name in environment.run(name, "--help")

    code = "from kubesolo_os.product.image.tools import IMAGES; print(IMAGES)"
    images = Path(environment.run("python", "-c", code).strip())
    assert images.is_relative_to(default_root())
    assert tree_digest(images) == tree_digest(CHECKOUT / "images")

    # From the same inputs: what the checkout has built is found in the cache.
    built = Builder(host_arch(), recipe=CHECKOUT / "images/appliance.toml").slot("0.1.0").folder
    assert environment.run("kubesolo-image", "slot", "--recipe", "appliance") == f"{built}\n"

    code = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert environment.run("python", "-c", code, *NOT_INSTALLED) == "[]\n"


def test_the_set_for_developers_has_what_the_harness_needs() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras["harness"]) < set(extras["dev"])
    locked = "\n" + (CHECKOUT / "requirements/dev.txt").read_text()
    for line in [*project["dependencies"], *extras["dev"]]:
        name = re.split(r"[=>]", line)[0].replace(".", "-")
        assert f"\n{name.lower()}==" in locked
