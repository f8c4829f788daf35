"""Errors of the update agent.

``code`` is a stable name for programs: it begins ``last_error`` in the state file and appears in
JSON output. The message is for people and may change.
"""

from __future__ import annotations

from product.errors import KubesoloError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_AVAILABLE = 10
EXIT_REFUSED = 11
EXIT_BUSY = 12


class AgentError(KubesoloError):
    """Something that kept the agent from doing what it was asked to."""

    code = "failed"
    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        if code is not None:
            self.code = code


class ConfigError(AgentError):
    """A value in update.conf, or a flag, that cannot be used."""

    code = "bad-configuration"


class UsageError(AgentError):
    """Flags that do not go together."""

    code = "usage"
    exit_code = EXIT_USAGE


class RefusedError(AgentError):
    """A gate refused; ``code`` is the gate's name."""

    exit_code = EXIT_REFUSED


class BusyError(AgentError):
    """Another agent is at work."""

    code = "busy"
    exit_code = EXIT_BUSY


def as_state_error(error: AgentError) -> str:
    """``error`` the way ``last_error`` records it: ``<code>: <message>``."""
    return f"{error.code}: {error.message}"
