"""pytest with the harness's plugin, in the working directory's project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from harness.errors import HarnessError

_PLUGIN = "harness.pytest_plugin"  # by the name that it has here


def command(arguments: Sequence[str]) -> list[str]:
    """The command line that runs pytest; the plugin is loaded once, however it is installed."""
    installed = any(point.value == _PLUGIN for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", _PLUGIN]
    return [sys.executable, "-m", "pytest", *plugin, *arguments]


def named(arguments: Sequence[str]) -> bool:
    """Whether arguments of pytest name tests, as files, folders or node ids."""
    words = [word.partition("::")[0] for word in arguments if not word.startswith("-")]
    return any(Path(word).exists() for word in words)


def collect(arguments: Sequence[str], into: Path) -> None:
    """Write what the scenarios are into the file ``into``. Raises HarnessError."""
    words = ["--collect-only", "-q", "--no-header", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command([*words, "--harness-list", str(into), *arguments]),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # 5: nothing was collected, which is an answer.
    if done.returncode not in (0, 5) or not into.is_file():
        said = done.stderr.strip() or "\n".join(done.stdout.strip().splitlines()[-20:])
        raise HarnessError(
            f"pytest cannot collect the scenarios of {Path.cwd()}:\n{said}",
            hint="run it in the project's folder, where pytest's configuration lies",
        )


def commit(root: Path) -> str | None:
    """The commit of a project's folder, with ``-dirty`` where files differ from it; None outside
    git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None
