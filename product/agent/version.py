"""Release versions: three numbers, an optional ``v`` before, an ignored pre-release after."""

from __future__ import annotations

from product.agent.errors import AgentError


class VersionError(AgentError):
    """The text is not a version of three components."""

    code = "bad-version"


def parse_version(text: str) -> tuple[int, int, int]:
    """``v1.2.3-rc.1+build`` is (1, 2, 3). Raises VersionError."""
    core = text.strip().removeprefix("v").partition("+")[0].partition("-")[0]
    parts = core.split(".")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) <= 9 for p in parts):
        raise VersionError(f"{text!r} is not a version", hint="versions look like 1.2.3 or v1.2.3")
    major, minor, patch = (int(part) for part in parts)
    return major, minor, patch
