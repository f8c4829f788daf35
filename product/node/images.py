"""Bringing the image's container images into containerd, once each.

``/var/lib/containerd/kubesolo-images.json`` maps an archive's name to the digest of its OCI index
once it was imported. It lies beside containerd's own data, so that both are lost together. When
the disk fills up the kubelet removes images that no container uses, so containerd is asked as well
what it has, once it is there to ask.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection

from product.agent.errors import AgentError
from product.agent.system import program
from product.agent.system.files import read_bounded, write_atomic
from product.node.errors import NodeError, ProgramFailedError

MAX_BYTES = 1 << 20
_BLOCK = 512
INDEX = "index.json"
NAME = "io.containerd.image.name"
# The label that containerd's CRI plugin reads.
PINNED = "io.cri-containerd.pinned=pinned"
# Without it no pod starts.
FIRST = "pause.tar"
# A node that is not Ready by then may be waiting for just these images.
READY_SECONDS = 60.0


def archives(folder: str, unwanted: Collection[str] = ()) -> list[str]:
    """Paths of the archives in ``folder``, in the order of their import, without ``unwanted``."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".tar"))
    except OSError:
        return []
    names = [name for name in names if name.removesuffix(".tar") not in unwanted]
    names.sort(key=lambda name: name != FIRST)
    return [f"{folder}/{name}" for name in names]


def index_digest(path: str) -> str:
    """SHA-256 of the archive's OCI index. Raises NodeError for what is no OCI archive."""
    return hashlib.sha256(_index(path)).hexdigest()


def image_names(path: str) -> set[str]:
    """What the images in the archive are called in containerd. Raises NodeError."""
    try:
        document = json.loads(_index(path))
        named = (manifest.get("annotations", {}) for manifest in document["manifests"])
        return {str(found[NAME]) for found in named if NAME in found}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NodeError(f"{path} has an index that is garbage") from None


def _index(path: str) -> bytes:
    """The archive's OCI index, found by skipping from header to header. Raises NodeError."""
    try:
        with open(path, "rb") as file:
            while True:
                header = file.read(_BLOCK)
                if len(header) < _BLOCK or not header[0]:
                    break
                name = header[:100].rstrip(b"\0").decode(errors="replace")
                size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
                if name in (INDEX, f"./{INDEX}"):
                    return file.read(min(size, MAX_BYTES))
                file.seek((size + _BLOCK - 1) // _BLOCK * _BLOCK, os.SEEK_CUR)
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise NodeError(f"{path} is no tar archive") from None
    raise NodeError(f"{path} is no OCI archive: it has no {INDEX}")


def pending(folder: str, note: str, unwanted: Collection[str] = ()) -> list[str]:
    """The archives in ``folder`` that were not imported yet, without ``unwanted``."""
    done = _read_note(note)
    return [
        path
        for path in archives(folder, unwanted)
        if done.get(os.path.basename(path)) != index_digest(path)
    ]


def await_quiet(ready: str, seconds: float = READY_SECONDS) -> None:
    """Let the node become Ready first, which ``ready`` shows: an import would slow it down."""
    end = time.monotonic() + seconds
    while not os.path.exists(ready) and time.monotonic() < end:
        time.sleep(0.5)


def import_pending(
    folder: str, note: str, address: str, unwanted: Collection[str] = (), *,
    report: Callable[[str], None] = lambda line: None,
) -> int:  # fmt: skip
    """Import what is pending, or was removed since, through containerd at ``address``.

    ``unwanted`` are names of images that stay where they are. Returns how many archives were
    imported. Raises NodeError, ProgramFailedError.
    """
    wanted = archives(folder, unwanted)
    new = pending(folder, note, unwanted)
    old = [path for path in wanted if path not in new]
    kept = set(_ctr(address, "ls", "-q").split()) if old else set()
    removed = [path for path in old if not image_names(path) <= kept]
    found = [path for path in wanted if path in new or path in removed]
    for path in found:
        _ctr(address, "import", path)
        # The kubelet removes none that is pinned: it could not be pulled again.
        for name in sorted(image_names(path)):
            _ctr(address, "label", name, PINNED)
        # The note must not outlive what it vouches for.
        os.sync()
        done = {**_read_note(note), os.path.basename(path): index_digest(path)}
        write_atomic(note, (json.dumps(done, sort_keys=True) + "\n").encode())
        report(f"imported {os.path.basename(path)}")
    return len(found)


def _ctr(address: str, *arguments: str) -> str:
    """What ``ctr images`` printed. Raises ProgramFailedError."""
    try:
        status, output = program.run(
            ["ctr", "--address", address, "-n", "k8s.io", "images", *arguments]
        )
    except AgentError as error:
        raise ProgramFailedError(error.message) from None
    if status != 0:
        said = output.splitlines()[-1] if output else "no output"
        raise ProgramFailedError(
            f"containerd refuses 'images {' '.join(arguments)}' ({status}): {said}"
        )
    return output


def _read_note(path: str) -> dict[str, object]:
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
