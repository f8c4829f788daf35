"""Markdown pages as what is checked of them: fenced blocks, spans of code, links and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Written by other programs from what ran; their commands are those of the pages that explain them.
GENERATED = frozenset({"docs/conformance.md", "docs/mutations.md"})
# They say what was decided or tried on a day, and are not kept up to date.
_DATED = ("docs/decisions/", "docs/experiments/")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; ``info`` is what stands behind the fence, ``line`` that of its first line."""

    page: str
    line: int
    info: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """Code within a sentence or a table."""

    page: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link or the source of a picture, as the page writes it."""

    page: str
    line: int
    target: str
    picture: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One page; ``name`` is its path from the root of the checkout."""

    name: str
    blocks: tuple[Block, ...]
    spans: tuple[Span, ...]
    links: tuple[Link, ...]
    anchors: frozenset[str]


def read_page(path: Path, root: Path = ROOT) -> Page:
    """What is checked of the page at ``path``."""
    return parse_page(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))


def parse_page(name: str, text: str) -> Page:
    """What is checked of a page with this text."""
    blocks: list[Block] = []
    spans: list[Span] = []
    links: list[Link] = []
    anchors: list[str] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    line, heading = 1, False
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        if token.type == "heading_open":
            heading = True
        elif token.type == "fence":
            blocks.append(Block(name, line + 1, token.info.strip(), token.content))
        elif token.type == "inline":
            if heading:
                anchors.append(_slug(_plain(token)))
                heading = False
            for child in token.children or ():
                if child.type == "code_inline":
                    spans.append(Span(name, line, child.content))
                elif child.type == "link_open":
                    links.append(Link(name, line, str(child.attrGet("href"))))
                elif child.type == "image":
                    links.append(Link(name, line, str(child.attrGet("src")), picture=True))
    return Page(name, tuple(blocks), tuple(spans), tuple(links), frozenset(anchors))


@cache
def every_page() -> tuple[Page, ...]:
    """All pages for users, from README to the last experiment."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return tuple(read_page(path) for path in [*top, *sorted(DOCS.rglob("*.md"))])


def kept_pages() -> Iterator[Page]:
    """Those whose commands must work today."""
    for page in every_page():
        if page.name in GENERATED or page.name.startswith(_DATED) or page.name == "CHANGELOG.md":
            continue
        yield page


def _plain(token: Token) -> str:
    return "".join(child.content for child in token.children or ())


def _slug(heading: str) -> str:
    """A heading's anchor, as forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
