"""What a Go program is made of: its modules, for the SBOM, and their licence texts, for the image.

Go writes into each program the modules that its packages are from, with checksums as in go.sum.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from product.image.cache import Cache
from product.image.errors import LockError, ToolError
from product.image.golang.modules import GoCommand, GoModule
from product.image.golang.toolchain import Toolchain
from product.image.recipe import Arch
from product.image.tree import Tree

# Of Go's own library, as package URLs call it.
STANDARD_LIBRARY = "stdlib"
# Where an image has the texts.
DOC = "usr/share/doc/go-modules"
# Beside go.mod: texts of modules that have none, in folders named as the modules.
OWN_TEXTS = "licences"
_TEXT_NAME = re.compile(
    r"(LICEN[CS]ES?|COPYING|COPYRIGHT|NOTICE|PATENTS|UNLICENSE)([._-].*)?", re.IGNORECASE
)
_NO_TEXT = (".go", ".json", ".py", ".sh", ".yaml", ".yml", ".csv", ".tmpl", ".tpl")
# Of a licence's digest, how many hex digits name its file.
_DIGITS = 16
_DEPENDENCIES = (
    "{{with .Module}}{{with .Replace}}{{.Path}}\t{{.Version}}{{else}}{{.Path}}\t{{.Version}}"
    "{{end}}\t{{.Dir}}{{end}}\t{{.Dir}}"
)


class LinkedModule(NamedTuple):
    """A module that is part of a program; ``checksum`` is that of go.sum, ``h1:`` and base64."""

    path: str
    version: str
    checksum: str = ""

    @property
    def purl(self) -> str:
        """Its package URL, in small letters as the format asks for."""
        version = self.version.replace("+", "%2B")
        return f"pkg:golang/{self.path.lower()}@{version}"


def modules_of(programs: Iterable[Path], toolchain: Toolchain, cache: Cache) -> list[LinkedModule]:
    """The modules of ``programs`` in order, without those of this project, and Go's own library.

    Raises ToolError for a file that is no Go program.
    """
    go = GoCommand(toolchain, cache)
    found: set[LinkedModule] = set()
    for program in programs:
        ended, printed = go.ask(
            program.parent, ["version", "-m", "-json", str(program)], go.offline()
        )
        try:
            [built] = _documents(printed)
        except ValueError:
            raise ToolError(
                f"{program} does not say which Go modules it is made of: {ended.words}",
                hint="only a program that Go has built from modules does",
            ) from None
        for row in (built["Main"], *built.get("Deps", ())):
            row = row.get("Replace") or row
            # A module without a checksum is not fetched: the program's own.
            if row.get("Sum"):
                found.add(LinkedModule(row["Path"], row["Version"], row["Sum"]))
        found.add(LinkedModule(STANDARD_LIBRARY, built["GoVersion"].removeprefix("go")))
    return sorted(found)


def _documents(text: str) -> list[Any]:
    """JSON documents that follow one another. Raises ValueError."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


@dataclass(frozen=True, slots=True)
class LicenceTexts:
    """Texts by SHA-256, and which of them a module has, by its path and version."""

    texts: Mapping[str, bytes]
    modules: Mapping[tuple[str, str], tuple[str, ...]]

    def __or__(self, other: LicenceTexts) -> LicenceTexts:
        """Those of both; of a module that is in both, all texts."""
        modules = {
            key: tuple(dict.fromkeys((*self.modules.get(key, ()), *other.modules.get(key, ()))))
            for key in (*self.modules, *other.modules)
        }
        return LicenceTexts({**self.texts, **other.texts}, modules)

    def write(self, tree: Tree, folder: str = DOC) -> None:
        """``FOLDER/modules`` says which files of ``FOLDER/texts`` hold for which module."""
        for digest in sorted({one for used in self.modules.values() for one in used}):
            tree.write(f"{folder}/texts/{digest[:_DIGITS]}", self.texts[digest])
        rows = [
            f"{path} {version} {' '.join(digest[:_DIGITS] for digest in used)}\n"
            for (path, version), used in sorted(self.modules.items())
        ]
        tree.write(f"{folder}/modules", "".join(rows).encode())


def licence_texts(
    module: GoModule, cache: Cache, arch: Arch, packages: Sequence[str], tags: Iterable[str] = ()
) -> LicenceTexts:
    """The texts of all that ``packages``, built for ``arch``, are linked from.

    Of a module count the files of its top folder and those beside the packages that are linked.
    Raises LockError for a module without a text, and as ``GoModule.build``.
    """
    module.download(cache)
    toolchain = Toolchain.prepare(cache, module.toolchain)
    go = GoCommand(toolchain, cache)
    rows = module.query(
        go, "list", "-deps", "-tags", ",".join(tags), "-f", _DEPENDENCIES, *packages,
        environment=go.offline(arch),
    )  # fmt: skip
    files: dict[tuple[str, str], dict[Path, None]] = {}
    for row in rows.splitlines():
        path, _, rest = row.partition("\t")
        version, _, folders = rest.partition("\t")
        top, _, package = folders.partition("\t")
        # Go's library is no module here, and the program's own has no version.
        if path and version:
            found = files.setdefault((path, version), {})
            found.update(dict.fromkeys(_texts_between(Path(top), Path(package))))
    texts: dict[str, bytes] = {}
    modules: dict[tuple[str, str], tuple[str, ...]] = {}
    for key, paths in files.items():
        own = module.folder / OWN_TEXTS / key[0]
        contents = [path.read_bytes() for path in (*paths, *_texts_in(own))]
        if not contents:
            raise LockError(
                f"the Go module {key[0]} {key[1]} has no licence text",
                hint=f"look for it where the module comes from, and put it into {own}/LICENSE",
            )
        modules[key] = _named(contents, texts)
    modules[STANDARD_LIBRARY, module.toolchain.version] = _named([toolchain.licence], texts)
    return LicenceTexts(texts, modules)


def _named(contents: Iterable[bytes], texts: dict[str, bytes]) -> tuple[str, ...]:
    """The digests of ``contents``, which come into ``texts``; each once."""
    found = []
    for content in contents:
        digest = hashlib.sha256(content).hexdigest()
        texts[digest] = content
        found.append(digest)
    return tuple(dict.fromkeys(found))


def _texts_between(top: Path, package: Path) -> Iterator[Path]:
    """Licence texts in ``package`` and the folders above it, up to ``top``."""
    for folder in (package, *package.parents):
        yield from _texts_in(folder)
        if folder == top:
            return


def _texts_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if _TEXT_NAME.fullmatch(path.name) and path.suffix not in _NO_TEXT and path.is_file()
    )
