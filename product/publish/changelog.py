"""The part of CHANGELOG.md that one version has: the notes of its release.

The format is that of Keep a Changelog: ``## [1.2.3]`` or ``## [1.2.3] - 2026-12-01``.
"""

from __future__ import annotations

import re
from pathlib import Path

from product.publish.errors import ChangelogError
from product.version import parse_version

UNRELEASED = "Unreleased"
_HEAD = re.compile(r"^## +\[?(?P<name>[^\]\s]+)\]?(?:[ \t].*)?$", re.MULTILINE)
# Where links are defined, at the end of the file.
_LINKS = re.compile(r"^\[[^\]]+\]:\s+\S+\s*$", re.MULTILINE)


def release_notes(path: Path, version: str) -> str:
    """The section of ``version``, without its head.

    A version before a release, as 1.2.3-rc.1, may do with the section of 1.2.3 or with
    ``Unreleased``. Raises ChangelogError for a section that is missing or has nothing in it, and
    for two of one version.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ChangelogError(f"the changelog {path} cannot be read: {error}") from None
    sections = _sections(text, path)
    names = [version.removeprefix("v")]
    if "-" in version and not parse_version(version).before[0]:
        names += [names[0].partition("-")[0], UNRELEASED]
    for name in names:
        if name in sections:
            if not _says_something(sections[name]):
                raise ChangelogError(
                    f"the section [{name}] of {path} has no entries",
                    hint="say what a user gets with this release",
                )
            return sections[name].strip() + "\n"
    raise ChangelogError(
        f"{path} has no section [{names[0]}]",
        hint=f"give what stands under [{UNRELEASED}] the head ## [{names[0]}] - YYYY-MM-DD",
    )


def _sections(text: str, path: Path) -> dict[str, str]:
    heads = list(_HEAD.finditer(text))
    found: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        name = head["name"]
        if name in found:
            raise ChangelogError(f"{path} has two sections [{name}]", hint="join them")
        end = following.start() if following else len(text)
        found[name] = _LINKS.sub("", text[head.end() : end])
    return found


def _says_something(section: str) -> bool:
    lines = (line.strip() for line in section.splitlines())
    return any(line and not line.startswith("#") for line in lines)
