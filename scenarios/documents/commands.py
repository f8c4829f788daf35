"""The commands of the pages: lines of blocks that hold commands, and spans that name one of ours.

A block holds commands where its fence is named ``sh`` or not at all; every other block says what it
is. A line may join commands by pipes and ``&&``, set variables before them and send their output
to files; a backslash continues it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scenarios.documents.errors import DocumentError
from scenarios.documents.pages import Block, Page

OURS = ("kubesolo-update", "kubesolo-image", "kubesolo-release", "kubesolo-config", "./noxw")
# The demo's tables, which it writes itself (scenarios.demo.story).
_DEMO_TABLE = re.compile(r"what {2,}seconds ")
_OPERATORS = frozenset({"|", "||", "&&", "&", ";", "(", ")"})
_REDIRECTIONS = frozenset({">", ">>", "<"})
_VARIABLE = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a block, its continuations joined; ``info`` is the block's name."""

    page: str
    number: int
    info: str
    text: str

    @property
    def where(self) -> str:
        """``PAGE:LINE``."""
        return f"{self.page}:{self.number}"

    def commands(self) -> list[list[str]]:
        """The words of each command of the line; raises DocumentError."""
        return split(self.text, self.where)


def lines(page: Page) -> Iterator[Line]:
    """The lines of the page's blocks that hold commands."""
    for block in page.blocks:
        if holds_commands(block):
            yield from _joined(block)


def holds_commands(block: Block) -> bool:
    """Whether a block is what a reader would type."""
    return block.info.split(" ")[0] in ("", "sh", "shell", "bash") and not _DEMO_TABLE.match(
        block.text
    )


def named_commands(page: Page) -> Iterator[Line]:
    """Spans of code that name a command of ours with something behind it, without its ellipsis."""
    for span in page.spans:
        words = span.text.split()
        if len(words) > 1 and words[0] in OURS and " | " not in span.text:
            yield Line(page.name, span.line, "span", span.text.removesuffix("...").strip())


def split(text: str, where: str = "") -> list[list[str]]:
    """The commands of a shell line, without operators, variables, files and comments."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError as error:
        raise DocumentError(
            f"{where}: {text!r} is no command: {error}",
            hint="name the block for what it holds, as in ```text",
        ) from error
    return [command for command in _commands(words) if command]


def _commands(words: Iterable[str]) -> Iterator[list[str]]:
    command: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in _OPERATORS:
            yield command
            command = []
        elif word in _REDIRECTIONS:
            # The number of what is redirected stands apart.
            if command and command[-1] in ("1", "2"):
                command.pop()
            skip = True
        elif command or not _VARIABLE.match(word):
            command.append(word)
    yield command


def _joined(block: Block) -> Iterator[Line]:
    text, begun = "", 0
    for number, line in enumerate(block.text.splitlines(), block.line):
        begun = begun if text else number
        text += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        if text.strip() and not text.lstrip().startswith("#"):
            yield Line(block.page, begun, block.info, text.strip())
        text = ""
