"""``oras``, from the locked host programs: what speaks to registries for the publisher.

It knows every registry's ways to log in and finds credentials where ``docker login`` and
``oras login`` leave them, credential helpers included.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from product.release.errors import RegistryError

_NAME = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    r"(?P<registry>localhost(?=[:/])|[A-Za-z0-9.-]+\.[A-Za-z0-9-]+|[A-Za-z0-9.-]+(?=:\d)|"
    r"\[[0-9A-Fa-f:]+\])"
    r"(?P<port>:\d{1,5})?"
    rf"/(?P<name>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
)
# A manifest, or a file of metadata.
_MOST_BYTES = 16 << 20
# Where docker keeps the login of its own registry.
_DOCKER_HUB = "https://index.docker.io/v1/"
# What the program says, and what somebody can do about it.
_HINTS = (
    (r"HTTP response to HTTPS client", "if it has no TLS on purpose, add --plain-http"),
    (
        r"x509|certificate",
        "give the authority that signed the registry's certificate: --ca-file FILE",
    ),
    (
        r"40[13]|unauthorized|denied|credential|forbidden",
        "log in with docker login or oras login, or give --username and --password-stdin; "
        "the login must be allowed to push there",
    ),
    (
        r"refused|no such host|timeout|unreachable|lookup",
        "check the registry's address and the network",
    ),
)


class Reference(NamedTuple):
    """REGISTRY/NAME:TAG, a place in a registry."""

    registry: str
    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}:{self.tag}"

    @property
    def repository(self) -> str:
        """Without the tag."""
        return f"{self.registry}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """``text`` with ``latest`` for a tag that it does not name. Raises RegistryError."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise RegistryError(
                f"{text!r} is no place in a registry",
                hint="it must look like registry.example.com/kubesolo-os:stable, without https:// "
                "and in small letters",
            )
        registry = found["registry"] + (found["port"] or "")
        return cls(registry, found["name"], found["tag"] or "latest")


class Access(NamedTuple):
    """How to reach the registry; without a ``username``, logins of docker and oras count."""

    plain_http: bool = False
    ca_file: Path | None = None
    registry_config: Path | None = None
    username: str | None = None
    password: str | None = None


class NotThereError(RegistryError):
    """The registry answers, and has nothing under this name."""


class Oras:
    """Runs the program for one registry; made by ``oras``."""

    def __init__(self, tools: HostTools, access: Access, home: Path, config: Path | None) -> None:
        self._tools = tools
        self._access = access
        self._home = home
        self._config = config

    def manifest(self, reference: str) -> bytes:
        """The manifest or index under a name. Raises NotThereError, RegistryError."""
        return self._fetch("manifest", "fetch", *self._options(), reference)

    def blob(self, repository: str, digest: str) -> bytes:
        """A small blob, its digest verified. Raises NotThereError, RegistryError."""
        return self._fetch("blob", "fetch", *self._options(), "-o", "-", f"{repository}@{digest}")

    def copy(self, layout: Path, tag: str, reference: str, said: Callable[[str], None]) -> None:
        """Upload what a registry does not have yet of a layout; the tag moves last.

        ``said`` gets the program's lines. Raises RegistryError.
        """
        arguments = ["cp", "--no-tty", "--from-oci-layout", *self._options("--to-")]
        # oras 1.2 uploads a file that two manifests name twice at a time, which registries may
        # refuse, and crashes where two uploads fail at once.
        arguments += ["--concurrency", "1"]
        # A path as it may be has colons, which would be the tag's.
        arguments += [f"{layout.name}:{tag}", reference]
        with self._running(arguments, layout.parent) as output:
            for line in output:
                said(line.decode(errors="replace").rstrip())

    def fetch(self, reference: str, layout: Path, tag: str) -> None:
        """Copy what a name stands for, an index with all its images, into the folder ``layout``.

        Raises NotThereError, RegistryError.
        """
        arguments = ["cp", "--no-tty", "--to-oci-layout", *self._options("--from-")]
        with self._running([*arguments, reference, f"{layout.name}:{tag}"], layout.parent) as said:
            said.read()

    def _options(self, prefix: str = "--") -> list[str]:
        found = []
        if self._access.plain_http:
            found.append(f"{prefix}plain-http")
        if self._access.ca_file:
            found += [f"{prefix}ca-file", str(self._access.ca_file.absolute())]
        if self._config:
            found += [f"{prefix}registry-config", str(self._config.absolute())]
        return found

    def _fetch(self, *arguments: str) -> bytes:
        with self._running(list(arguments), self._home) as output:
            data = output.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise RegistryError(
                    f"the registry sent more than {_MOST_BYTES} bytes for {arguments[-1]}"
                )
        return data

    @contextmanager
    def _running(self, arguments: list[str], folder: Path) -> Iterator[BinaryIO]:
        """What the program prints; raises RegistryError where it fails in the end."""
        # A credential helper is a program of the user's, with the user's settings.
        environment = {"HOME": str(self._home), **os.environ, "LC_ALL": "C.UTF-8"}
        with (
            tempfile.TemporaryFile() as words,
            subprocess.Popen(
                self._tools.argv("oras", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                cwd=folder,
                env=environment,
            ) as process,
        ):
            assert process.stdout is not None  # a pipe
            try:
                yield cast(BinaryIO, process.stdout)
            except BaseException:
                process.kill()
                raise
            status = process.wait()
            words.seek(0)
            last = words.read().decode(errors="replace").strip()
        if status != 0:
            raise _error(last)


@contextmanager
def oras(access: Access, registry: str, folder: Path) -> Iterator[Oras]:
    """The program, with what it needs to log in; ``folder`` is for its temporary files.

    Raises RegistryError for settings that cannot be.
    """
    if (access.username is None) != (access.password is None):
        raise RegistryError(
            "a user name and a password belong together",
            hint="give both --username and --password-stdin, or none of them",
        )
    for what, path in (
        ("--ca-file", access.ca_file),
        ("--registry-config", access.registry_config),
    ):
        if path is not None and not path.is_file():
            raise RegistryError(f"{what} {path} is not a file")
    tools = HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")
    config = access.registry_config
    if access.username is not None:
        # Other users see the arguments of a program.
        config = folder / "login.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"auths": {_account(registry): _login(access)}}))
    try:
        yield Oras(tools, access, folder, config)
    finally:
        if access.username is not None and config is not None:
            config.unlink(missing_ok=True)


def _account(registry: str) -> str:
    hub = registry in ("docker.io", "registry-1.docker.io", "index.docker.io")
    return _DOCKER_HUB if hub else registry


def _login(access: Access) -> dict[str, str]:
    pair = f"{access.username}:{access.password}".encode()
    return {"auth": base64.b64encode(pair).decode()}


def _error(words: str) -> RegistryError:
    """What the program said as one line, without what it calls itself."""
    lines = [line for line in words.splitlines() if line.strip()]
    starts = ("Error", "panic: ", "fatal error: ")
    line = next((each for each in lines if each.startswith(starts)), lines[-1] if lines else "")
    text = re.sub(r"^Error( response from registry)?: ", "", line) or "it said nothing"
    kind = NotThereError if text.endswith(": not found") else RegistryError
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text)), None)
    return kind(f"oras failed: {text}", hint=hint)
