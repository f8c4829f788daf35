"""What the tests of first-boot configuration share."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path

from product.cloudinit.errors import InvalidFileError, Problem

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs/examples"
FIXTURES = ROOT / "fixtures/cloud-config"
EDGE = "https://portainer.example.org|portainer.example.org:8000|SHA256:AbC|7"


def user_data(body: str) -> bytes:
    """A file whose second line is the first of ``body``."""
    return f"#cloud-config\n{body}".encode()


def problems_of(load: Callable[[bytes, str], object], data: bytes) -> tuple[Problem, ...]:
    """What a loader finds; nothing where the file is right."""
    try:
        load(data, "file")
    except InvalidFileError as error:
        return error.problems
    return ()


def edge_key(text: str = EDGE) -> str:
    return base64.b64encode(text.encode()).decode()


def ssh_key(kind: str, *fields: bytes) -> str:
    """A line of authorized_keys with these fields behind the type."""
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (kind.encode(), *fields))
    return f"{kind} {base64.b64encode(blob).decode()} admin@example.org"


ED25519 = ssh_key("ssh-ed25519", b"k" * 32)


def refusal(check: Callable[[object], object], value: object) -> str:
    """What a validator says of ``value``; ``accepted`` where it has nothing against it."""
    try:
        check(value)
    except ValueError as error:
        return str(error)
    return "accepted"
