"""Running cryptsetup and tpm2-tools: keys go through memory, never through a file on a disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from product.encryption.errors import EncryptionError, ProgramFailedError

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Run(Protocol):
    """Runs a program to its end and returns what it printed; ``keys`` are descriptors it gets."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        keys: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Raises ProgramFailedError, EncryptionError where it cannot be started."""
        ...


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    keys: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run it on this machine. Raises ProgramFailedError, EncryptionError."""
    # There is no udev to wait for: libdevmapper makes the device's node itself.
    whole = {"PATH": _PATH, "LC_ALL": "C", "DM_DISABLE_UDEV": "1", **(environment or {})}
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, env=whole, pass_fds=keys, check=False
        )
    except OSError as error:
        raise EncryptionError(
            f"cannot run {argv[0]}: {error.strerror}",
            hint="this image has no extension 'encryption'",
        ) from None
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace")
        raise ProgramFailedError(" ".join(argv[:2]), done.returncode, words)
    return done.stdout


@contextmanager
def in_memory(key: bytes) -> Iterator[int]:
    """A descriptor of a file in memory that holds ``key``."""
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, key)
        yield descriptor
    finally:
        os.close(descriptor)


def path_of(descriptor: int) -> str:
    """How a program that was given the descriptor names it."""
    return f"/proc/self/fd/{descriptor}"
