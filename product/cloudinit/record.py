"""What was applied, kept on the data partition, and what this boot found, for ``status``.

``applied.json`` (0600): ``schema`` 1; ``instance_id``; ``source``; ``files``, each file of the seed
that was applied: its ``digest`` (SHA-256) and ``written``, path to SHA-256 of what was written;
``held``, digests of seeds that stood behind the one applied; ``seen``, the last look: ``release``,
``digest`` of all files of the seed, ``outcome``, ``problems``; ``stale``, path to digest of what
earlier instances wrote, to be removed once all of this one is applied.

``config.json``: ``source``, ``instance_id``, ``outcome``, ``problems`` (sentences), ``files`` (name
to the paths written). Outcomes: none, waiting (for a network), applied, unchanged, partly (a file
was refused), refused.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from product.agent.system.files import read_bounded, write_atomic

SCHEMA = 1
MAX_BYTES = 1 << 20


class Applied(NamedTuple):
    """One file of a seed: its digest, and what was written of it (path to digest)."""

    digest: str
    written: dict[str, str]


class Seen(NamedTuple):
    """The last look at a seed: the same look of the same release has the same outcome."""

    release: str
    digest: str
    outcome: str
    problems: tuple[str, ...]


class Record(NamedTuple):
    """See the module."""

    instance_id: str | None = None
    source: str | None = None
    files: dict[str, Applied] = {}  # noqa: RUF012 -- never changed in place
    held: tuple[str, ...] = ()
    seen: Seen | None = None
    stale: dict[str, str] = {}  # noqa: RUF012 -- never changed in place

    def as_json(self) -> bytes:
        """The file's content."""
        document = {
            "schema": SCHEMA,
            "instance_id": self.instance_id,
            "source": self.source,
            "files": {name: applied._asdict() for name, applied in self.files.items()},
            "held": list(self.held),
            "stale": self.stale,
            "seen": self.seen._asdict() if self.seen else None,
        }
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def read_record(path: str) -> Record:
    """The record, empty where there is none. Raises ValueError for garbage, OSError."""
    try:
        document = json.loads(read_bounded(path, MAX_BYTES))
    except FileNotFoundError:
        return Record()
    try:
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, not {SCHEMA}")
        seen = document["seen"]
        return Record(
            document["instance_id"],
            document["source"],
            {
                str(name): Applied(str(entry["digest"]), dict(entry["written"]))
                for name, entry in document["files"].items()
            },
            tuple(document["held"]),
            Seen(seen["release"], seen["digest"], seen["outcome"], tuple(seen["problems"]))
            if seen
            else None,
            dict(document.get("stale", {})),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def write_record(path: str, record: Record) -> None:
    """Replace the record. Raises OSError."""
    write_atomic(path, record.as_json(), mode=0o600)
