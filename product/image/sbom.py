"""What an image is made of, as SPDX 2.3 in JSON: decision 0014.

The bytes depend on the image alone. spdx-tools makes the document; it is imported where one is
written, because that takes longer than to find that nothing has changed.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from product.image.dep5 import Declared
from product.image.golang.contents import LinkedModule
from product.image.locks import Package
from product.image.own_code import INTERPRETER, PACKAGES, OwnFile

if TYPE_CHECKING:
    from spdx_tools.spdx.model import Document
    from spdx_tools.spdx.model import Package as SpdxPackage

_NAME = "kubesolo-os"
# The project's own programs on a node go by the name of the one that people know.
_AGENT = "kubesolo-update"
_LICENCE = "MIT"
_SUPPLIER = "Debian"


@dataclass(frozen=True, slots=True)
class Part:
    """What an image brings that is no package; its version as it calls itself."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Subject:
    """The image: ``file`` is its name without folders, ``date`` seconds since 1970."""

    recipe: str
    version: str
    arch: str
    file: str
    sha256: str
    date: int


def known_licences() -> list[str]:
    """SPDX's identifiers of licences."""
    from spdx_tools.common.spdx_licensing import spdx_licensing

    return [
        name for name, symbol in spdx_licensing.known_symbols.items() if not symbol.is_exception
    ]


def write(
    subject: Subject,
    packages: Iterable[Package],
    licences: Mapping[str, Declared],
    parts: Iterable[Part] = (),
    modules: Iterable[LinkedModule] = (),
    own: Iterable[OwnFile] = (),
) -> bytes:
    """The document's bytes. ``licences`` are by the SHA-256 of the package.

    ``modules`` are the Go modules that programs of the image are linked from, ``own`` the files of
    the update agent and the other programs of the project.
    """
    from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

    stream = io.StringIO()
    document = _document(subject, packages, licences, parts, modules)
    _add_agent(document, subject.version, tuple(own))
    # A test validates it.
    write_document_to_stream(document, stream, validate=False)
    return stream.getvalue().encode() + b"\n"


def _document(
    subject: Subject,
    packages: Iterable[Package],
    licences: Mapping[str, Declared],
    parts: Iterable[Part],
    modules: Iterable[LinkedModule],
) -> Document:
    from spdx_tools.spdx.model import (
        Actor,
        ActorType,
        CreationInfo,
        Document,
        PackagePurpose,
        Relationship,
        RelationshipType,
    )

    title = f"{_NAME}-{subject.recipe}-{subject.version}-{subject.arch}"
    creation = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id="SPDXRef-DOCUMENT",
        name=title,
        document_namespace=f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, subject.sha256)}",
        creators=[Actor(ActorType.TOOL, f"{_NAME} image builder")],
        created=datetime.fromtimestamp(subject.date, UTC).replace(tzinfo=None),
    )
    image = _package("SPDXRef-Image", title, subject.version, subject.sha256)
    image.file_name = subject.file
    image.primary_package_purpose = PackagePurpose.OPERATING_SYSTEM
    own = _package("SPDXRef-Product", _NAME, subject.version, licence=_LICENCE)
    document = Document(creation, packages=[image, own])
    relations = [
        Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, image.spdx_id),
        Relationship(image.spdx_id, RelationshipType.CONTAINS, own.spdx_id),
    ]
    for part in parts:
        made = _package(f"SPDXRef-Part-{_plain(part.name)}", part.name, part.version)
        document.packages.append(made)
        relations.append(Relationship(image.spdx_id, RelationshipType.CONTAINS, made.spdx_id))
    every = {one.sha256: one for one in packages}
    for one in sorted(every.values(), key=lambda one: (one.name, one.version, one.sha256)):
        made = _debian(one, licences.get(one.sha256, Declared()))
        document.packages.append(made)
        relations.append(Relationship(image.spdx_id, RelationshipType.CONTAINS, made.spdx_id))
    for module in sorted(set(modules)):
        made = _go_module(module)
        document.packages.append(made)
        relations.append(Relationship(image.spdx_id, RelationshipType.GENERATED_FROM, made.spdx_id))
    document.relationships = relations
    return document


def _add_agent(document: Document, version: str, files: tuple[OwnFile, ...]) -> None:
    """The agent as a package of its own: its files, and the packages that it needs."""
    from spdx_tools.spdx.model import (
        Checksum,
        ChecksumAlgorithm,
        File,
        PackageVerificationCode,
        Relationship,
        RelationshipType,
        SpdxNoAssertion,
    )

    if not files:
        return
    agent = _package("SPDXRef-Agent", _AGENT, version, licence=_LICENCE)
    agent.files_analyzed = True
    joined = "".join(sorted(file.sha1 for file in files)).encode()
    # SPDX 2.3, 7.9.
    code = hashlib.sha1(joined, usedforsecurity=False).hexdigest()
    agent.verification_code = PackageVerificationCode(code)
    relations = [
        Relationship("SPDXRef-Product", RelationshipType.CONTAINS, agent.spdx_id),
    ]
    needed = {INTERPRETER, *PACKAGES.values()}
    for row in document.packages:
        if row.spdx_id.startswith("SPDXRef-Package-") and row.name in needed:
            relations.append(Relationship(agent.spdx_id, RelationshipType.DEPENDS_ON, row.spdx_id))
    for number, file in enumerate(files):
        made = File(
            name=f"./{file.path}",
            spdx_id=f"SPDXRef-File-{number}-{_plain(file.path.rsplit('/', 1)[-1])}",
            checksums=[
                Checksum(ChecksumAlgorithm.SHA1, file.sha1),
                Checksum(ChecksumAlgorithm.SHA256, file.sha256),
            ],
            license_concluded=SpdxNoAssertion(),
            license_info_in_file=[SpdxNoAssertion()],
            copyright_text=SpdxNoAssertion(),
        )
        document.files.append(made)
        relations.append(Relationship(agent.spdx_id, RelationshipType.CONTAINS, made.spdx_id))
    document.packages.insert(2, agent)
    document.relationships = [*document.relationships, *relations]


def _debian(package: Package, licence: Declared) -> SpdxPackage:
    from spdx_tools.spdx.model import (
        Actor,
        ActorType,
        ExternalPackageRef,
        ExternalPackageRefCategory,
    )

    name = package.name
    identifier = f"SPDXRef-Package-{_plain(name)}-{package.sha256[:12]}"
    made = _package(identifier, name, package.version, package.sha256, licence.expression)
    if licence.names and not licence.expression:
        made.license_comment = (
            f"/usr/share/doc/{name}/copyright in the image names: {', '.join(licence.names)}"
        )
    made.supplier = Actor(ActorType.ORGANIZATION, _SUPPLIER)
    made.external_references = [
        ExternalPackageRef(
            ExternalPackageRefCategory.PACKAGE_MANAGER,
            "purl",
            f"pkg:deb/debian/{quote(name)}@{quote(package.version, safe=':~')}"
            f"?arch={package.architecture}",
        )
    ]
    return made


def _go_module(module: LinkedModule) -> SpdxPackage:
    from spdx_tools.spdx.model import ExternalPackageRef, ExternalPackageRefCategory

    # Two paths may differ in what an identifier cannot hold.
    mark = hashlib.sha256(module.purl.encode()).hexdigest()[:12]
    made = _package(f"SPDXRef-Go-{_plain(module.path)}-{mark}", module.path, module.version)
    if module.checksum:
        # Over the names and digests of the module's files, so it is none of SPDX's checksums.
        made.comment = f"go.sum: {module.checksum}"
    made.external_references = [
        ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", module.purl)
    ]
    return made


def _package(
    identifier: str, name: str, version: str, sha256: str = "", licence: str = ""
) -> SpdxPackage:
    from spdx_tools.common.spdx_licensing import spdx_licensing
    from spdx_tools.spdx.model import Checksum, ChecksumAlgorithm, SpdxNoAssertion
    from spdx_tools.spdx.model import Package as SpdxPackage

    nothing = SpdxNoAssertion()
    return SpdxPackage(
        spdx_id=identifier,
        name=name,
        version=version,
        download_location=nothing,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, sha256)] if sha256 else [],
        license_concluded=nothing,
        license_declared=spdx_licensing.parse(licence) if licence else nothing,
        copyright_text=nothing,
    )


def _plain(name: str) -> str:
    """What an identifier may hold."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)
