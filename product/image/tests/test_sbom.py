"""What an image is made of: true, valid, the same bytes for the same image."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from spdx_tools.spdx.parser.json.json_parser import parse_from_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from product.image import own_code, rootfs, sbom
from product.image.build import Builder
from product.image.cache import Cache, file_sha256
from product.image.cli import main
from product.image.dep5 import Declared, declared
from product.image.golang.contents import LinkedModule
from product.image.locks import Package
from product.image.recipe import Arch
from product.image.tools import IMAGES, HostTools

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
SUBJECT = sbom.Subject("appliance", "0.1.0", "x86_64", "disk.img", "a" * 64, 1793491200)


def package(name: str, version: str = "1.0-1", arch: str = "amd64") -> Package:
    return Package(
        name=name,
        version=version,
        architecture=arch,
        group="root",
        archive="debian",
        path=f"pool/main/x/x/{name}_{version.partition(':')[2] or version}_{arch}.deb",
        size=1,
        sha256=uuid.uuid5(uuid.NAMESPACE_OID, name).hex * 2,
    )


def _valid(path: Path) -> dict[str, Any]:
    """The document, which the library itself finds nothing wrong with."""
    found = validate_full_spdx_document(parse_from_file(str(path)))
    assert not found, [message.validation_message for message in found]
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def test_each_package_is_told_with_digest_address_and_licence(tmp_path: Path) -> None:
    busybox = package("busybox-static", "1:1.37.0-6+b9")
    odd = package("libstdc++6", "14.2~rc1-1", arch="all")
    licences = {
        busybox.sha256: Declared(("GPL-2+", "Expat"), "GPL-2.0-or-later AND MIT"),
        odd.sha256: Declared(("GPL-2+", "odd")),
    }
    data = sbom.write(
        SUBJECT,
        [odd, busybox, busybox],
        licences,
        [sbom.Part("payload upstream", "1.36.3"), sbom.Part("kubernetes", "1.36.3")],
    )
    (tmp_path / "x.spdx.json").write_bytes(data)
    document = _valid(tmp_path / "x.spdx.json")
    assert document["creationInfo"]["created"] == "2026-11-01T00:00:00Z"
    rows = {row["SPDXID"]: row for row in document["packages"]}
    assert [row["name"] for row in rows.values()] == [
        "kubesolo-os-appliance-0.1.0-x86_64", "kubesolo-os", "payload upstream", "kubernetes",
        "busybox-static", "libstdc++6",
    ]  # fmt: skip
    found = rows[f"SPDXRef-Package-busybox-static-{busybox.sha256[:12]}"]
    assert found["versionInfo"] == "1:1.37.0-6+b9"
    assert found["supplier"] == "Organization: Debian"
    assert found["downloadLocation"] == "NOASSERTION"
    assert found["checksums"] == [{"algorithm": "SHA256", "checksumValue": busybox.sha256}]
    assert found["licenseDeclared"] == "GPL-2.0-or-later AND MIT"
    assert found["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/busybox-static@1:1.37.0-6%2Bb9?arch=amd64"
    )
    unknown = rows[f"SPDXRef-Package-libstdc---6-{odd.sha256[:12]}".replace("---", "--")]
    assert unknown["licenseDeclared"] == "NOASSERTION"
    assert unknown["licenseComments"].endswith("names: GPL-2+, odd")
    assert unknown["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/libstdc%2B%2B6@14.2~rc1-1?arch=all"
    )
    relations = {
        row["relatedSpdxElement"]: (row["spdxElementId"], row["relationshipType"])
        for row in document["relationships"]
    }
    assert relations["SPDXRef-Image"] == ("SPDXRef-DOCUMENT", "DESCRIBES")
    contained = [what for what, how in relations.items() if how == ("SPDXRef-Image", "CONTAINS")]
    assert len(contained) == 5


def test_the_bytes_are_those_of_the_image() -> None:
    some = [package("b"), package("a")]
    first = sbom.write(SUBJECT, some, {})
    assert sbom.write(SUBJECT, reversed(some), {}) == first
    other = dataclasses.replace(SUBJECT, sha256="b" * 64)
    names = [json.loads(one)["documentNamespace"] for one in (first, sbom.write(other, some, {}))]
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("licences", "expression"),
    [
        (["GPL-2+", "Expat"], "GPL-2.0-or-later AND MIT"),
        (["LGPL-2.1", "GFDL-NIV-1.3+"], "GFDL-1.3-no-invariants-or-later AND LGPL-2.1-only"),
        (["BSD-3-clause or GPL-2"], "(BSD-3-Clause OR GPL-2.0-only)"),
        (["BSD-3-clause and PSF-2"], "BSD-3-Clause AND PSF-2.0"),
        (["Expat", "public-domain"], ""),
        (["GPL-2+ with Texinfo exception"], ""),
        (["GPL"], ""),
    ],
)
def test_debians_names_become_spdxs_where_it_has_them(licences: list[str], expression: str) -> None:
    text = HEAD + "".join(
        f"\nFiles: {number}\nCopyright: x\nLicense: {name}\n text\n"
        for number, name in enumerate(licences)
    )
    found = declared(text.encode(), sbom.known_licences())
    assert found == Declared(tuple(sorted(licences)), expression)


def test_a_text_for_people_alone_tells_nothing() -> None:
    assert declared(b"This package was made by hand.\n", ["MIT"]) == Declared()
    assert declared(b"\xff\xfe", ["MIT"]) == Declared()


def test_an_image_has_its_list_beside_it(
    cache: Cache,
    host_tools: HostTools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "disk.img"
    words = ["image", "build", "--arch", "x86_64", "--recipe", str(IMAGES / "appliance.toml")]
    monkeypatch.setattr("sys.argv", [*words, "--output", str(output)])
    assert main() == 0
    document = _valid(tmp_path / "disk.img.spdx.json")
    [image] = [row for row in document["packages"] if row["SPDXID"] == "SPDXRef-Image"]
    assert image["checksums"][0]["checksumValue"] == file_sha256(output)
    builder = Builder(Arch.X86_64, cache=cache, tools=host_tools)
    [agent] = [row for row in document["packages"] if row["name"] == "kubesolo-update"]
    others = [row for row in document["packages"][2:] if row is not agent]
    digests = {row["checksums"][0]["checksumValue"] for row in others}
    assert digests == {package.sha256 for package in builder.packages}
    assert "://" not in (tmp_path / "disk.img.spdx.json").read_text()
    _tells_of_the_agent(document, agent)


def _tells_of_the_agent(document: dict[str, Any], agent: dict[str, Any]) -> None:
    """Its files by digest, and what it depends on."""
    files = {
        row["fileName"]: {sum["algorithm"]: sum["checksumValue"] for sum in row["checksums"]}
        for row in document["files"]
    }
    client = "./usr/lib/kubesolo/python/product/agent/trust/client.py"
    assert files[client]["SHA256"] == file_sha256(rootfs.PRODUCT / "agent/trust/client.py")
    assert not [name for name in files if "/tests/" in name]
    joined = "".join(sorted(row["SHA1"] for row in files.values())).encode()
    code = agent["packageVerificationCode"]["packageVerificationCodeValue"]
    assert code == hashlib.sha1(joined, usedforsecurity=False).hexdigest()
    names = {row["SPDXID"]: row["name"] for row in document["packages"]}
    needs = {
        names[row["relatedSpdxElement"]]
        for row in document["relationships"]
        if (row["spdxElementId"], row["relationshipType"]) == ("SPDXRef-Agent", "DEPENDS_ON")
    }
    assert needs == {own_code.INTERPRETER, *own_code.PACKAGES.values()}


def test_the_agent_depends_on_what_its_code_imports() -> None:
    imported = set()
    for path in own_code.sources():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"product", "_typeshed", "_sha2"}
    assert foreign == own_code.PACKAGES.keys()


def test_nothing_is_imported_for_it_before_one_is_written() -> None:
    code = "import sys, product.image.cli; print([m for m in sys.modules if 'spdx' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_go_module_is_told_with_its_address_and_checksum(tmp_path: Path) -> None:
    modules = [
        LinkedModule("k8s.io/api", "v0.35.4", "h1:abc="),
        LinkedModule("github.com/Azure/x", "v1.0.0+incompatible", "h1:def="),
        LinkedModule("github.com/azure-x", "v1.0.0"),
        LinkedModule("stdlib", "1.26.6"),
        LinkedModule("k8s.io/api", "v0.35.4", "h1:abc="),
    ]
    data = sbom.write(SUBJECT, [], {}, modules=modules)
    assert data == sbom.write(SUBJECT, [], {}, modules=reversed(modules))
    (tmp_path / "x.spdx.json").write_bytes(data)
    document = _valid(tmp_path / "x.spdx.json")
    rows = {row["name"]: row for row in document["packages"]}
    assert len(document["packages"]) == 2 + 4
    assert rows["k8s.io/api"]["comment"] == "go.sum: h1:abc="
    assert {rows[one.path]["externalRefs"][0]["referenceLocator"] for one in modules} == {
        "pkg:golang/k8s.io/api@v0.35.4",
        "pkg:golang/github.com/azure/x@v1.0.0%2Bincompatible",
        "pkg:golang/github.com/azure-x@v1.0.0",
        "pkg:golang/stdlib@1.26.6",
    }
    kinds = {row["relationshipType"] for row in document["relationships"]}
    assert kinds == {"DESCRIBES", "CONTAINS", "GENERATED_FROM"}
