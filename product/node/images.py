"""Bringing the image's container images into containerd, once each.

``/var/lib/containerd/kubesolo-images.json`` maps an archive's name to the digest of its OCI index
once it was imported. It lies beside containerd's own data, so that both are lost together.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable

from product.agent import program
from product.agent.durable import read_bounded, write_atomic
from product.agent.errors import AgentError
from product.node.errors import NodeError, ProgramFailedError

MAX_BYTES = 1 << 20
_BLOCK = 512
INDEX = "index.json"
# Without it no pod starts.
FIRST = "pause.tar"
# A node that is not Ready by then may be waiting for just these images.
READY_SECONDS = 60.0


def archives(folder: str) -> list[str]:
    """Paths of the archives in ``folder``, in the order of their import."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".tar"))
    except OSError:
        return []
    names.sort(key=lambda name: name != FIRST)
    return [f"{folder}/{name}" for name in names]


def index_digest(path: str) -> str:
    """SHA-256 of the archive's OCI index, found by skipping from header to header.

    Raises NodeError for what is no OCI archive.
    """
    try:
        with open(path, "rb") as file:
            while True:
                header = file.read(_BLOCK)
                if len(header) < _BLOCK or not header[0]:
                    break
                name = header[:100].rstrip(b"\0").decode(errors="replace")
                size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
                if name in (INDEX, f"./{INDEX}"):
                    return hashlib.sha256(file.read(min(size, MAX_BYTES))).hexdigest()
                file.seek((size + _BLOCK - 1) // _BLOCK * _BLOCK, os.SEEK_CUR)
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise NodeError(f"{path} is no tar archive") from None
    raise NodeError(f"{path} is no OCI archive: it has no {INDEX}")


def pending(folder: str, note: str) -> list[str]:
    """The archives in ``folder`` that were not imported yet."""
    done = _read_note(note)
    return [
        path for path in archives(folder) if done.get(os.path.basename(path)) != index_digest(path)
    ]


def await_quiet(ready: str, seconds: float = READY_SECONDS) -> None:
    """Let the node become Ready first, which ``ready`` shows: an import would slow it down."""
    end = time.monotonic() + seconds
    while not os.path.exists(ready) and time.monotonic() < end:
        time.sleep(0.5)


def import_pending(
    folder: str, note: str, address: str, *, report: Callable[[str], None] = lambda line: None
) -> int:
    """Import what is pending through containerd at ``address``; how many archives that was.

    Raises ProgramFailedError.
    """
    found = pending(folder, note)
    for path in found:
        command = ["ctr", "--address", address, "-n", "k8s.io", "images", "import", path]
        try:
            status, output = program.run(command)
        except AgentError as error:
            raise ProgramFailedError(error.message) from None
        if status != 0:
            said = output.splitlines()[-1] if output else "no output"
            raise ProgramFailedError(f"containerd does not take {path} ({status}): {said}")
        # The note must not outlive what it vouches for.
        os.sync()
        done = {**_read_note(note), os.path.basename(path): index_digest(path)}
        write_atomic(note, (json.dumps(done, sort_keys=True) + "\n").encode())
        report(f"imported {os.path.basename(path)}")
    return len(found)


def _read_note(path: str) -> dict[str, object]:
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
