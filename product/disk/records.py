"""Records of what was written: a name, and each file's SHA-256 by its path, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from product.disk.errors import DiskError


def format_record(key: str, name: str, files: Mapping[str, str]) -> bytes:
    """``{"files": {...}, KEY: name}``, the same bytes for the same content."""
    document = {key: name, "files": dict(files)}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def parse_record(data: bytes, key: str, origin: str, what: str) -> tuple[str, dict[str, str]]:
    """The name under ``key``, and the files.

    Raises DiskError for anything else; ``origin`` names the data, ``what`` the kind of record.
    """
    try:
        document = json.loads(data.decode())
        name, files = document[key], document["files"]
        if not isinstance(name, str) or not all(
            isinstance(text, str) for pair in files.items() for text in pair
        ):
            raise ValueError(f"its {key} or files are of another type")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DiskError(f"{origin} is no record of {what}: {error}") from None
    return name, dict(files)
