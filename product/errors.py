"""The root of every error that a user may meet."""

from __future__ import annotations


class KubesoloError(Exception):
    """Something a user can understand and act on.

    ``message`` says what was tried and what was found, with the path or value; ``hint`` says what
    to do. Command lines print both and exit with ``exit_code``; they never show a traceback for it.
    ``told``: the command's result is printed already.
    """

    exit_code = 1
    told = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
