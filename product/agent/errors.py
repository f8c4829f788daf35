"""Errors of the update agent.

``code`` is a stable name for programs: it begins ``last_error`` in the state file and appears in
JSON output. The message is for people and may change.
"""

from __future__ import annotations

from product.errors import KubesoloError

# A user and a password before a URL's host.
_LOGIN = r"//[^/?#\s]{1,2048}@"

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_AVAILABLE = 10
EXIT_REFUSED = 11
EXIT_BUSY = 12


def has_login(text: str) -> bool:
    """Whether a URL in ``text`` names a user, a token or a password."""
    return hide_logins(text) != text


def hide_logins(text: str) -> str:
    """``text`` without the logins of its URLs."""
    if "@" not in text:
        return text
    import re

    return re.sub(_LOGIN, "//***@", text)


class AgentError(KubesoloError):
    """Something that kept the agent from doing what it was asked to.

    Message and hint go to the history, the state and pods: a URL's login never stands in them.
    """

    code = "failed"
    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(hide_logins(message), hint=None if hint is None else hide_logins(hint))
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
