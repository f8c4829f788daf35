"""What git knows of the checkout that a release is made from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from product.publish.errors import CheckoutError

SCENARIOS = "scenarios"


class Checkout(NamedTuple):
    """A checkout at ``commit`` (40 or 64 hex digits).

    ``tags`` are those of the commit that begin with v; ``changed`` are the files that differ from
    it or are not in it, as git's status prints them; ``scenario_files`` hold scenarios.
    """

    root: Path
    commit: str
    tags: tuple[str, ...]
    changed: tuple[str, ...]
    scenario_files: tuple[str, ...]

    @classmethod
    def read(cls, root: Path) -> Checkout:
        """Ask git. Raises CheckoutError where it does not know the folder."""
        commit = _git(root, "rev-parse", "HEAD").strip()
        tags = _git(root, "tag", "--points-at", "HEAD", "--list", "v*").split()
        changed = _git(root, "status", "--porcelain", "--untracked-files=normal").splitlines()
        # Status 1: nothing matches.
        found = _git(
            root, "grep", "-l", "-F", "@scenario(", "HEAD", "--", f"{SCENARIOS}/**/test_*.py",
            allowed=(0, 1),
        )  # fmt: skip
        files = sorted(line.partition(":")[2] for line in found.splitlines())
        own = tuple(file for file in files if "/tests/" not in file)
        return cls(root, commit, tuple(sorted(tags)), tuple(changed), own)


def _git(root: Path, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CheckoutError(
            f"git cannot be run: {error.strerror}", hint="install git: a release names its commit"
        ) from None
    if done.returncode not in allowed:
        said = done.stderr.strip().splitlines()
        raise CheckoutError(
            f"git cannot read the checkout {root}: {said[-1] if said else done.returncode}",
            hint="a release is made in a clone of the project's repository",
        )
    return done.stdout
