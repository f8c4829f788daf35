"""GRUB's environment block as bytes.

Format: the line ``# GRUB Environment Block``, ``name=value`` lines, then ``#`` up to 1024 bytes.
In a value a backslash escapes a byte; a line that begins with ``#`` is a comment.

A block is read as GRUB reads it (``load_env``), be it an odd one: of any size, with any byte in a
name or a value, up to the first thing that is no variable. A name ends at the equals sign and
nowhere else, so a line without one is a part of the next variable's name. Both end at a zero byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

BLOCK_SIZE = 1024
HEADER = b"# GRUB Environment Block\n"
# A disk writes a sector of 512 bytes whole or not at all; what must change together lies in one.
ATOMIC_SIZE = 512


class Block(NamedTuple):
    """The variables in their order, a name perhaps more than once, and what is odd about it."""

    lines: tuple[tuple[bytes, bytes], ...]
    oddity: str | None

    @property
    def variables(self) -> dict[bytes, bytes]:
        """By name; the last line of a name counts."""
        return dict(self.lines)


def parse_block(data: bytes) -> Block:
    """What GRUB finds in ``data``. Raises ValueError where that is no block to it."""
    if not data:
        raise ValueError("it is empty")
    # GRUB compares sizes with the string's own, its final zero included.
    if not data.startswith(HEADER) or len(data) <= len(HEADER):
        raise ValueError("it lacks the header")
    lines: list[tuple[bytes, bytes]] = []
    position = len(HEADER)
    while position < len(data):
        if data[position : position + 1] == b"#":
            position = _line_end(data, position) + 1
            continue
        equals = data.find(b"=", position)
        end = len(data) if equals < 0 else _line_end(data, equals + 1)
        if end >= len(data):
            break
        name, value = data[position:equals], _unescape(data[equals + 1 : end])
        lines.append((_text(name), _text(value)))
        position = end + 1
    return Block(tuple(lines), _oddity(data, lines, complete=position >= len(data)))


def _oddity(data: bytes, lines: list[tuple[bytes, bytes]], *, complete: bool) -> str | None:
    if any(b"\n" in name for name, _ in lines):
        return "it has a line without ="
    if not data.rstrip(b"#").endswith(b"\n"):
        # GRUB's own save refuses this.
        return "it is not padded with #"
    if not complete:
        return "its end is no variable"
    if len(data) != BLOCK_SIZE:
        return f"it is {len(data)} bytes, not {BLOCK_SIZE}"
    return None


def _line_end(data: bytes, position: int) -> int:
    """Where the line ends that ``position`` lies in, a newline behind a backslash being part of it;
    at the end of ``data`` or beyond if nowhere."""
    while position < len(data) and data[position] != 0x0A:
        position += 2 if data[position] == 0x5C else 1
    return position


def _unescape(value: bytes) -> bytes:
    plain = bytearray()
    escaped = False
    for byte in value:
        escaped = byte == 0x5C and not escaped
        if not escaped:
            plain.append(byte)
    return bytes(plain)


def _text(found: bytes) -> bytes:
    return found.partition(b"\0")[0]


def format_block(first: Mapping[str, str], others: Mapping[bytes, bytes]) -> bytes:
    """The block with ``first`` ahead, all of it within the first 512 bytes, then ``others``.

    Others that do not fit are left out from the end: what decides the boot comes before them; so
    is a name that a block cannot hold on one line. Raises ValueError where ``first`` does not fit.
    """
    ours = {name.encode(): value.encode() for name, value in first.items()}
    block = HEADER + b"".join(_encode(name, value) for name, value in ours.items())
    if len(block) > ATOMIC_SIZE:
        raise ValueError(f"the boot variables take {len(block)} bytes, more than {ATOMIC_SIZE}")
    for name, value in others.items():
        line = _encode(name, value)
        fits = len(block) + len(line) <= BLOCK_SIZE
        if name not in ours and b"\n" not in name and fits:
            block += line
    return block.ljust(BLOCK_SIZE, b"#")


def _encode(name: bytes, value: bytes) -> bytes:
    escaped = value.replace(b"\\", b"\\\\").replace(b"\n", b"\\\n")
    return b"%s=%s\n" % (name, escaped)
