"""A registry on loopback, as real ones answer, that can be told to misbehave.

It speaks as much of the OCI distribution specification as a client that pulls needs. A behaviour of
support_http answers one request in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from product.agent.tests import support_http as http

NAME = "group/kubesolo-os"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
RELEASE = "application/vnd.kubesolo.os.release.v1"
METADATA = "application/vnd.kubesolo.os.metadata.v1"
TITLE = "org.opencontainers.image.title"
PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64"}
LOGIN = ("node-7", "pass:w\u00f6rd")
BASIC = f"Basic {b64encode(':'.join(LOGIN).encode()).decode()}"


def digest(data: bytes) -> str:
    """As registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Content:
    """What is pushed: blobs by digest, manifests by digest and by tag."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.referrers: dict[str, list[dict[str, Any]]] = {}

    def blob(self, data: bytes, media_type: str, title: str | None = None) -> dict[str, Any]:
        """Its descriptor."""
        self.blobs[digest(data)] = data
        row: dict[str, Any] = {
            "mediaType": media_type, "digest": digest(data), "size": len(data)
        }  # fmt: skip
        return row | ({"annotations": {TITLE: title}} if title else {})

    def raw(self, data: bytes, media_type: str, *tags: str) -> dict[str, Any]:
        """The descriptor of any bytes as a manifest."""
        for reference in (digest(data), *tags):
            self.manifests[reference] = (media_type, data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def image(
        self, kind: str | None, layers: list[dict[str, Any]], *tags: str, **more: Any
    ) -> dict[str, Any]:
        """The descriptor of an image manifest of that artifact type."""
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": self.blob(b"{}", EMPTY), "layers": layers, **more,
        }  # fmt: skip
        if kind is None:
            del document["artifactType"]
        made = self.raw(json.dumps(document).encode(), MANIFEST, *tags)
        return made | ({"artifactType": kind} if kind else {})

    def index(self, rows: list[dict[str, Any]], *tags: str, **more: Any) -> dict[str, Any]:
        """The descriptor of an index."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows, **more}
        return self.raw(json.dumps(document).encode(), INDEX, *tags)

    def push(self, files: dict[str, bytes], tag: str = "latest") -> dict[str, Any]:
        """A release repository as ``kubesolo-release push`` leaves it; the index' descriptor."""
        small = [
            self.blob(data, f"{METADATA}+json", path)
            for path, data in files.items()
            if not path.startswith("artifacts/")
        ]
        rows = []
        for path, data in files.items():
            if not path.startswith("targets/"):
                continue
            _, channel, architecture, name = path.split("/")
            layers = [
                self.blob(files[f"artifacts/{row['sha256']}"], "application/x", row["name"])
                for row in json.loads(data).get("artifacts", [])
            ]
            layers.append(
                self.blob(
                    data, "application/vnd.kubesolo.os.manifest.v1+json", name.partition(".")[2]
                )
            )
            platform = {"architecture": PLATFORMS[architecture], "os": "linux"}
            said = {"io.kubesolo.os.channel": channel, "io.kubesolo.os.architecture": architecture}
            row = self.image(RELEASE, layers, annotations=said)
            rows.append(row | {"platform": platform, "annotations": said})
        for path, data in files.items():
            if path.startswith("artifacts/"):
                self.blob(data, "application/x")
        return self.index([*rows, self.image(METADATA, small)], tag)

    def push_plainly(self, files: dict[str, bytes], tag: str = "latest") -> dict[str, Any]:
        """The same as ``oras push`` of all files leaves it."""
        layers = [self.blob(data, "application/vnd.oci.image.layer.v1.tar", path)
                  for path, data in files.items()]  # fmt: skip
        return self.image("application/vnd.unknown.artifact.v1", layers, tag)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a repository, by their paths in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parts[len(folder.parts)] in ("metadata", "targets", "artifacts")
    }


class Server(http.Server):
    """``challenges`` are what an unknown client is answered, which then must show ``accepted``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.RequestHandlerClass = Handler
        self.content = Content()
        self.tls = False
        self.challenges: list[str] = []
        # Values of Authorization, each with the number of requests that it is good for.
        self.accepted: dict[str, int] = {}
        # Who gets a token; None: everybody.
        self.token_login: str | None = None
        self.token_key = "token"
        self.token_uses = 1_000_000
        self.tokens = 0
        self.token_queries: list[dict[str, list[str]]] = []
        self.has_referrers = True
        self.wants_accept = (INDEX, MANIFEST)

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:" if self.tls else "http:")

    @property
    def place(self) -> str:
        """What ``registry=`` names."""
        return f"{self.url}/{NAME}" if not self.tls else f"{self.url[8:]}/{NAME}"

    def ask_for_token(self, realm: str | None = None, scope: str | None = None) -> None:
        """Demand a bearer token of ``realm``, which is this server's own if nothing is said."""
        said = f'Bearer realm="{realm or self.url + "/token"}",service="registry.test"'
        self.challenges = [said if scope is None else f'{said},scope="{scope}"']

    def ask_for_password(self) -> None:
        """Demand the login."""
        self.challenges = ['Basic realm="releases"']
        self.accepted[BASIC] = 1_000_000


class Handler(http.Handler):
    """Answers GET as the distribution specification has it; HEAD is refused, as some do."""

    server: Server

    def do_GET(self) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(span[1]) if span else None
        self.open_range = bool(span and not span[2])
        self.server.seen.append((self.path, start))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, data, kind = self._find()
        for pattern, behaviour, left in self.server.misbehaviours:
            if left[0] > 0 and pattern.search(self.path):
                left[0] -= 1
                behaviour(self, data, start or 0)
                return
        if self.path.startswith("/token"):
            self._give_token()
        elif not self._known():
            self._refuse(401, "UNAUTHORIZED")
        elif status != 200:
            self._refuse(status, kind)
        elif start is None:
            self.answer(200, data, {"Content-Type": kind})
        elif start >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        else:
            part = data[start : int(span[2]) + 1 if span and span[2] else len(data)]
            self.answer(206, part, {"Content-Range": http.content_range(start, part, data)})

    def _known(self) -> bool:
        if not self.server.challenges:
            return True
        shown = self.headers.get("Authorization") or ""
        left = self.server.accepted.get(shown, 0)
        self.server.accepted[shown] = left - 1
        return left > 0

    def _give_token(self) -> None:
        self.server.token_queries.append(parse_qs(urlsplit(self.path).query))
        wanted = self.server.token_login
        if wanted is not None and self.headers.get("Authorization") != wanted:
            self._refuse(401, "UNAUTHORIZED")
            return
        self.server.tokens += 1
        token = f"token-{self.server.tokens}"
        self.server.accepted[f"Bearer {token}"] = self.server.token_uses
        self.answer(200, json.dumps({self.server.token_key: token, "expires_in": 60}).encode())

    def _refuse(self, status: int, code: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
        self.send_response(status)
        if status == 401:
            for challenge in self.server.challenges:
                self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _find(self) -> tuple[int, bytes, str]:
        """Status, body, and its type or the error's code."""
        parts = urlsplit(self.path)
        found = re.fullmatch(rf"/v2/{NAME}/(blobs|manifests|referrers)/(.+)", parts.path)
        if found is None:
            return 404, b"", "NAME_UNKNOWN"
        kind, reference = found.groups()
        content = self.server.content
        if kind == "blobs":
            data = content.blobs.get(reference)
            return (404, b"", "BLOB_UNKNOWN") if data is None else (200, data, "application/x")
        if kind == "referrers":
            return self._referrers(reference, parse_qs(parts.query))
        accept = self.headers.get("Accept") or ""
        if reference not in content.manifests or any(
            kind not in accept for kind in self.server.wants_accept
        ):
            return 404, b"", "MANIFEST_UNKNOWN"
        media_type, data = content.manifests[reference]
        return 200, data, media_type

    def _referrers(self, reference: str, query: dict[str, list[str]]) -> tuple[int, bytes, str]:
        if not self.server.has_referrers:
            return 404, b"", "NOT_FOUND"
        rows = self.server.content.referrers.get(reference, [])
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}
        return 200, json.dumps(document).encode(), INDEX


@contextlib.contextmanager
def serve(directory: Path, certificate: Path | None = None) -> Iterator[Server]:
    """Serve while the block runs, by TLS with a certificate."""
    with Server(directory) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.tls = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
