"""A proxy of Go modules in a folder, and a module that is built from it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

LICENCE = b"Everybody may do with this greeting what they want.\n"
GREETING = "example.com/Greeting"


def _hash(files: Mapping[str, bytes]) -> str:
    """Go's ``h1`` checksum of files."""
    rows = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "h1:" + base64.b64encode(hashlib.sha256(rows.encode()).digest()).decode()


class GoProxy:
    """The folder ``root``, as a proxy of modules serves it; ``url`` is for GOPROXY."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir()
        # Module and version to its lines in a go.sum.
        self.sums: dict[tuple[str, str], str] = {}

    @property
    def url(self) -> str:
        return f"file://{self.root}"

    def place(self, module: str, version: str, suffix: str) -> Path:
        """Where a file of a version lies; Go writes ``!a`` for ``A``."""
        escaped = "".join(f"!{one.lower()}" if one.isupper() else one for one in module)
        return self.root / escaped / "@v" / f"{version}.{suffix}"

    def add(
        self, module: str, version: str, files: Mapping[str, str | bytes], *, go: str = "1.25",
        requires: str = "",
    ) -> None:  # fmt: skip
        """Publish a version; ``requires`` are more lines of its go.mod."""
        mod = f"module {module}\n\ngo {go}\n{requires}".encode()
        content = {
            name: data.encode() if isinstance(data, str) else data for name, data in files.items()
        }
        content = {f"{module}@{version}/{name}": data for name, data in content.items()}
        content[f"{module}@{version}/go.mod"] = mod
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as made:
            for name, data in sorted(content.items()):
                made.writestr(zipfile.ZipInfo(name), data)
        self.place(module, version, "zip").parent.mkdir(parents=True, exist_ok=True)
        self.place(module, version, "zip").write_bytes(archive.getvalue())
        self.place(module, version, "mod").write_bytes(mod)
        info = {"Version": version, "Time": "2026-11-01T00:00:00Z"}
        self.place(module, version, "info").write_text(json.dumps(info))
        with (self.place(module, version, "zip").parent / "list").open("a") as file:
            file.write(f"{version}\n")
        self.sums[module, version] = (
            f"{module} {version} {_hash(content)}\n"
            f"{module} {version}/go.mod {_hash({'go.mod': mod})}\n"
        )

    def add_greeting(self, version: str = "v1.0.0", text: str = "hello") -> None:
        """A library with a licence that says ``text``."""
        code = f'package greeting\n\nvar Text = "{text}"\n'
        self.add(GREETING, version, {"greeting.go": code, "LICENSE": LICENCE})


def make_module(
    folder: Path, proxy: GoProxy, *needs: tuple[str, str], go: str = "1.25", main: str = ""
) -> Path:
    """A module with a program that prints the greeting of what it ``needs``."""
    folder.mkdir(parents=True)
    needs = needs or ((GREETING, "v1.0.0"),)
    requires = "".join(f"\t{name} {version}\n" for name, version in needs)
    (folder / "go.mod").write_text(
        f"module example.com/program\n\ngo {go}\n\nrequire (\n{requires})\n"
    )
    (folder / "go.sum").write_text("".join(proxy.sums.get(one, "") for one in needs))
    (folder / "main.go").write_text(
        main
        or f'package main\n\nimport greeting "{GREETING}"\n\nvar mark = "none"\n\n'
        "func main() { println(greeting.Text, mark) }\n"
    )
    return folder
