"""Writing the bundle: each part in a process of its own, with a deadline, cleaned, and bounded.

A part that fails or hangs costs itself alone; ``README.txt`` in the bundle says which did.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

from product.agent.errors import AgentError
from product.agent.support.redact import Redactor, find_secrets
from product.agent.system.isolation import IsolatedRunner
from product.agent.system.paths import Paths

PART_BYTES = 2 * 1024 * 1024
TOTAL_BYTES = 24 * 1024 * 1024
PART_SECONDS = 20.0
TOTAL_SECONDS = 150.0


class Part(NamedTuple):
    """A file of the bundle: ``make`` gives its text, at most PART_BYTES of it are taken."""

    name: str
    make: Callable[[], bytes]
    seconds: float = PART_SECONDS


class Outcome(NamedTuple):
    """What is in the bundle, and what is not: name and reason."""

    files: dict[str, int]
    failed: dict[str, str]


def write_bundle(
    parts: Iterable[Part],
    target: BinaryIO,
    paths: Paths,
    *,
    root: str,
    now: float,
    monotonic: Callable[[], float],
) -> Outcome:
    """A tar archive, compressed, of a folder ``root``. Raises OSError of ``target`` alone."""
    runner = IsolatedRunner()
    failed: dict[str, str] = {}
    redactor = Redactor(_secrets(runner, paths, failed))
    files: dict[str, int] = {}
    end = monotonic() + TOTAL_SECONDS
    left = TOTAL_BYTES
    with tarfile.open(fileobj=target, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for part in parts:
            seconds = min(part.seconds, end - monotonic())
            if seconds <= 0 or left <= 0:
                failed[part.name] = "left out: the bundle has taken its time, or its room"
                continue
            data, reason = _ask(runner, part, seconds)
            if reason:
                failed[part.name] = reason
            if data is None:
                continue
            data, reason = _clean(runner, redactor, data)
            if data is None:
                failed[part.name] = reason
                continue
            data = data[:left]
            left -= len(data)
            files[part.name] = len(data)
            _add(archive, f"{root}/{part.name}", data, now)
        lines = [f"{name}: {reason}" for name, reason in failed.items()]
        text = "What this node's support bundle holds; secrets are replaced by [redacted].\n"
        text += "\n".join(["Missing or cut:", *lines] if lines else ["Nothing is missing."]) + "\n"
        _add(archive, f"{root}/README.txt", redactor.clean(text).encode(), now)
    return Outcome(files, failed)


def _secrets(runner: IsolatedRunner, paths: Paths, failed: dict[str, str]) -> list[str]:
    """In a child as well: the data partition may not answer. What has a secret's form is then
    replaced all the same."""

    def find() -> bytes:
        return "\n".join(["", *find_secrets(paths)]).encode() + b"\n"

    try:
        return runner.run("secrets", PART_SECONDS, find).decode("utf-8", "replace").split("\n")
    except (AgentError, OSError) as error:
        failed["secrets"] = (
            f"known secrets could not be looked up ({error}): replaced by form alone"
        )
        return []


def _ask(runner: IsolatedRunner, part: Part, seconds: float) -> tuple[bytes | None, str]:
    """The text, and why it is missing or cut. The child says by its first byte how it went."""

    def answer() -> bytes:
        try:
            data = part.make()
        except Exception as error:  # whatever it is, it is this part's alone
            return b"!" + f"{type(error).__name__}: {error}".encode()
        return (b"+" if len(data) > PART_BYTES else b"=") + data[-PART_BYTES:]

    try:
        data = runner.run(part.name, seconds, answer)
    except (AgentError, OSError) as error:
        return None, str(error)
    mark, data = data[:1], data[1:]
    if mark == b"!":
        return None, data.decode("utf-8", "replace")
    if mark == b"+":
        return data, f"only its last {PART_BYTES} bytes are here"
    return data, ""


def _clean(runner: IsolatedRunner, redactor: Redactor, data: bytes) -> tuple[bytes | None, str]:
    """In a child, too: what pods wrote may be made to take long."""

    def clean() -> bytes:
        return b"=" + redactor.clean(data.decode("utf-8", "replace")).encode("utf-8", "replace")

    try:
        return runner.run("clean", PART_SECONDS, clean)[1:], ""
    except (AgentError, OSError) as error:
        return None, f"left out: its secrets could not be taken out ({error})"


def _add(archive: tarfile.TarFile, name: str, data: bytes, now: float) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), int(now), 0o600
    archive.addfile(entry, io.BytesIO(data))


def open_output(path: str) -> BinaryIO:
    """A new file for the bundle, for its owner alone. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")
