"""A release repository in an OCI registry (docs/publishing.md).

The tag names an index, of which one manifest lists the repository's small files by their paths; or,
where ``oras push`` made it, one manifest that lists all files. They are taken from one reading of
the tag, so that a publisher who pushes meanwhile does no harm. An artifact is the blob of its
digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING

from product.agent.settings import registry_address
from product.agent.sources.answer import FileAnswer
from product.agent.sources.exchange import OverConnections, new_connections
from product.agent.sources.oci_manifest import (
    IMAGE,
    Descriptor,
    OciManifest,
    bad_oci_manifest,
    is_digest,
    parse_oci_manifest,
)
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy
from product.agent.sources.registry import Manifest, Registry, parse_reference

if TYPE_CHECKING:
    from product.agent.net.access import Access
    from product.agent.net.sockets import Permit
    from product.agent.sources.protocol import Answer

RELEASE = "application/vnd.kubesolo.os.release.v1"
METADATA = "application/vnd.kubesolo.os.metadata.v1"
# A signed metadata file; tuf itself takes no more than this.
MAX_FILE = 8 * 1024 * 1024
# Manifests without a type in the index that are looked into for the metadata.
_LOOKED_INTO = 8
# Releases of an index: of every channel and both architectures.
_RELEASES = 64
_ARTIFACTS = "artifacts/"
# What oras says of a folder that it packed.
_PACKED = "io.deis.oras.content.unpack"


class OciSource(OverConnections):
    """The repository at ``registry`` and ``tag``."""

    setting = "registry"

    def __init__(
        self,
        registry: str,
        tag: str | None = None,
        policy: FetchPolicy = DEFAULT_POLICY,
        *,
        permit: Permit | None = None,
        interrupt: Callable[[], None] | None = None,
        access: Access | None = None,
    ) -> None:
        """``permit``, ``interrupt`` and ``access``: see Connections. Raises AgentError
        ``no-server``."""
        reference = parse_reference(registry, tag)
        self.address = registry_address(registry, tag)
        # A registry is shown the login where it asks for one, and its token server with it.
        self._connections = new_connections(
            policy,
            permit=permit,
            interrupt=interrupt,
            access=access._replace(login=None) if access else None,
        )
        login = access.login if access else None
        self.registry = Registry(self._connections, reference, login=login)
        self._root: tuple[Manifest, OciManifest] | None = None
        self._files: dict[str, Descriptor] | None = None
        # What was asked for since the tag was read.
        self._served: set[str] = set()

    def open(
        self,
        path: str,
        *,
        start: int = 0,
        end: int | None = None,
        fresh: bool = False,
        until: float | None = None,
    ) -> Answer:
        """A blob by its digest, or a file that the tag's manifests list.

        ``fresh`` reads the tag again where the file was asked for since it was read.
        """
        where = f"{self.address}/{path}"
        if path.startswith(_ARTIFACTS):
            digest = f"sha256:{path.removeprefix(_ARTIFACTS)}"
            if not is_digest(digest):
                return FileAnswer(where, None)
            return self.registry.blob(digest, start, end, until=until)
        if fresh and path in self._served:
            self._root = self._files = None
        if self._files is None:
            self._files = self._list(fresh, until)
            self._served.clear()
        self._served.add(path)
        row = self._files.get(path)
        if row is None:
            return FileAnswer(where, None)
        data = self.registry.content(row, MAX_FILE, until=until)
        return FileAnswer(where, BytesIO(data), start, end)

    def root(
        self, *, fresh: bool = False, until: float | None = None
    ) -> tuple[Manifest, OciManifest]:
        """What the tag names, read once."""
        if self._root is None:
            tag = self.registry.reference.tag
            self._root = self._manifest(tag, fresh=fresh, until=until)
        return self._root

    def holding(self, digest: str) -> Iterator[str]:
        """Digests of the images of the tag that list the blob ``digest``, and at last that of what
        the tag itself names, where it leads to one of them. Raises AgentError."""
        root, content = self.root()
        found = not content.is_index and _lists(content, digest)
        if content.is_index:
            images = [row for row in content.rows if row.media_type == IMAGE]
            for row in [row for row in images if row.artifact_type == RELEASE][:_RELEASES]:
                if _lists(self._manifest(row.digest)[1], digest):
                    found = True
                    yield row.digest
        if found:
            yield root.digest

    def _manifest(
        self, reference: str, *, fresh: bool = False, until: float | None = None
    ) -> tuple[Manifest, OciManifest]:
        found = self.registry.manifest(reference, fresh=fresh, until=until)
        return found, parse_oci_manifest(found.data, f"{self.address} ({reference[:19]})")

    def _list(self, fresh: bool, until: float | None) -> dict[str, Descriptor]:
        """The small files by their paths. Raises AgentError where there are none."""
        root = self.root(fresh=fresh, until=until)[1]
        if not root.is_index:
            return self._titled(root)
        looked = 0
        for row in root.rows:
            if row.media_type != IMAGE or row.artifact_type not in (METADATA, None):
                continue
            if row.artifact_type is None and (
                row.architecture or (looked := looked + 1) > _LOOKED_INTO
            ):
                continue
            image = self._manifest(row.digest, until=until)[1]
            if not image.is_index and METADATA in (row.artifact_type, image.artifact_type):
                return self._titled(image)
        raise bad_oci_manifest(
            self.address, "is an index without the metadata of a release repository"
        )

    def _titled(self, image: OciManifest) -> dict[str, Descriptor]:
        files: dict[str, Descriptor] = {}
        for row in image.rows:
            path = (row.title or "").removeprefix("./")
            if not _is_path(path) or _PACKED in row.annotations:
                continue
            if files.setdefault(path, row).digest != row.digest:
                raise bad_oci_manifest(self.address, f"has two files {path!r}")
        if not files:
            raise bad_oci_manifest(self.address, "has no files of a release repository")
        return files


def _lists(image: OciManifest, digest: str) -> bool:
    return not image.is_index and any(row.digest == digest for row in image.rows)


def _is_path(text: str) -> bool:
    """Whether it names a file of a repository."""
    return (
        text.startswith(("metadata/", "targets/"))
        and text.isascii()
        and text.isprintable()
        and len(text) <= 512
        and not {"", ".", ".."}.intersection(text.split("/"))
    )
