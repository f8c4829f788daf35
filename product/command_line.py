"""What the command lines of build hosts share: every expected error is one line and a hint."""

from __future__ import annotations

import sys
from collections.abc import Callable

from product.errors import KubesoloError


def run(command: Callable[[], object]) -> int:
    """The exit status of ``command``; no traceback for a user's mistake."""
    try:
        command()
    except KubesoloError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except SystemExit as end:
        # A text is one that Python prints, and fails with.
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0
