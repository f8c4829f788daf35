"""What the command lines of scenarios share."""

from __future__ import annotations

import sys
from collections.abc import Callable

from harness.errors import HarnessError
from product.errors import KubesoloError

# What is told by its message and hint alone.
ERRORS = (KubesoloError, HarnessError)


def guarded(run: Callable[[], object], *, status: int | None = None) -> int:
    """Run a command line; an error of ours becomes its message, its hint and an exit status.

    That is the error's own, or ``status``. Never a traceback for it.
    """
    try:
        run()
    except ERRORS as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code if status is None else status
    return 0
