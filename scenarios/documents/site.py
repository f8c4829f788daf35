"""Hooks of mkdocs: what a site needs that a forge does not. Runs in the site's own environment.

Links that lead out of ``docs/`` have no place in the site: they become their text. Names that
blocks have behind their language are left out: with them a block would be none to mkdocs. Decision
records and experiments enter the navigation by themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((?:\.\./)+(?P<path>[^)#]+)(?:#[^)]*)?\)")
_NAMED = re.compile(r"^( *```\w+) .+$", re.MULTILINE)
_DATED = {"Decisions": "decisions", "Experiments": "experiments"}


def on_config(config: Any) -> Any:
    """Append the dated pages to the navigation."""
    root = Path(config["docs_dir"])
    for title, folder in _DATED.items():
        pages = sorted(path.relative_to(root).as_posix() for path in (root / folder).glob("*.md"))
        config["nav"].append({title: pages})
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The page without links that lead out of the documents, and without names of blocks."""
    docs = Path(config["docs_dir"]).resolve()
    folder = (docs / page.file.src_uri).parent

    def kept(match: re.Match[str]) -> str:
        target = (
            folder / match.group(0).rpartition("(")[2].rstrip(")").partition("#")[0]
        ).resolve()
        return match.group(0) if target.is_relative_to(docs) else match.group(1)

    return _OUTSIDE.sub(kept, _NAMED.sub(r"\1", markdown))
