"""The header WWW-Authenticate: which logins a server takes (RFC 9110, section 11.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

# More than any server sends, and little enough to look at.
_LONGEST = 8192
_MOST = 16
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A parameter, whose value is a token or stands in quotes.
_PARAMETER = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]*))"
)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_BETWEEN = re.compile(r"[\s,]*")


class Challenge(NamedTuple):
    """``scheme`` and the names of ``parameters`` are in small letters."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of all headers; what makes no sense is passed over."""
    found: list[Challenge] = []
    for header in headers:
        _parse(header[:_LONGEST], found)
    return found[:_MOST]


def _parse(text: str, found: list[Challenge]) -> None:
    position = _BETWEEN.match(text).end()  # type: ignore[union-attr]
    current: Challenge | None = None
    while position < len(text) and len(found) <= _MOST:
        parameter = _PARAMETER.match(text, position) if current is not None else None
        if parameter and current is not None:
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            current.parameters.setdefault(name.lower(), value)
            position = parameter.end()
        elif scheme := _TOKEN.match(text, position):
            current = Challenge(scheme[0].lower(), {})
            found.append(current)
            position = scheme.end()
            blanks = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
            # What some schemes have in place of parameters.
            if blanks > position and (token68 := _TOKEN68.match(text, blanks)):
                ahead = _PARAMETER.match(text, blanks)
                if token68[0].endswith("=") or (ahead is None and "," not in text[position:blanks]):
                    position = token68.end()
        else:
            position += 1
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
