"""YAML as it was written: text scalars, each with its line and column.

A subset of YAML 1.2 is read: one document, no anchors, no tags, no key twice, keys that are text.
A plain scalar stays the text that stands there (``0755``, ``no``, ``22:00-02:00``), because the
meaning that YAML 1.1 gives such words is a surprise; ``null``, ``~`` and nothing are no value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from product.cloudinit.errors import InvalidFileError, Problem

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 10_000

Path = tuple[str | int, ...]
Value = dict[str, "Value"] | list["Value"] | str | None

# What a person can take in of a key, and of a message.
_STEP_MAX, _MESSAGE_MAX = 60, 400
_NULLS = ("", "~", "null", "Null", "NULL")
# What no text editor shows, and the line breaks that only YAML 1.1 counts as such.
_UNPRINTABLE = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u200a\u200c\u200d\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\ue000-\ufefe\uff00-\ufffd"
    "\U00010000-\U0010ffff]"
)
# Blanks that are none, where they would become part of a word.
_NO_BLANK = re.compile("^[ \t-]*([\xa0\u3000])|:([\xa0\u3000])", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{[^{}\n]{0,200}\}\}|\{%[^{}\n]{0,200}%\}")


class Place(NamedTuple):
    """Where a value stands: its key (or itself, in a list), itself, and whether it is a scalar."""

    key: tuple[int, int]
    value: tuple[int, int]
    scalar: bool


class Document:
    """One file: ``root`` is its tree of dicts, lists, texts and None."""

    def __init__(self, name: str, text: str, root: Value, places: dict[Path, Place]) -> None:
        self.name = name
        self.text = text
        self.root = root
        self._places = places

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """``message`` at the value of ``path``, or at the nearest thing above that is there."""
        there = path
        while there and there not in self._places:
            there = there[:-1]
        place = self._places.get(there, Place((1, 1), (1, 1), False))
        exact = there == path and place.scalar and not at_key
        line, column = place.value if exact else place.key
        return Problem(self.name, line, column, dotted(path), plain(message, _MESSAGE_MAX))


def dotted(path: Path) -> str:
    """``("write_files", 0, "path")`` is ``write_files[0].path``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + plain(step, _STEP_MAX)
    return text


def plain(text: str, longest: int) -> str:
    """``text`` on one line and without anything that a terminal obeys, cut to ``longest``."""
    if len(text) > longest:
        text = f"{text[: longest - 3]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def read_text(data: bytes, name: str) -> str:
    """``data`` as text with ``\\n`` between lines and no byte order mark.

    Raises InvalidFileError.
    """

    def refuse(message: str, line: int = 1, column: int = 1) -> InvalidFileError:
        return InvalidFileError([Problem(name, line, column, "", message)])

    if len(data) > MAX_BYTES:
        raise refuse(f"the file has {len(data)} bytes; at most {MAX_BYTES} are read")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[1:2] == b"\0" or data[:1] == b"\0":
        raise refuse("the file is UTF-16, or binary; save it as UTF-8")
    if data.startswith(b"\x1f\x8b"):
        raise refuse("the file is compressed by gzip; hand in the text itself")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _count(data[: error.start].decode("utf-8", "replace"))
        raise refuse(
            f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8", line, column
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := _UNPRINTABLE.search(text):
        line, column = _count(text[: found.start()])
        code = f"U+{ord(found.group()):04X}"
        raise refuse(f"character {code} is not printable; remove it", line, column)
    return text


def parse(data: bytes, name: str) -> Document:
    """Read a file. Raises InvalidFileError with the first thing that is no such YAML."""
    return parse_text(read_text(data, name), name)


def parse_text(text: str, name: str) -> Document:
    """Like parse, for what ``read_text`` gave."""
    import yaml

    if found := _NO_BLANK.search(text):
        start = found.start(1) if found.group(1) else found.start(2)
        code = f"U+{ord(text[start]):04X}"
        raise _refusal(name, _count(text[:start]), f"{code} looks like a blank and is none")
    builder = _Builder(name, text)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _explain(error, name, text) from None
    except yaml.YAMLError as error:
        raise _refusal(name, (1, 1), f"this is not YAML: {error}") from None
    except (ValueError, OverflowError):
        # PyYAML's scanner of escapes passes on what chr() thinks of \U99999999.
        raise _refusal(name, (1, 1), "an escape in double quotes names no character") from None
    return builder.document()


class _Open:
    """A mapping or list that is not yet closed; ``key`` waits for its value."""

    def __init__(self, path: Path, value: dict[str, Value] | list[Value]) -> None:
        self.path = path
        self.value = value
        self.key: str | None = None
        self.key_mark = (1, 1)


class _Builder:
    """The tree, from the events of PyYAML's parser."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._root: Value = None
        self._places: dict[Path, Place] = {}
        self._open: list[_Open] = []
        self._documents = 0
        self._nodes = 0

    def document(self) -> Document:
        return Document(self._name, self._text, self._root, self._places)

    def take(self, event: object) -> None:
        """Add one event. Raises InvalidFileError."""
        import yaml

        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._refuse(event, "a second document begins; the file holds one")
            if event.tags:
                raise self._refuse(event, "%TAG is not supported")
        elif isinstance(event, yaml.AliasEvent):
            raise self._refuse(event, "an alias (*) is not supported; write the value out")
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()

    def _node(self, event: yaml.NodeEvent) -> None:
        import yaml

        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refuse(event, f"there are more than {MAX_NODES} values")
        if event.anchor is not None:
            raise self._refuse(event, "an anchor (&) is not supported; write the value out")
        if getattr(event, "tag", None) is not None:
            raise self._refuse(event, "a tag (!) is not supported; put the text into quotes")
        if isinstance(event, yaml.ScalarEvent):
            if self._wants_key():
                self._key(event)
                return
            plain = event.implicit[0]
            value: Value = None if plain and event.value in _NULLS else self._whole(event)
            self._place(event, value, scalar=True)
            return
        if self._wants_key():
            message = "a key that is a list or mapping is not supported"
            if self._is_template(event):
                message = "an unfilled template {{...}} stands here; put the value in its place"
            raise self._refuse(event, message)
        container: dict[str, Value] | list[Value]
        container = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._place(event, container, scalar=False)
        if len(self._open) >= MAX_DEPTH:
            raise self._refuse(event, f"values are nested more than {MAX_DEPTH} deep")
        self._open.append(_Open(path, container))

    def _whole(self, event: yaml.ScalarEvent) -> str:
        """A scalar's text; halves of one character, as JSON escapes them, are put together."""
        text: str = event.value
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise self._refuse(event, "an escape in double quotes names no character") from None

    def _wants_key(self) -> bool:
        return (
            bool(self._open)
            and isinstance(self._open[-1].value, dict)
            and self._open[-1].key is None
        )

    def _key(self, event: yaml.ScalarEvent) -> None:
        top = self._open[-1]
        assert isinstance(top.value, dict)
        key = self._whole(event)
        if not key:
            raise self._refuse(event, "a key without a name")
        if key in top.value:
            first = self._places[(*top.path, key)].key[0]
            raise self._refuse(
                event,
                f"{key[:60]!r} is there twice; the first is in line {first}",
                (*top.path, key),
            )
        top.key, top.key_mark = key, _mark(event)

    def _place(self, event: object, value: Value, *, scalar: bool) -> Path:
        here = _mark(event)
        if not self._open:
            self._root = value
            self._places[()] = Place(here, here, scalar)
            return ()
        top = self._open[-1]
        path: Path
        if isinstance(top.value, list):
            path = (*top.path, len(top.value))
            top.value.append(value)
            self._places[path] = Place(here, here, scalar)
        else:
            assert top.key is not None
            path = (*top.path, top.key)
            top.value[top.key] = value
            # No value has no place of its own.
            self._places[path] = Place(top.key_mark, here, scalar and value is not None)
            top.key = None
        if isinstance(value, str) and not _is_content(path) and _TEMPLATE.search(value):
            raise self._refuse(
                event, "an unfilled template {{...}} stands here; put the value in its place", path
            )
        return path

    def _is_template(self, event: object) -> bool:
        """Whether a mapping as a key is ``{{word}}``, two braces in a row."""
        index: int = event.start_mark.index  # type: ignore[attr-defined]
        return self._text[max(index - 1, 0) : index + 1] == "{{"

    def _refuse(self, event: object, message: str, path: Path = ()) -> InvalidFileError:
        return _refusal(self._name, _mark(event), message, dotted(path))


def _is_content(path: Path) -> bool:
    """Text of the user's own, in which two braces mean nothing to us."""
    return path == ("final_message",) or (path[:1] == ("write_files",) and path[-1] == "content")


def _mark(event: object) -> tuple[int, int]:
    mark = event.start_mark  # type: ignore[attr-defined]
    return mark.line + 1, mark.column + 1


def _count(before: str) -> tuple[int, int]:
    """Line and column of what follows ``before``."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _refusal(name: str, at: tuple[int, int], message: str, key: str = "") -> InvalidFileError:
    return InvalidFileError([Problem(name, *at, key, plain(message, _MESSAGE_MAX))])


def _explain(error: object, name: str, text: str) -> InvalidFileError:
    """PyYAML's error in words that say what to do."""
    mark = error.problem_mark or error.context_mark  # type: ignore[attr-defined]
    problem = str(error.problem or error.context)  # type: ignore[attr-defined]
    context = str(error.context or "")  # type: ignore[attr-defined]
    at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.split("\n")
    line = lines[at[0] - 1] if at[0] <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        message, at = "a tab indents this line; use blanks", (at[0], indent.index("\t") + 1)
    elif "'\\t'" in problem:
        message = "a tab stands where a value begins; use a blank"
    elif _TEMPLATE.search(line):
        message = "an unfilled template {{...}} stands here; put the value in its place"
    elif "scanning an alias" in context or "scanning an anchor" in context:
        message = "a value that begins with * or & needs quotes"
    elif "that cannot start any token" in problem:
        message = f"{problem}; put the value into quotes"
    elif "mapping values are not allowed" in problem:
        message = (
            "a second ': ' in this line, or wrong indentation; put a value with ': ' in quotes"
        )
    elif "could not find expected ':'" in problem and error.context_mark:  # type: ignore[attr-defined]
        at = (error.context_mark.line + 1, error.context_mark.column + 1)  # type: ignore[attr-defined]
        message = "a line without ': '; indent it further if it belongs to the lines before"
    elif "scanning a quoted scalar" in context and "end of stream" in problem:
        at = (error.context_mark.line + 1, error.context_mark.column + 1)  # type: ignore[attr-defined]
        message = "the quote that begins here has no end"
    elif "'<document start>'" in problem:
        message = "this line does not go with those before it; is the file YAML?"
    elif "<block end>" in problem and line.lstrip().startswith(":"):
        message = "a key without a name"
    elif "<block end>" in problem:
        message = f"{problem}: the indentation does not fit the lines before"
    else:
        message = f"{context}: {problem}" if context else problem
    return _refusal(name, at, message)
