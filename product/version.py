"""Versions of releases: Semantic Versioning 2, the one grammar of builder, publisher and node.

``1.2.3``, ``1.2.3-rc.1``, ``1.2.3+build.5``; a leading ``v`` is accepted and means nothing. Digits
are ASCII. A version has at most 64 characters and each of its three numbers at most nine digits,
which is what every agent in the field reads. ``1.2.3-rc.1`` is older than ``1.2.3``; what stands
behind ``+`` orders nothing.

``dev`` is what a developer's own image may be called. It is no release: nobody publishes it, and a
node that runs it takes any release.

It is on the node's boot path, so it uses the standard library alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from product.errors import KubesoloError

DEVELOPMENT = "dev"
MAX_CHARACTERS = 64
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"v?(?P<core>{_NUMBER}\.{_NUMBER}\.{_NUMBER})"
    rf"(?:-(?P<before>{_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_HINT = (
    "versions look like 1.2.3 or 1.2.3-rc.1: three numbers of at most nine digits without leading "
    f"zeros, at most {MAX_CHARACTERS} characters in all (semver.org)"
)


class VersionError(KubesoloError):
    """The text is not a version."""

    code = "bad-version"


class Version(NamedTuple):
    """What orders a release; compare with ``<`` and ``==``.

    ``core`` is major, minor and patch; ``before`` ranks its pre-release, and every pre-release
    before the release itself.
    """

    core: tuple[int, int, int]
    before: tuple[int, tuple[tuple[int, int, str], ...]]


# Behind every pre-release of the same three numbers.
_RELEASE: tuple[int, tuple[tuple[int, int, str], ...]] = (1, ())

_OLDEST = Version((-1, -1, -1), _RELEASE)


def parse_version(text: str) -> Version:
    """``v1.2.3-rc.1+build`` as what orders it. Raises VersionError."""
    match = _VERSION.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None:
        raise VersionError(f"{text[: MAX_CHARACTERS + 1]!r} is not a version", hint=_HINT)
    major, minor, patch = (int(part) for part in match["core"].split("."))
    return Version((major, minor, patch), _before(match["before"]))


def rank(own: str) -> Version:
    """What orders the version of a system that runs: one that is no release is older than all."""
    try:
        return parse_version(own)
    except VersionError:
        return _OLDEST


def is_version(text: str) -> bool:
    """Whether ``text`` can be the version of a release."""
    try:
        parse_version(text)
    except VersionError:
        return False
    return True


def _before(text: str | None) -> tuple[int, tuple[tuple[int, int, str], ...]]:
    """Numbers go before words and are ordered as numbers; words as ASCII; fewer before more."""
    if text is None:
        return _RELEASE
    return 0, tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in text.split(".")
    )
