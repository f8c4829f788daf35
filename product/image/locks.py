"""Lock files: exactly which Debian packages an image or the host tools are made of.

A lock is JSON under ``images/locks/``: every package with name, version, architecture, archive,
pool path, size in bytes and SHA-256, never a mirror's host; and ``snapshot``, a time stamp of when
the archive had all of them. It is made by ``product.image.relock``, which lets apt check the
archive's signature.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from product.image.errors import LockError
from product.image.mirror import STAMP_FORMAT

RELOCK_COMMAND = "./noxw -s lock"


class Package(BaseModel):
    """One locked ``.deb`` of the archive; ``group`` says what it is for: root, kernel or boot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    architecture: str
    group: str
    archive: Literal["debian", "debian-security"]
    path: str = Field(pattern=r"^pool/[A-Za-z0-9._+~%:/-]+\.deb$")
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    # The lock's, which puts it here when it is read.
    snapshot: str | None = Field(default=None, exclude=True)

    @property
    def key(self) -> str:
        """What stays the same from one version to the next: a kernel's name holds its version."""
        if self.group == "kernel":
            return "kernel:" + re.sub(r"^(linux-image-)\d[^-]*-(\d+-)?", r"\1", self.name)
        return f"{self.group}:{self.name}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Lock(BaseModel):
    """A lock file; ``request`` is the digest of the package lists that it was made from.

    ``snapshot`` is when it was resolved, as in 20261130T000000Z; locks from before have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    suite: str
    request: str
    snapshot: str | None = None
    packages: tuple[Package, ...]

    @field_validator("snapshot")
    @classmethod
    def _is_stamp(cls, value: str | None) -> str | None:
        if value is not None:
            datetime.strptime(value, STAMP_FORMAT)
        return value

    def model_post_init(self, _context: Any) -> None:
        """Tell each package when the archive had it."""
        stamped = [
            package.model_copy(update={"snapshot": self.snapshot}) for package in self.packages
        ]
        object.__setattr__(self, "packages", tuple(stamped))

    @classmethod
    def load(cls, path: Path) -> Lock:
        """Read a lock; raises LockError with the field that is wrong."""
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise LockError(f"lock file {path} is missing", hint=f"run {RELOCK_COMMAND}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise LockError(
                f"lock file {path} is damaged at {place}: {first['msg']}",
                hint=f"restore it from version control, or run {RELOCK_COMMAND}",
            ) from None
        except ValueError as error:
            raise LockError(
                f"lock file {path} is not JSON: {error}",
                hint=f"restore it from version control, or run {RELOCK_COMMAND}",
            ) from None

    def dump(self) -> str:
        """The file's text, one package a line so that a change reads well in a diff."""
        rows = ",\n".join("  " + json.dumps(package.model_dump()) for package in self.packages)
        head = json.dumps(
            {
                "schema_version": self.schema_version,
                "suite": self.suite,
                "request": self.request,
                **({"snapshot": self.snapshot} if self.snapshot else {}),
            }
        )
        return f'{head[:-1]}, "packages": [\n{rows}\n]}}\n'

    def group(self, name: str) -> tuple[Package, ...]:
        """The packages of one group, in the lock's order."""
        return tuple(package for package in self.packages if package.group == name)

    def check_request(self, request: str, path: Path) -> None:
        """Raise LockError unless the lock was made from these package lists."""
        if self.request != request:
            raise LockError(
                f"lock file {path} was made from other package lists than the recipe's",
                hint=f"run {RELOCK_COMMAND} and commit the result",
            )
