"""A Kubernetes to ask: an HTTPS server that wants a client certificate, and a socket that speaks as
much HTTP/2 as a health call needs."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from product.agent.tests.world import World

HOSTNAME = "Kubesolo-1"
NODE = "kubesolo-1"


class Authority:
    """A certificate authority, and what it signed."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key.public_key(), ca=True)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, *, expired: bool = False) -> tuple[bytes, bytes]:
        """Certificate and key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), ca=False, expired=expired)
        return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool, expired: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        end = now - datetime.timedelta(hours=1) if expired else now + datetime.timedelta(days=1)
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


class FakeApi:
    """``/readyz``, the nodes and the pods of kube-system; what they hold is set by the test."""

    def __init__(self, base: Path, *, authority: Authority, clients: Authority) -> None:
        self.ready = True
        self.silent = threading.Event()
        self.labels: dict[str, str] = {}
        self.boot_id = "boot-1"
        self.node_status = "True"
        self.nodes: list[dict[str, object]] | None = None
        self.pods: list[dict[str, object]] = []
        self.requests: list[str] = []
        self.connections = 0
        self.raw: bytes | None = None
        certificate, key = authority.issue("server")
        pem = base / "server.pem"
        pem.write_bytes(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.load_verify_locations(cadata=clients.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one packet, or the kernel waits 40 ms between them.
            wbufsize = 65536

            def setup(self) -> None:
                # Here and not at accept, so that a client that only knocks blocks nobody.
                self.request = context.wrap_socket(self.request, server_side=True)
                api.connections += 1
                super().setup()

            def do_GET(self) -> None:
                api.requests.append(self.path)
                while api.silent.is_set():
                    time.sleep(0.02)
                status, body = api.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """The tests' output is no place for it."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Refused handshakes are what some tests want."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self.silent.clear()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, bytes]:
        if self.raw is not None:
            return 200, self.raw
        if path == "/readyz":
            failed = b"[+]ping ok\n[-]etcd failed: reason withheld"
            return (200, b"ok") if self.ready else (500, failed)
        if path == "/api/v1/nodes":
            nodes = self.nodes if self.nodes is not None else [self.node()]
            return 200, json.dumps({"kind": "NodeList", "items": nodes}).encode()
        if path == "/api/v1/namespaces/kube-system/pods":
            return 200, json.dumps({"kind": "PodList", "items": self.pods}).encode()
        return 404, b"not found"

    def node(self, name: str = NODE) -> dict[str, object]:
        ready = {"type": "Ready", "status": self.node_status, "message": "the network is not set"}
        return {
            "metadata": {"name": name, "labels": self.labels},
            "status": {
                "conditions": [{"type": "DiskPressure", "status": "False"}, ready],
                "nodeInfo": {"bootID": self.boot_id},
            },
        }


def kubeconfig(port: int, authority: Authority, client: tuple[bytes, bytes]) -> dict[str, object]:
    """What the payload's set-up writes."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "admin",
        "contexts": [{"name": "admin", "context": {"cluster": "own", "user": "admin"}}],
        "clusters": [
            {
                "name": "own",
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority-data": encoded(authority.pem),
                },
            }
        ],
        "users": [
            {
                "name": "admin",
                "user": {
                    "client-certificate-data": encoded(client[0]),
                    "client-key-data": encoded(client[1]),
                },
            }
        ],
    }


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


# :status 200 from HPACK's static table.
ANSWER = frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x88")
HEALTH = {
    "serving": ANSWER + frame(0, 0, 1, b"\0\0\0\0\x02\x08\x01") + frame(1, 5, 1, b"\x88"),
    "not serving": ANSWER + frame(0, 0, 1, b"\0\0\0\0\x02\x08\x02") + frame(1, 5, 1, b"\x88"),
    "in pieces": ANSWER
    + frame(6, 0, 0, b"pingpong")
    + frame(0, 0, 1, b"\0\0\0")
    + frame(0, 1, 1, b"\0\x02\x08\x01"),
    "no health service": frame(4, 0, 0, b"") + frame(1, 5, 1, b"\x88"),
    "stopping": frame(4, 0, 0, b"") + frame(7, 0, 0, b"\0" * 8),
    "settings for ever": frame(4, 0, 0, b"") * 100,
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "closed": b"",
    "cut off": frame(4, 0, 0, b"")[:4],
}


class FakeContainerd:
    """A unix socket whose ``answer`` is one of HEALTH, or ``silence``."""

    def __init__(self, path: str) -> None:
        self.answer = "serving"
        self.heard = b""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        os.unlink(self._path)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, suppress(OSError):
                    connection.settimeout(2)
                    self.heard = connection.recv(65536)
                    connection.sendall(HEALTH.get(self.answer, b""))
                    if self.answer == "closed":
                        continue
                    while connection.recv(65536):
                        pass


class Cluster:
    """The Kubernetes of a World: an API server, containerd, and the files that lead to them."""

    def __init__(self, world: World, api: FakeApi, server: Authority, clients: Authority) -> None:
        self.world = world
        self.api = api
        self.config = kubeconfig(api.port, server, clients.issue("admin"))
        self.payload: dict[str, object] = {
            "schema": 1,
            "kind": "upstream",
            "version": "1",
            "kubernetes": "1.20.2",
            "services": ["containerd", "kubernetes"],
            "kubeconfig": "/var/lib/kubesolo/kubernetes/pki/admin.kubeconfig",
            # Short: a unix socket's path has 107 bytes.
            "containerd": "/c.sock",
            "datastore": {"path": "/var/lib/kubesolo/kubernetes/etcd", "service": "kubernetes"},
            "images": "",
        }
        self.write()
        self.containerd = FakeContainerd(world.paths.under("/c.sock"))

    def write(self) -> None:
        world = self.world
        world.write_file(world.paths.payload, json.dumps(self.payload))
        path = world.paths.under(str(self.payload["kubeconfig"]))
        world.write_file(path, json.dumps(self.config))
        world.write_file(world.paths.hostname, f"{HOSTNAME}\n")


def pod(
    name: str,
    *,
    phase: str = "Running",
    ready: bool = True,
    restarts: int = 0,
    waiting: str | None = None,
    owner: tuple[str, str] | None = None,
    labels: dict[str, str] | None = None,
    started: str = "2026-01-01T00:00:00Z",
) -> dict[str, object]:
    """A pod as the API server shows it; ``owner`` is kind and name of its controller."""
    state: dict[str, object] = {"running": {"startedAt": started}}
    if waiting:
        state = {"waiting": {"reason": waiting}}
    metadata: dict[str, object] = {"name": name, "uid": f"uid-{name}", "labels": labels or {}}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    container = {
        "name": "main",
        "ready": ready and not waiting,
        "restartCount": restarts,
        "containerID": f"containerd://{name}-{restarts}",
        "state": state,
    }
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": phase, "containerStatuses": [container]},
    }
