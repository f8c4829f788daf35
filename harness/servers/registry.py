"""Debian's ``docker-registry`` as a context manager: a real OCI registry on loopback.

A supervisor of its own ends it with its process group, however the test or the runner ends, and
removes its storage. A guest with QEMU's user network reaches it at 10.0.2.2.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import bcrypt

from harness.deadline import Deadline
from harness.errors import LaunchError
from harness.journal.journal import Journal
from harness.profile import chosen
from harness.qemu.process import Process
from harness.tools import HostTools

GUEST_ADDRESS = "10.0.2.2"
_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_LISTENING = re.compile(r"listening on [\d.]+:(?P<port>\d+)")
# The combined format of Apache's logs.
_ACCESS = re.compile(
    r'^\S+ - \S+ \[[^]]+\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" '
    r"(?P<status>\d{3}) (?P<size>\d+)",
    re.MULTILINE,
)


class Login(NamedTuple):
    """Who may read and write; everybody else gets 401 with a Basic challenge."""

    username: str
    password: str


class Tls(NamedTuple):
    """PEM files. With ``client_ca``, only clients with a certificate of that authority get in."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Access(NamedTuple):
    """One request as the registry logged it; ``size`` counts the bytes of the answer's body."""

    method: str
    path: str
    status: int
    size: int


class Registry:
    """An empty registry while the context lasts; ``stop`` and ``start`` keep its content.

    ``port`` 0 takes a free one, which a later ``start`` takes again. ``tools`` have the programs
    and ``runs`` is where its content lies, by default those of the project's profile.
    """

    def __init__(
        self,
        *,
        login: Login | None = None,
        tls: Tls | None = None,
        port: int = 0,
        tools: HostTools | None = None,
        runs: Path | None = None,
    ) -> None:
        self._tools = tools
        self._runs = runs or chosen().cache() / "runs"
        self._login = login
        self._tls = tls
        self._process: Process | None = None
        self._read_from = 0
        self.port = port

    @property
    def host(self) -> str:
        """ADDRESS:PORT for programs on this host."""
        return f"127.0.0.1:{self.port}"

    @property
    def guest_host(self) -> str:
        """ADDRESS:PORT for a guest with QEMU's user network."""
        return f"{GUEST_ADDRESS}:{self.port}"

    @property
    def url(self) -> str:
        """The address with its scheme, for programs on this host."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def storage(self) -> Path:
        """The directory of its content, while it runs."""
        return self._running.directory / "storage"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise LaunchError("the registry is not running: use it as a context manager")
        return self._process

    def __enter__(self) -> Self:
        if self._tools is None:
            self._tools = chosen().tools("registry")
        self._process = Process(self._runs, Journal("registry"), lambda: None, "docker-registry")
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it and remove its content."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def start(self) -> None:
        """Run it, on what an earlier run stored. Raises LaunchError."""
        process = self._running
        configuration = process.directory / "config.json"
        configuration.write_text(json.dumps(self._configuration(process.directory), indent=1))
        assert self._tools is not None  # made by __enter__
        self._read_from = len(process.last_words())
        deadline = Deadline.after(_START_SECONDS)
        # Nothing of the runner's own environment may be a setting of the registry.
        argv = ["/usr/bin/env", "-i", "OTEL_TRACES_EXPORTER=none"]
        argv += self._tools.argv("docker-registry", "serve", str(configuration))
        process.start(argv, [], deadline)
        while True:
            words = process.last_words()[self._read_from :]
            if found := _LISTENING.search(words):
                self.port = int(found["port"])
                return
            if process.pid is None or deadline.passed:
                why = "ended" if process.pid is None else "does not listen yet"
                raise LaunchError(
                    f"docker-registry {why} on port {self.port or 'of its choice'}: {words[-1000:]}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it at once and keep its content: clients see a server that is not there."""
        if self._running.pid is not None:
            self._running.kill(Deadline.after(_START_SECONDS))

    def requests(self) -> Sequence[Access]:
        """What was asked of it since it was entered, oldest first."""
        return [
            Access(found["method"], found["path"], int(found["status"]), int(found["size"]))
            for found in _ACCESS.finditer(self._running.last_words())
        ]

    def _configuration(self, directory: Path) -> dict[str, Any]:
        """The file of docker-registry; JSON is YAML."""
        http: dict[str, Any] = {
            "addr": self.host,
            "secret": "one registry of a test needs none",
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        }
        if self._tls:
            http["tls"] = {
                "certificate": str(self._tls.certificate),
                "key": str(self._tls.key),
            }
            if self._tls.client_ca:
                http["tls"]["clientcas"] = [str(self._tls.client_ca)]
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(directory / "storage")},
                "delete": {"enabled": True},
            },
            "http": http,
        }
        if self._login:
            entries = directory / "htpasswd"
            entries.write_text(_htpasswd(self._login))
            settings["auth"] = {"htpasswd": {"realm": "releases", "path": str(entries)}}
        return settings


def _htpasswd(login: Login) -> str:
    """The only form that docker-registry reads is bcrypt's; the least work is enough for a test."""
    hashed = bcrypt.hashpw(login.password.encode(), bcrypt.gensalt(4))
    return f"{login.username}:{hashed.decode()}\n"
