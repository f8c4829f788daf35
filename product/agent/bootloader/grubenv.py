"""GRUB's environment block as bytes.

Format: the line ``# GRUB Environment Block``, then ``name=value`` lines in which a backslash
escapes a backslash or a newline, then ``#`` up to 1024 bytes; a line that begins with ``#`` is a
comment. A carriage return or another size makes GRUB's own save fail.
"""

from __future__ import annotations

BLOCK_SIZE = 1024
HEADER = b"# GRUB Environment Block\n"
# A disk writes a sector of 512 bytes whole or not at all; what must change together lies in one.
ATOMIC_SIZE = 512


def parse_block(data: bytes) -> dict[str, str]:
    """The block's variables in their order. Raises ValueError that names what is wrong."""
    if not data:
        raise ValueError("it is empty")
    if b"\r" in data:
        raise ValueError("it holds carriage returns")
    if len(data) != BLOCK_SIZE:
        raise ValueError(f"it is {len(data)} bytes, not {BLOCK_SIZE}")
    if not data.startswith(HEADER):
        raise ValueError("it lacks the header")
    variables: dict[str, str] = {}
    position = len(HEADER)
    while position < BLOCK_SIZE:
        if data[position : position + 1] == b"#":
            end = data.find(b"\n", position)
            if end < 0 and data[position:].strip(b"#"):
                raise ValueError("its padding holds other bytes")
            if end < 0:
                break
            # grub-editenv puts a comment under the header.
            position = end + 1
            continue
        line, position = _line(data, position)
        name, equals, value = line.partition(b"=")
        try:
            text, content = name.decode("ascii"), value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it holds bytes that are not text") from None
        if not equals or not text.isprintable() or not text or " " in text:
            raise ValueError(f"its line {line[:40]!r} is not name=value")
        variables[text] = content
    return variables


def _line(data: bytes, position: int) -> tuple[bytes, int]:
    line = bytearray()
    while position < len(data):
        byte = data[position]
        if byte == 0x5C and position + 1 < len(data):
            line.append(data[position + 1])
            position += 2
            continue
        position += 1
        if byte == 0x0A:
            return bytes(line), position
        line.append(byte)
    raise ValueError("its last line has no end")


def format_block(first: dict[str, str], others: dict[str, str]) -> bytes:
    """The block with ``first`` ahead, all of it within the first 512 bytes, then ``others``.

    Others that do not fit are left out from the end: what decides the boot comes before them.
    Raises ValueError where ``first`` does not fit.
    """
    block = HEADER + b"".join(_encode(name, value) for name, value in first.items())
    if len(block) > ATOMIC_SIZE:
        raise ValueError(f"the boot variables take {len(block)} bytes, more than {ATOMIC_SIZE}")
    for name, value in others.items():
        line = _encode(name, value)
        if name not in first and len(block) + len(line) <= BLOCK_SIZE:
            block += line
    return block.ljust(BLOCK_SIZE, b"#")


def _encode(name: str, value: str) -> bytes:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\\n")
    return f"{name}={escaped}\n".encode()
