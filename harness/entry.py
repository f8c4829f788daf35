"""The command ``harness``, which ``pip install`` puts on PATH; pyproject.toml names it."""

from __future__ import annotations

import sys


def main() -> int:
    """The command line, or what is missing for it: the harness is an extra of the wheel."""
    try:
        from harness.cli.main import main as run
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"error: the harness needs the module {error.name}, which is not installed\n"
            "hint: install the project with its extra: pip install '.[harness]'\n"
        )
        return 1
    return run()
