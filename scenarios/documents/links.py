"""Follow every link of every page that leads to a file of the checkout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from scenarios.documents.pages import ROOT, Link, Page

_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def broken(pages: Iterable[Page], root: Path = ROOT) -> Iterator[str]:
    """One sentence for each link that leads nowhere: ``PAGE:LINE: ...``."""
    named = {page.name: page for page in pages}
    for page in named.values():
        for link in page.links:
            if fault := _fault(link, named, root):
                yield f"{link.page}:{link.line}: {fault}"


def _fault(link: Link, pages: Mapping[str, Page], root: Path) -> str | None:
    if _ELSEWHERE.match(link.target):
        # Asking other servers would make a check fail for what is not ours.
        return None
    what = "picture" if link.picture else "link"
    place, _, anchor = link.target.partition("#")
    name = link.page
    if place:
        found = _resolved(PurePosixPath(link.page).parent, unquote(place))
        if found is None:
            return f"the {what} {link.target} leads out of the checkout"
        name = found
        if not (root / name).exists():
            return f"the {what} {link.target} leads to {name}, which is not there"
    if anchor and name in pages and anchor not in pages[name].anchors:
        return f"the link {link.target} names an anchor that {name} does not have"
    return None


def _resolved(folder: PurePosixPath, place: str) -> str | None:
    parts: list[str] = []
    for part in (folder / place).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts) or "."
