"""The content-addressed cache: verified downloads, and trees built from known inputs.

Layout below the root (``$KUBESOLO_CACHE``, else ``$XDG_CACHE_HOME/kubesolo-os``, else
``~/.cache/kubesolo-os``)::

    blobs/<2 hex>/<64 hex>     a file, named by the SHA-256 of its content
    trees/<name>-<32 hex>/     a directory, named by the digest of everything it was built from
    tmp/                       locks and unfinished work; what a killed build leaves is swept later

A blob or tree appears by one rename, so that a reader never sees half of one. Its content is on the
disk by then, so that a power cut leaves no hollow one that later builds would trust.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from product.image.durable import flush_file, flush_tree
from product.image.errors import CacheError

CHUNK = 1 << 20
# Unfinished work older than this belongs to a build that died.
STALE_SECONDS = 6 * 3600
# Trees that nobody asked for in so many seconds are removed when another one is built. A slot or a
# disk takes seconds to build anew, and every change of the product makes others.
UNUSED_SECONDS = 30 * 86400
UNUSED_IMAGE_SECONDS = 3 * 86400
# A tree is touched when it is asked for; one touched this long ago may be about to be removed.
_TOUCHED_SECONDS = 86400


def default_root() -> Path:
    """The cache's place for this user; it lies outside the checkout."""
    explicit = os.environ.get("KUBESOLO_CACHE")
    if explicit:
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "kubesolo-os"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(*parts: object) -> str:
    """32 hex digits over JSON-able ``parts``: the name of what is built from them."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def tree_digest(root: Path, *, without: str | None = None) -> str:
    """Digest over names, kinds, executable bits and contents below ``root``; times do not count.

    What lies in a folder named ``without`` does not count either.
    """
    entries: list[tuple[str, str, str]] = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if "__pycache__" in parts or without in parts:
            continue
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            entries.append((name, "link", str(path.readlink())))
        elif path.is_file():
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            entries.append((name, f"file{executable:d}", file_sha256(path)))
    return digest_of(entries)


def require_unchanged(before: str, after: str) -> None:
    """Raise CacheError where the digest of a build's inputs is another one after the build: the
    result would lie under the name of what it was not built from."""
    if before != after:
        raise CacheError(
            "a file of the checkout changed while it was built from, so nothing was kept",
            hint="run it again",
        )


def remove_tree(path: Path) -> None:
    """Remove a tree even where it holds directories without write permission."""

    def retry(function: Callable[[str], object], name: str, _error: object) -> None:
        Path(name).parent.chmod(0o700)
        function(name)

    if path.exists():
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                Path(folder).chmod(0o700)
        shutil.rmtree(path, onerror=retry)


class Cache:
    """Blobs by content and trees by input digest, safe for several processes at once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else default_root()
        self.blobs = self.root / "blobs"
        self.trees = self.root / "trees"
        self.tmp = self.root / "tmp"
        try:
            for folder in (self.blobs, self.trees, self.tmp):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"cannot write the cache at {self.root}: {error.strerror}",
                hint="make it writable, or set KUBESOLO_CACHE to another directory",
            ) from None

    def blob(self, sha256: str) -> Path:
        """Where the blob lies or would lie."""
        return self.blobs / sha256[:2] / sha256

    def verified_blob(self, sha256: str, size: int) -> Path | None:
        """The blob if it is here with the right size and content; a corrupt one is removed.

        The content is hashed once and remembered by inode, size and time, so that an
        unchanged build does not read every package again.
        """
        path = self.blob(sha256)
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        mark = f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        marker = path.with_suffix(".ok")
        with contextlib.suppress(OSError):
            if status.st_size == size and marker.read_text() == mark:
                return path
        if status.st_size == size and file_sha256(path) == sha256:
            with contextlib.suppress(OSError):
                marker.write_text(mark)
            return path
        marker.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return None

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A temporary directory on the cache's file system, removed afterwards."""
        self._sweep()
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.tmp))
        except OSError as error:
            raise CacheError(f"cannot make a work directory in {self.tmp}: {error}") from None
        try:
            yield folder
        finally:
            remove_tree(folder)

    def add_blob(self, source: Path, sha256: str) -> Path:
        """Move ``source``, whose digest the caller has checked, into place."""
        path = self.blob(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        flush_file(source)
        source.replace(path)
        return path

    def tree(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        """The tree built from the inputs that ``key`` names, building it if it is not here.

        ``build`` gets an empty directory. Two processes that want the same tree build it once:
        the second waits for the first. Raises CacheError when the disk is full.
        """
        path = self.trees / f"{name}-{key}"
        if _age(path) < _TOUCHED_SECONDS:
            _touch(path)
            return path
        with self.lock(path.name):
            if path.is_dir():
                _touch(path)
                return path
            with self.scratch(name) as work:
                content = work / "tree"
                try:
                    with _modes_of_everybody():
                        content.mkdir()
                        build(content)
                    flush_tree(content)
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise CacheError(
                            f"no space left in {self.root} while building {name}",
                            hint="free some space, or set KUBESOLO_CACHE to a larger disk",
                        ) from None
                    raise
                _touch(content)
                content.rename(path)
        return path

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a lock named ``name`` across processes; the kernel frees it when a holder dies.

        Raises BlockingIOError if another process has it and ``wait`` is false.
        """
        path = self.tmp / f"{name}.lock"
        with path.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    def _sweep(self) -> None:
        limit = time.time() - STALE_SECONDS
        for leftover in self.tmp.iterdir():
            with contextlib.suppress(OSError):
                if leftover.is_dir() and leftover.stat().st_mtime < limit:
                    remove_tree(leftover)
        for tree in self.trees.iterdir():
            image = tree.name.startswith(("slot-", "disk-", "medium-"))
            unused = UNUSED_IMAGE_SECONDS if image else UNUSED_SECONDS
            if _age(tree) > unused:
                self._remove_unused(tree, unused)

    def _remove_unused(self, tree: Path, unused: float) -> None:
        """Remove a tree by one rename, unless somebody has asked for it in the meantime."""
        with contextlib.suppress(OSError), self.lock(tree.name, wait=False):
            if _age(tree) > unused:
                removed = Path(tempfile.mkdtemp(prefix="unused.", dir=self.tmp))
                tree.rename(removed / "tree")
                remove_tree(removed)


@contextlib.contextmanager
def _modes_of_everybody() -> Iterator[None]:
    """What is built must not depend on the umask of whoever builds it."""
    own = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(own)


def _age(path: Path) -> float:
    """Seconds since it was last touched; infinite if it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _touch(path: Path) -> None:
    # Somebody else's cache may be read-only.
    with contextlib.suppress(OSError):
        os.utime(path)
