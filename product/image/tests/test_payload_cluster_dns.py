"""The debian payload's cluster DNS on this host: a real API server, questions over real sockets."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from product.image.cache import Cache
from product.image.payload.kubernetes_build import KubernetesBuild
from product.image.tests.test_payload_kubenode import PATIENCE, Plan, Running, _free_port
from product.image.tools import IMAGES, HostTools, host_arch

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 16, 28, 33, 41
SERVFAIL, NXDOMAIN, BADVERS = 2, 3, 16
# The server under test, another client of it, a nameserver, one that is silent.
HERE, POD, UPSTREAM, SILENT = "127.0.0.1", "127.0.1.9", "127.0.0.2", "127.0.0.3"
DOMAIN = "svc.cluster.local"


def _object(kind: str, name: str, **fields: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def _service(name: str, *ports: dict[str, object], **spec: object) -> dict[str, object]:
    return _object("Service", name, spec={"ports": list(ports), **spec})


def _endpoints(name: str, **subset: object) -> dict[str, object]:
    return _object("Endpoints", name, subsets=[subset])


SQL = {"name": "sql", "port": 5432}
OBJECTS = [
    _service(
        "web", {"name": "http", "port": 80}, {"name": "sync", "protocol": "UDP", "port": 81},
        clusterIP="10.96.0.80",
    ),
    _service("db", SQL, clusterIP="None"),
    _endpoints(
        "db", ports=[SQL],
        addresses=[{"ip": "10.244.0.7", "hostname": "db-0"}, {"ip": "10.244.0.8"}],
        notReadyAddresses=[{"ip": "10.244.0.9", "hostname": "db-2"}],
    ),
    _service("empty", {"port": 1}, clusterIP="None"),
    _service("out", type="ExternalName", externalName="host.example"),
    _service("round", type="ExternalName", externalName=f"web.default.{DOMAIN}"),
    _service("many", {"port": 1}, clusterIP="None"),
    _endpoints(
        "many", ports=[{"port": 1}], addresses=[{"ip": f"10.244.1.{n}"} for n in range(1, 101)]
    ),
]  # fmt: skip


def _name(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    while length := message[at]:
        if length >= 0xC0:
            target = struct.unpack_from(">H", message, at)[0] & 0x3FFF
            return ".".join([*labels, _read_name(message, target)[0]]), at + 2
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    return ".".join(labels), at + 1


class Reply(NamedTuple):
    """What came: records are (name, type, text)."""

    rcode: int
    truncated: bool
    answer: set[tuple[str, int, str]]
    authority: set[tuple[str, int, str]]
    more: set[tuple[str, int, str]]
    ttls: set[int]

    @property
    def texts(self) -> set[str]:
        """The answer without names and types."""
        return {text for _, _, text in self.answer}


def _text(message: bytes, at: int, rrtype: int, length: int) -> str:
    match rrtype:
        case 1:
            return socket.inet_ntoa(message[at : at + 4])
        case 2 | 5 | 12:
            return _read_name(message, at)[0]
        case 16:
            return message[at + 1 : at + length].decode()
        case 33:
            port = struct.unpack_from(">H", message, at + 4)[0]
            return f"{port} {_read_name(message, at + 6)[0]}"
        case _:
            return ""


def _parse(message: bytes) -> Reply:
    _, flags, questions, *counts = struct.unpack_from(">6H", message)
    at, extended = 12, 0
    for _ in range(questions):
        at = _read_name(message, at)[1] + 4
    sections: list[set[tuple[str, int, str]]] = []
    ttls = set()
    for count in counts:
        sections.append(set())
        for _ in range(count):
            name, at = _read_name(message, at)
            rrtype, _, ttl, length = struct.unpack_from(">HHIH", message, at)
            at += 10
            if rrtype == OPT:
                extended = ttl >> 24 << 4
            else:
                ttls.add(ttl)
            sections[-1].add((name, rrtype, _text(message, at, rrtype, length)))
            at += length
    answer, authority, more = sections
    return Reply(flags & 15 | extended, bool(flags & 0x200), answer, authority, more, ttls)


def _question(name: str, rrtype: int, edns: int | None, version: int = 0) -> bytes:
    message = struct.pack(">6H", 4711, 0x100, 1, 0, 0, edns is not None)
    message += _name(name) + struct.pack(">HH", rrtype, 1)
    if edns is not None:
        message += b"\0" + struct.pack(">HHIH", OPT, edns, version << 16, 0)
    return message


def _receive(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class Upstream:
    """A nameserver: big.example has 60 addresses, any other name one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.sizes: list[int] = []  # that clients say they can take
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((UPSTREAM, port))
        self._tcp = socket.create_server((UPSTREAM, port))
        self._threads = [threading.Thread(target=run) for run in (self._packets, self._streams)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for one in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def _answer(self, message: bytes) -> bytes:
        name, end = _read_name(message, 12)
        self.asked.append(name)
        if len(message) > end + 4:
            self.sizes.append(struct.unpack_from(">xHH", message, end + 4)[1])
        count = 60 if name.startswith("big") else 1
        head = message[:2] + struct.pack(">5H", 0x8180, 1, count, 0, 0) + message[12 : end + 4]
        records = [
            b"\xc0\x0c" + struct.pack(">HHIH4B", A, 1, 60, 4, 192, 0, 2, last + 1)
            for last in range(count)
        ]
        return head + b"".join(records)

    def _packets(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                message, client = self._udp.recvfrom(4096)
                if not message:
                    return
                answer = self._answer(message)
                # First a forged one, which no server may believe.
                self._udp.sendto(b"\0\0" + answer[2:-1] + b"\x42", client)
                self._udp.sendto(answer, client)

    def _streams(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._tcp.accept()
                with stream:
                    answer = self._answer(_receive(stream, struct.unpack(">H", stream.recv(2))[0]))
                    stream.sendall(struct.pack(">H", len(answer)) + answer)


class Cluster(NamedTuple):
    """A cluster DNS with its API server."""

    kubenode: Path
    plan: Plan
    port: int
    upstream: Upstream
    resolv_conf: Path

    def ask(
        self, name: str, rrtype: int = A, *, tcp: bool = False, edns: int | None = None,
        source: str = HERE, seconds: float = PATIENCE, version: int = 0,
    ) -> Reply:  # fmt: skip
        """The server's reply. Raises TimeoutError."""
        message = _question(name, rrtype, edns, version)
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as connection:
            connection.settimeout(seconds)
            connection.bind((source, 0))
            connection.connect((HERE, self.port))
            if tcp:
                connection.sendall(struct.pack(">H", len(message)) + message)
                length = struct.unpack(">H", _receive(connection, 2))[0]
                return _parse(_receive(connection, length))
            connection.send(message)
            return _parse(connection.recv(65536))

    def until(self, name: str, rcode: int) -> None:
        """Return when a question for ``name`` has this outcome."""
        end = time.monotonic() + PATIENCE
        while (reply := self.ask(name)).rcode != rcode:
            assert time.monotonic() < end, reply
            time.sleep(0.05)

    def nameservers(self, *servers: str) -> None:
        """Put another resolv.conf in place."""
        new = self.resolv_conf.with_suffix(".new")
        new.write_text("".join(f"nameserver {server}\n" for server in servers))
        new.rename(self.resolv_conf)


def _dns_line(folder: Path, port: int, upstream: int) -> str:
    return (
        f"cluster-dns --kubeconfig={folder}/kubeconfig --bind-address={HERE} --port={port}"
        f" --clients=127.0.1.0/24 --resolv-conf={folder}/resolv.conf --upstream-port={upstream}"
    )


def _kubeconfig(plan: Plan) -> str:
    ca, cert, key = (str(path) for path in plan.pki)
    server = {"server": f"https://127.0.0.1:{plan.api}", "certificate-authority": ca}
    user = {"client-certificate": cert, "client-key": key}
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": server}],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    })  # fmt: skip


@pytest.fixture(scope="module")
def kubenode(cache: Cache, host_tools: HostTools) -> Path:
    """The program for this host."""
    return KubernetesBuild(IMAGES).program(host_arch(), cache, host_tools)


@pytest.fixture(scope="module")
def cluster(kubenode: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster DNS that has answered for all of OBJECTS."""
    folder = tmp_path_factory.mktemp("dns")
    plan, port, above = Plan(folder), _free_port(), _free_port()
    (folder / "kubeconfig").write_text(_kubeconfig(plan))
    objects = {"apiVersion": "v1", "kind": "List", "items": OBJECTS}
    (folder / "objects").write_text(json.dumps(objects))
    upstream = Upstream(above)
    made = Cluster(kubenode, plan, port, upstream, folder / "resolv.conf")
    # Itself, which it must not ask, and where nobody answers, before the one that does.
    made.nameservers(HERE, SILENT, UPSTREAM)
    lines = [plan.tls, "openapi-delay 3600", plan.etcd_line(), plan.api_line(), plan.wait_line()]
    running = Running(kubenode, folder, *lines, _dns_line(folder, port, above))
    try:
        running.wait_for("cluster-dns listens")
        plan.kubectl(kubenode, "create", "--validate=false", "-f", str(folder / "objects"))
        for name in ("many", "round"):
            made.until(f"{name}.default.{DOMAIN}", 0)
        yield made
    finally:
        running.kill()
        upstream.close()


def test_what_the_specification_names_is_answered(cluster: Cluster) -> None:
    for name, rrtype, texts in (
        (f"web.default.{DOMAIN}", A, {"10.96.0.80"}),
        (f"WEB.Default.{DOMAIN.upper()}.", A, {"10.96.0.80"}),
        (f"_http._tcp.web.default.{DOMAIN}", SRV, {f"80 web.default.{DOMAIN}"}),
        (f"_sync._udp.web.default.{DOMAIN}", SRV, {f"81 web.default.{DOMAIN}"}),
        ("80.0.96.10.in-addr.arpa", PTR, {f"web.default.{DOMAIN}"}),
        (f"db.default.{DOMAIN}", A, {"10.244.0.7", "10.244.0.8"}),
        (f"db-0.db.default.{DOMAIN}", A, {"10.244.0.7"}),
        (f"10-244-0-8.db.default.{DOMAIN}", A, {"10.244.0.8"}),
        (
            f"_sql._tcp.db.default.{DOMAIN}",
            SRV,
            {f"5432 db-0.db.default.{DOMAIN}", f"5432 10-244-0-8.db.default.{DOMAIN}"},
        ),
        ("7.0.244.10.in-addr.arpa", PTR, {f"db-0.db.default.{DOMAIN}"}),
        (f"out.default.{DOMAIN}", CNAME, {"host.example"}),
        (f"out.default.{DOMAIN}", A, {"host.example", "192.0.2.1"}),
        (f"round.default.{DOMAIN}", A, {f"web.default.{DOMAIN}", "10.96.0.80"}),
        ("dns-version.cluster.local", TXT, {"1.1.0"}),
        ("cluster.local", NS, {"ns.dns.cluster.local"}),
    ):
        for tcp in (False, True):
            reply = cluster.ask(name, rrtype, tcp=tcp)
            assert (reply.rcode, reply.texts, reply.truncated) == (0, texts, False), name
            assert reply.ttls == {5} or "192.0.2.1" in texts
            if rrtype == SRV:
                targets = {text.split()[1] for text in texts}
                assert {host for host, kind, _ in reply.more if kind == A} == targets


def test_other_names_are_denied_for_five_seconds(cluster: Cluster) -> None:
    for name in (
        f"none.default.{DOMAIN}", f"empty.default.{DOMAIN}", f"db-2.db.default.{DOMAIN}",
        "web.default.cluster.local", "example.cluster.local", f"web.default.svc.{DOMAIN}",
        f"_none._tcp.web.default.{DOMAIN}",
    ):  # fmt: skip
        reply = cluster.ask(name)
        assert (reply.rcode, reply.answer) == (NXDOMAIN, set()), name
        assert (reply.authority, reply.ttls) == ({("cluster.local", SOA, "")}, {5})
    for name, rrtype in (
        (f"web.default.{DOMAIN}", AAAA), (f"web.default.{DOMAIN}", SRV), ("cluster.local", A),
        (f"_tcp.web.default.{DOMAIN}", A), (f"default.{DOMAIN}", A),
        (f"round.default.{DOMAIN}", AAAA),
    ):  # fmt: skip
        reply = cluster.ask(name, rrtype)
        assert (reply.rcode, {kind for _, kind, _ in reply.authority}) == (0, {SOA}), name
        assert {kind for _, kind, _ in reply.answer} <= {CNAME}
    assert not any(name.endswith("cluster.local") for name in cluster.upstream.asked)


def test_what_changes_is_followed(cluster: Cluster) -> None:
    arguments = ("service", "clusterip", "later", "--tcp=1:1", "-n", "default")
    cluster.plan.kubectl(cluster.kubenode, "create", *arguments)
    cluster.until(f"later.default.{DOMAIN}", 0)
    cluster.plan.kubectl(cluster.kubenode, "delete", "service", "later", "-n", "default")
    cluster.until(f"later.default.{DOMAIN}", NXDOMAIN)


def test_an_answer_is_cut_to_what_the_client_takes(cluster: Cluster) -> None:
    for name, count in ((f"many.default.{DOMAIN}", 100), ("big.example", 60)):
        short = cluster.ask(name)
        assert short.truncated
        assert len(short.answer) < 32
        for whole in (cluster.ask(name, tcp=True), cluster.ask(name, edns=4096)):
            assert (len(whole.answer), whole.truncated) == (count, False)
    # Clients that tell their size are told the server's.
    assert ("", OPT, "") in cluster.ask(f"web.default.{DOMAIN}", edns=1232).more
    assert cluster.ask(f"web.default.{DOMAIN}", edns=1232, version=1).rcode == BADVERS


def test_what_is_no_question_ends_nothing(cluster: Cluster) -> None:
    """All of Kubernetes is one process here: whoever ends the server ends the node's."""
    good = _question(f"web.default.{DOMAIN}", A, 1232)
    chance = random.Random(1)
    # A header that promises a question and ends; every part of a question; whatever.
    packets = [good[:length] for length in range(len(good))]
    packets += [chance.randbytes(chance.randrange(512)) for _ in range(500)]
    packets += [
        bytes(chance.randrange(256) if chance.random() < 0.1 else byte for byte in good)
        for _ in range(500)
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.connect((HERE, cluster.port))
        for packet in packets:
            connection.send(packet)
            time.sleep(0.001)
    for packet in packets[: len(good)]:
        with socket.create_connection((HERE, cluster.port), timeout=PATIENCE) as stream:
            stream.sendall(struct.pack(">H", len(packet)) + packet)
            stream.shutdown(socket.SHUT_WR)
            while stream.recv(4096):
                pass
    assert cluster.ask(f"web.default.{DOMAIN}").texts == {"10.96.0.80"}


def test_other_names_are_asked_of_the_nodes_servers(cluster: Cluster) -> None:
    for tcp in (False, True):
        reply = cluster.ask("host.example", tcp=tcp)
        assert (reply.rcode, reply.texts) == (0, {"192.0.2.1"})
    # Also what is below no name of the cluster's, as another's pointers are.
    before = len(cluster.upstream.asked)
    cluster.ask("9.0.244.10.in-addr.arpa", PTR)
    cluster.ask("xcluster.local")
    assert cluster.upstream.asked[before:] == ["9.0.244.10.in-addr.arpa", "xcluster.local"]


def test_a_server_that_does_not_answer_is_given_up(cluster: Cluster) -> None:
    with contextlib.ExitStack() as stack:
        for address in (SILENT, HERE):
            silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            silent.bind((address, cluster.upstream.port))
        cluster.nameservers(SILENT, UPSTREAM)
        stack.callback(cluster.nameservers, HERE, SILENT, UPSTREAM)
        began = time.monotonic()
        assert cluster.ask("slow.example").texts == {"192.0.2.1"}
        assert time.monotonic() - began < 4
        cluster.nameservers(SILENT)
        began = time.monotonic()
        assert cluster.ask("slow.example").rcode == SERVFAIL
        assert 4 < time.monotonic() - began < 8
        # As many questions as it has room for, and more.
        crowd = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(300)]
        for one in crowd:
            stack.enter_context(one)
            one.connect((HERE, cluster.port))
            one.send(_question("slow.example", A, None))
            # The socket's buffer holds fewer.
            time.sleep(0.003)
        began = time.monotonic()
        assert cluster.ask("slow.example").rcode == SERVFAIL
        assert cluster.ask(f"web.default.{DOMAIN}").texts == {"10.96.0.80"}
        assert time.monotonic() - began < 3
        time.sleep(5)
        # Nobody at all, and only itself: known at once.
        for servers in ((), (HERE,)):
            cluster.nameservers(*servers)
            began = time.monotonic()
            assert cluster.ask("slow.example").rcode == SERVFAIL
            assert time.monotonic() - began < 3


def test_only_the_node_and_its_pods_are_answered(cluster: Cluster) -> None:
    name = f"web.default.{DOMAIN}"
    assert cluster.ask(name, source=POD).texts == {"10.96.0.80"}
    stranger = "127.0.2.9"
    with pytest.raises(TimeoutError):
        cluster.ask(name, source=stranger, seconds=1)
    with pytest.raises((EOFError, ConnectionError)):
        cluster.ask(name, source=stranger, tcp=True)
    # Nor is what the server would not even look at.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(1)
        connection.bind((stranger, 0))
        connection.sendto(_question(name, A, None)[:12], (HERE, cluster.port))
        with pytest.raises(TimeoutError):
            connection.recv(512)


def test_a_server_is_told_no_more_than_it_needs(cluster: Cluster) -> None:
    """Nor is an answer asked of it that is larger than what is read."""
    assert cluster.ask("host.example", edns=65000).texts == {"192.0.2.1"}
    assert cluster.upstream.sizes[-1] == 4096


def test_before_it_knows_the_services_it_denies_none(kubenode: Path, tmp_path: Path) -> None:
    plan, port, above = Plan(tmp_path), _free_port(), _free_port()
    (tmp_path / "kubeconfig").write_text(_kubeconfig(plan))
    upstream = Upstream(above)
    cluster = Cluster(kubenode, plan, port, upstream, tmp_path / "resolv.conf")
    cluster.nameservers(UPSTREAM)
    running = Running(kubenode, tmp_path, _dns_line(tmp_path, port, above))
    try:
        running.wait_for("cluster-dns listens")
        for name in (f"web.default.{DOMAIN}", f"none.default.{DOMAIN}"):
            assert cluster.ask(name).rcode == SERVFAIL
        assert cluster.ask("host.example").texts == {"192.0.2.1"}
    finally:
        running.kill()
        upstream.close()


def test_without_its_address_it_says_so_and_waits(cluster: Cluster, tmp_path: Path) -> None:
    """Somebody who has the port is not the end of Kubernetes, by which he can be deleted."""
    port = _free_port()
    (tmp_path / "kubeconfig").write_text(_kubeconfig(cluster.plan))
    (tmp_path / "resolv.conf").touch()
    taken = socket.create_server((HERE, port))
    running = Running(cluster.kubenode, tmp_path, _dns_line(tmp_path, port, 53))
    try:
        running.wait_for(
            f"cluster-dns waits for its address: listen tcp {HERE}:{port}: bind: address already"
        )
        taken.close()
        running.wait_for("cluster-dns listens")
    finally:
        taken.close()
        running.kill()
