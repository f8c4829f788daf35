"""The highest versions that were ever signed, kept beside the keys and not in the repository.

A repository that was restored from a backup is at versions that nodes have seen already, and they
refuse it as a replay. With the marks the next change continues above all that was served. Format of
``versions.json`` in the key directory, by the SHA-256 of the repository's ``1.root.json``::

    {"schema": 1, "repositories": {"<64 hex>": {"root": 1, "targets": 7, "snapshot": 9,
                                                "timestamp": 9}}}
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

from product.release.errors import MarksUnwritableError, RepositoryError
from product.release.storage import write_file

MARKS_NAME = "versions.json"
SCHEMA = 1


class Marks:
    """The marks in one key directory."""

    def __init__(self, keys: Path) -> None:
        self.path = keys / MARKS_NAME

    def of(self, repository: str) -> dict[str, int]:
        """Each role's highest version; empty where none is known. Raises RepositoryError."""
        return self._read().get(repository, {})

    def raise_to(self, repository: str, versions: Mapping[str, int]) -> None:
        """Keep ``versions`` where they are higher; on the disk when this returns.

        Raises MarksUnwritableError where they cannot be written, RepositoryError for damage.
        """
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                every = self._read()
                kept = every.setdefault(repository, {})
                for role, version in versions.items():
                    kept[role] = max(version, kept.get(role, 0))
                document = {"schema": SCHEMA, "repositories": every}
                write_file(
                    self.path, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
                )
            finally:
                os.close(descriptor)
        except OSError as error:
            raise MarksUnwritableError(f"cannot write {self.path}: {error.strerror}") from None

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            document = json.loads(self.path.read_bytes())
            found = document["repositories"]
            if document["schema"] != SCHEMA:
                raise ValueError(f"its schema is {document['schema']!r}")
            return {
                str(repository): {str(role): int(version) for role, version in versions.items()}
                for repository, versions in found.items()
            }
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RepositoryError(f"cannot read {self.path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RepositoryError(
                f"{self.path} is damaged: {error}",
                hint="restore it from the backup of the keys; without it, a repository that is "
                "itself restored from a backup may be refused by nodes",
            ) from None
