"""The program of the debian payload, run on this host: real components, plans right and wrong."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from product.image.cache import Cache
from product.image.payload.kubernetes_build import KubernetesBuild
from product.image.tools import IMAGES, HostTools, host_arch

# Seconds; generous, because the machine may be busy.
PATIENCE = 120.0


@pytest.fixture(scope="module")
def kubenode(cache: Cache, host_tools: HostTools) -> Path:
    """The program for this host."""
    return KubernetesBuild(IMAGES).program(host_arch(), cache, host_tools)


def _run(program: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *args], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_kubectl_says_its_version(kubenode: Path, tmp_path: Path) -> None:
    (tmp_path / "kubectl").symlink_to(kubenode)
    words = ("version", "--client", "-o", "json")
    for result in (_run(kubenode, "kubectl", *words), _run(tmp_path / "kubectl", *words)):
        assert json.loads(result.stdout)["clientVersion"]["gitVersion"] == "v1.20.2"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("", "starts nothing"),
        ("# etcd\n", "starts nothing"),
        (
            "etcd\nfrobnicate --x\n",
            'line 2: "frobnicate" is neither a component nor an instruction',
        ),
        ("etcd\netcd\n", "line 2: etcd is there twice"),
        ("wait https://localhost 5\n", "wait for https needs a tls line before it"),
        ("tls a b\n", "tls takes CA CERT KEY"),
        ("wait unix:///x forever\n", "wait takes URL SECONDS"),
        ("wait unix:///x -1\n", "wait takes URL SECONDS"),
        ("wait http://localhost 5\n", "is neither https://... nor unix://PATH"),
        ("tls a b c\nready n 5\n", "ready needs a wait for https before it"),
        ("tls a b c\nready n 5 file\n", "ready takes NODE SECONDS [FILE TEXT...]"),
        ("openapi-delay soon\n", "openapi-delay takes SECONDS"),
        ("gc-after-ready 0\n", "gc-after-ready takes PERCENT"),
    ],
)
def test_a_plan_that_is_wrong_starts_nothing(
    kubenode: Path, tmp_path: Path, plan: str, words: str
) -> None:
    (tmp_path / "plan").write_text(plan)
    result = _run(kubenode, "all", tmp_path / "plan")
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "etcd").exists()


def test_wrong_commands_are_one_error(kubenode: Path, tmp_path: Path) -> None:
    for arguments in ([], ["frobnicate"], ["all"], ["all", tmp_path / "none"]):
        result = _run(kubenode, *arguments)
        assert result.returncode == 2
        assert "goroutine" not in result.stderr
    result = _run(kubenode, "etcd", f"--data-dir={tmp_path}/etcd", "--listen-client-urls=ftp://x")
    assert result.returncode == 1
    assert re.search("kubenode: etcd ended: .*scheme", result.stderr)


class Pki(NamedTuple):
    """Paths of a CA's certificate and of what it signed."""

    ca: Path
    cert: Path
    key: Path


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _certificates(folder: Path) -> Pki:
    """A CA, and one certificate for server and client: an administrator's."""
    folder.mkdir()
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
            x509.NameAttribute(NameOID.COMMON_NAME, "admin"),
        ]
    )

    def sign(name: x509.Name, public: ec.EllipticCurvePublicKey, ca: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if not ca:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    pki = Pki(folder / "ca.crt", folder / "admin.crt", folder / "admin.key")
    pki.ca.write_bytes(sign(issuer, ca_key.public_key(), ca=True))
    pki.cert.write_bytes(sign(subject, key.public_key(), ca=False))
    pki.key.write_bytes(_pem(key))
    return pki


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Plan:
    """etcd and an API server on free ports below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pki = _certificates(folder / "pki")
        self.etcd, self.api = _free_port(), _free_port()
        self.socket = folder / "etcd.sock"

    @property
    def tls(self) -> str:
        return f"tls {self.pki.ca} {self.pki.cert} {self.pki.key}"

    def etcd_line(self) -> str:
        return f"etcd --data-dir={self.folder}/etcd --listen-client-urls=unix://{self.socket}"

    def etcd_port_line(self) -> str:
        ca, cert, key = self.pki
        return (
            f"etcd --data-dir={self.folder}/etcd --listen-client-urls=https://127.0.0.1:{self.etcd}"
            f" --cert-file={cert} --key-file={key} --trusted-ca-file={ca} --client-cert-auth"
        )

    def api_line(self) -> str:
        ca, cert, key = self.pki
        return (
            f"kube-apiserver --etcd-servers=unix://{self.socket} --secure-port={self.api}"
            f" --advertise-address=127.0.0.1 --anonymous-auth=false --tls-cert-file={cert}"
            f" --tls-private-key-file={key} --client-ca-file={ca} --authorization-mode=RBAC"
            f" --service-account-key-file={cert} --service-account-signing-key-file={key}"
            " --service-account-issuer=https://kubernetes.default.svc"
            " --service-cluster-ip-range=10.96.0.0/16 --endpoint-reconciler-type=none"
        )

    def wait_line(self, path: str = "readyz", seconds: float = PATIENCE) -> str:
        return f"wait https://127.0.0.1:{self.api}/{path} {seconds}"

    def kubectl(self, kubenode: Path, *args: str) -> str:
        ca, cert, key = self.pki
        result = _run(
            kubenode, "kubectl", f"--server=https://127.0.0.1:{self.api}",
            f"--certificate-authority={ca}", f"--client-certificate={cert}", f"--client-key={key}",
            f"--cache-dir={self.folder}/kubectl", *args,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path)


class Running:
    """A started program whose standard error goes to a file."""

    def __init__(self, kubenode: Path, folder: Path, *lines: str) -> None:
        (folder / "plan").write_text("\n".join(lines) + "\n")
        self.log = folder / "log"
        with self.log.open("w") as stream:
            command = [str(kubenode), "all", str(folder / "plan")]
            # Where it is killed its socket stays; pytest's own folders have names too long for one.
            self._scratch = tempfile.TemporaryDirectory(prefix="kubesolo-test-")
            self.process = subprocess.Popen(
                command,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"TMPDIR": self._scratch.name},
            )

    def said(self) -> list[str]:
        """The program's own lines."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith("kubenode: ")]

    def wait_for(self, words: str) -> None:
        end = time.monotonic() + PATIENCE
        while not any(words in line for line in self.said()):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, f"{words!r} did not come: {self.said()}"
            time.sleep(0.05)

    def ended(self) -> int:
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it if it has not ended, and remove what it left."""
        self.process.kill()
        self.process.wait()
        self._scratch.cleanup()


Start = Callable[..., Running]


@pytest.fixture
def start(kubenode: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def run(*lines: str) -> Running:
        started.append(Running(kubenode, tmp_path, *lines))
        return started[-1]

    yield run
    for one in started:
        one.kill()


def test_what_was_written_outlives_a_stop_and_a_kill(
    kubenode: Path, plan: Plan, start: Start
) -> None:
    lines = [plan.tls, "openapi-delay 3600", plan.etcd_line(), plan.api_line(), plan.wait_line()]
    first = start(*lines)
    first.wait_for("readyz answers")
    # Asked for before its time, the API's description is there: kubectl checks against it.
    assert "default" in plan.kubectl(kubenode, "explain", "namespace.metadata.namespace")
    plan.kubectl(kubenode, "create", "configmap", "one", "-n", "default", "--from-literal=a=1")
    asked = time.monotonic()
    first.process.terminate()
    assert first.ended() == 0, first.said()
    assert time.monotonic() - asked < 10
    assert first.said()[-2:] == ["kubenode: stopping: terminated", "kubenode: stopped"]

    second = start(*lines)
    second.wait_for("readyz answers")
    plan.kubectl(kubenode, "create", "configmap", "two", "-n", "default", "--from-literal=b=2")
    os.kill(second.process.pid, signal.SIGKILL)
    second.ended()

    third = start(*lines)
    third.wait_for("readyz answers")
    names = plan.kubectl(kubenode, "get", "configmap", "-n", "default", "-o", "name").split()
    assert {"configmap/one", "configmap/two"} <= set(names)


def test_a_component_that_ends_is_named_and_ends_the_rest(
    plan: Plan, start: Start, tmp_path: Path
) -> None:
    none = tmp_path / "none"
    for lines, code, words in [
        ([plan.etcd_line() + " --frobnicate"], 11, "etcd ended: .*frobnicate"),
        (
            [plan.etcd_line(), "kube-apiserver --frobnicate"],
            12,
            "kube-apiserver ended: unknown flag",
        ),
        (
            [f"kube-controller-manager --kubeconfig={none}"],
            13,
            "kube-controller-manager ended: .*no such file",
        ),
        ([f"kube-scheduler --kubeconfig={none}"], 14, "kube-scheduler ended: .*no such file"),
        ([f"kubelet --config={none}"], 15, "kubelet ended: .*no such file"),
        ([f"kube-proxy --config={none}"], 16, "kube-proxy ended: .*no such file"),
        ([f"cluster-dns --kubeconfig={none}"], 17, "cluster-dns ended: .*no such file"),
    ]:
        running = start(*lines)
        assert running.ended() == code, running.log.read_text()[-2000:]
        assert any(re.match(f"kubenode: {words}", line) for line in running.said()), running.said()


def test_a_wait_ends_at_its_deadline_and_says_what_was_in_the_way(
    plan: Plan, start: Start, tmp_path: Path
) -> None:
    for line, words in [
        (plan.wait_line(seconds=3), "connection refused"),
        (f"wait unix://{tmp_path}/socket 3", "no such file"),
        (f"wait https://127.0.0.1:{plan.etcd}/nothing 4", "404"),
    ]:
        running = start(plan.tls, plan.etcd_port_line(), line)
        assert running.ended() == 20
        ended = [said for said in running.said() if "wait ended" in said]
        assert len(ended) == 1
        assert words in ended[0]


def test_a_wait_trusts_nobody_but_the_ca(plan: Plan, start: Start, tmp_path: Path) -> None:
    stranger = _certificates(tmp_path / "stranger")
    tls = f"tls {stranger.ca} {plan.pki.cert} {plan.pki.key}"
    health = f"wait https://127.0.0.1:{plan.etcd}/health 1"
    running = start(tls, plan.etcd_port_line(), health)
    assert running.ended() == 20
    assert any("unknown authority" in line for line in running.said()), running.said()
    # And who shows a stranger's certificate is not served.
    tls = f"tls {plan.pki.ca} {stranger.cert} {stranger.key}"
    running = start(tls, plan.etcd_port_line(), health)
    assert running.ended() == 20


def _node(boot: str, heartbeat: datetime.datetime) -> dict[str, object]:
    """A Ready node, as a kubelet reports it."""
    said_nothing = [
        "architecture", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion",
        "kubeletVersion", "machineID", "operatingSystem", "osImage", "systemUUID",
    ]  # fmt: skip
    info = {"bootID": boot, **dict.fromkeys(said_nothing, "")}
    condition = {
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fine",
        "lastHeartbeatTime": heartbeat.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "one"},
        "status": {"nodeInfo": info, "conditions": [condition]},
    }


def test_a_node_is_announced_when_this_boot_and_this_process_made_it_ready(
    kubenode: Path, plan: Plan, start: Start, tmp_path: Path
) -> None:
    started = datetime.datetime.now(datetime.UTC)
    console = tmp_path / "console"
    lines = [plan.tls, "openapi-delay 3600", plan.etcd_line(), plan.api_line(), plan.wait_line()]
    running = start(*lines, f"ready one 1 {console} kubernetes is ready", "gc-after-ready 50")
    running.wait_for("node one is not ready after 1s: the answer was 404")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def report(boot: str, heartbeat: datetime.datetime) -> None:
        (tmp_path / "node").write_text(json.dumps(_node(boot, heartbeat)))
        path = "/api/v1/nodes/one/status"
        # To validate it kubectl would ask for the description of the API.
        words = ("replace", "--validate=false", "--raw", path, "-f", str(tmp_path / "node"))
        plan.kubectl(kubenode, *words)

    (tmp_path / "node").write_text(json.dumps(_node("x", started)))
    plan.kubectl(kubenode, "create", "--validate=false", "-f", str(tmp_path / "node"))
    report("another boot's", datetime.datetime.now(datetime.UTC))
    running.wait_for("the kubelet has not reported in this boot")
    report(boot, started - datetime.timedelta(minutes=1))
    running.wait_for("the kubelet has not reported since the start")
    assert not console.exists()
    report(boot, datetime.datetime.now(datetime.UTC))
    running.wait_for("node one is ready")
    assert console.read_text() == "kubernetes is ready\n"
    # The description of the API is built when it is asked for, and the memory then given back.
    assert "Starting OpenAPI controller" not in running.log.read_text()
    assert not any("memory is collected" in line for line in running.said())
    plan.kubectl(kubenode, "get", "--raw", "/openapi/v2")
    running.wait_for("memory is collected at 50 percent from now on")
    assert "Starting OpenAPI controller" in running.log.read_text()


@pytest.mark.parametrize("where", ["wal", "db"])
def test_a_damaged_datastore_ends_etcd_with_a_reason(
    plan: Plan, start: Start, tmp_path: Path, where: str
) -> None:
    running = start(plan.etcd_line())
    running.wait_for("etcd serves")
    running.process.terminate()
    assert running.ended() == 0
    member = tmp_path / "etcd/member"
    file = member / "snap/db" if where == "db" else next((member / "wal").glob("*.wal"))
    with file.open("r+b") as stream:
        stream.write(b"\xa5" * 65536)
    running = start(plan.etcd_line())
    assert running.ended() == 11
    assert any(line.startswith("kubenode: etcd ended: ") for line in running.said())
