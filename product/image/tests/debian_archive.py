"""A Debian archive of a few packages: signed by a key of its own, served over HTTP.

Packages are tiny and real: apt resolves them, and the builders unpack them.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from product.image.mirror import Mirrors

SUITE = "trixie"
PROGRAMS = ("gpg", "apt-get", "apt-cache")


def lacking_programs() -> list[str]:
    """What this host lacks to make such an archive and resolve packages from it."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def make_deb(control: str, files: dict[str, bytes], *, data: bytes | None = None) -> bytes:
    """A package with these control fields and files; ``data`` is a tar in place of the files'."""

    def tar(members: dict[str, bytes]) -> bytes:
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                info.mode = 0o755
                archive.addfile(info, io.BytesIO(data))
        return gzip.compress(output.getvalue(), mtime=0)

    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tar({"./control": control.encode()}),
        "data.tar.gz": tar(files) if data is None else gzip.compress(data, mtime=0),
    }
    output = b"!<arch>\n"
    for name, data in parts.items():
        output += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        output += data + b"\n" * (len(data) % 2)
    return output


@dataclass(frozen=True, slots=True)
class Deb:
    """One package as the archive lists it."""

    name: str
    version: str
    relations: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    source: str = ""

    @property
    def control(self) -> str:
        """The control fields."""
        lines = [
            f"Package: {self.name}",
            f"Version: {self.version}",
            "Architecture: all",
            "Maintainer: Nobody <nobody@example.org>",
            "Description: for a test",
            *self.relations,
        ]
        return "\n".join(lines) + "\n"

    @property
    def content(self) -> bytes:
        """The file."""
        default = {f"./usr/share/{self.name}": self.version.encode()}
        return make_deb(self.control, self.files or default)

    @property
    def file(self) -> str:
        """Its name in the pool, where an epoch is left out."""
        return f"{self.name}_{self.version.rpartition(':')[2]}_all.deb"


HELLO = Deb("hello", "1.0-1", ("Depends: libgreet (>= 1.0)",))
LIBRARY = Deb("libgreet", "1.0-1")
# When the tests' recipe was locked.
STAMP = "20261130T120000Z"


class DebianArchive:
    """``debian`` and ``debian-security`` below ``root``; ``url`` is where they are served."""

    def __init__(self, root: Path, home: Path) -> None:
        """``home`` gets the key; its path must be short, because gpg's sockets lie there."""
        self.root = root
        self.url = ""
        self.asked: list[str] = []
        self.keyring = root / "archive.gpg"
        self._home = home
        self._listed: dict[str, list[Deb]] = {"debian": [], "debian-security": []}
        root.mkdir(parents=True)
        self._gpg(
            "--quick-generate-key", "--passphrase", "", "Test archive <test@example.org>",
            "ed25519", "sign", "never",
        )  # fmt: skip
        self.keyring.write_bytes(self._gpg("--export"))
        self.publish()

    def _gpg(self, *arguments: str, data: bytes | None = None) -> bytes:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--yes", "--quiet"]
        command += ["--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    @property
    def mirrors(self) -> Mirrors:
        """Both archives; no snapshot archive."""
        return Mirrors(f"{self.url}/debian", f"{self.url}/debian-security")

    @staticmethod
    def pool_path(deb: Deb, archive: str = "debian") -> str:
        """Where a package lies in ``archive``."""
        folder = "pool/updates" if archive == "debian-security" else "pool"
        return f"{folder}/main/{deb.name[0]}/{deb.source or deb.name}/{deb.file}"

    def place(self, deb: Deb, where: str, *, content: bytes | None = None) -> None:
        """Put a package's file below the root, without listing it."""
        path = self.root / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(deb.content if content is None else content)

    def add(self, deb: Deb, archive: str = "debian") -> None:
        """List a package in place of other versions, and put its file into the pool."""
        self._listed[archive] = [one for one in self._listed[archive] if one.name != deb.name]
        self._listed[archive].append(deb)
        self.place(deb, f"{archive}/{self.pool_path(deb, archive)}")
        self.publish()

    def reap(self, deb: Deb, archive: str = "debian") -> None:
        """Take a package's file out of the pool, and out of the index if it is there."""
        (self.root / archive / self.pool_path(deb, archive)).unlink()
        self._listed[archive] = [one for one in self._listed[archive] if one != deb]
        self.publish()

    def publish(self) -> None:
        """Write the indices and sign them."""
        for archive, suites in (
            ("debian", (SUITE, f"{SUITE}-updates")),
            ("debian-security", (f"{SUITE}-security",)),
        ):
            for suite in suites:
                listed = self._listed[archive] if not suite.endswith("-updates") else []
                self._publish(archive, suite, listed)

    def _publish(self, archive: str, suite: str, listed: list[Deb]) -> None:
        folder = self.root / archive / "dists" / suite
        text = "\n".join(
            f"{deb.control}Filename: {self.pool_path(deb, archive)}\nSize: {len(deb.content)}\n"
            f"SHA256: {hashlib.sha256(deb.content).hexdigest()}\n"
            for deb in listed
        )
        sums = ""
        for arch in ("amd64", "arm64"):
            name = f"main/binary-{arch}/Packages"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            sums += f" {digest} {len(text.encode())} {name}\n"
        release = (
            f"Origin: Debian\nLabel: Debian\nSuite: {suite}\nCodename: {suite}\n"
            f"Date: {formatdate(usegmt=True).replace('GMT', 'UTC')}\n"
            f"Architectures: amd64 arm64\nComponents: main\nSHA256:\n{sums}"
        )
        (folder / "InRelease").write_bytes(self._gpg("--clear-sign", data=release.encode()))

    @contextmanager
    def served(self) -> Iterator[DebianArchive]:
        """Serve the root on a port of this host; ``asked`` lists the paths of the pool."""
        asked, root = self.asked, str(self.root)

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=root)  # type: ignore[arg-type]

            def do_GET(self) -> None:
                if "/pool/" in self.path:
                    asked.append(self.path)
                super().do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
