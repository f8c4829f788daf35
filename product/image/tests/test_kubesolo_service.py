"""The services of the ``kubesolo`` payload, supervised by the image's own runit.

The program is a stand-in (kubesolo_standin.py); paths of the node are moved into a directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.drift import settle
from product.image.recipe import Recipe
from product.image.rootfs import packages_tree
from product.image.tools import IMAGES, HostTools, host_arch

SERVICES = IMAGES / "payload/kubesolo/usr/lib/kubesolo/services"
STANDIN = Path(__file__).with_name("kubesolo_standin.py")
# The image's kubesolo-node, its paths moved.
NODE = """import sys
from product.node.cli import main
from product.node.paths import NodePaths
sys.exit(main(sys.argv[2:], NodePaths(sys.argv[1])))"""
LOADERS = {"x86_64": "usr/lib64/ld-linux-x86-64.so.2", "aarch64": "usr/lib/ld-linux-aarch64.so.1"}


@pytest.fixture(scope="session")
def guest() -> Path:
    """The packages of the image, for this host's architecture."""
    recipe = Recipe.load(IMAGES / "kubesolo.toml")
    arch = host_arch()
    cache = Cache()
    return packages_tree(
        recipe, settle(recipe, arch, cache).lock, arch, cache, HostTools.prepare(cache)
    )


class Supervised:
    """Services below ``root``, run by runsv."""

    def __init__(self, root: Path, guest: Path) -> None:
        self.root = root
        self.guest = guest
        self.state = root / "var/lib/kubesolo"
        self.config = root / "etc/kubesolo/kubesolo.yaml"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for folder in (
            "var/lib/kubesolo", "etc/kubesolo", "run/kubesolo", "run/service", "dev", "bin",
            "usr/lib/kubesolo/images", "sys/fs/cgroup", "var/log",
        ):  # fmt: skip
            (root / folder).mkdir(parents=True)
        (root / "dev/console").touch()
        # The node's needs Landlock; what it does is shown on a node.
        (root / "usr/lib/kubesolo/confine").write_text("confine() { :; }\n")
        self.image_config({"apiVersion": "kubesolo.io/v1alpha1", "kind": "Config"})
        self.program("kubesolo", f'exec {sys.executable} -I {STANDIN} "$@"')
        self.describe(f"{self.state}/containerd/containerd.sock")
        # The last one has what the image has: PyYAML.
        folders = [*filter(None, sys.path), f"{guest}/usr/lib/python3/dist-packages"]
        self.program(
            "kubesolo-node",
            f"cd / && PYTHONPATH={':'.join(folders)} exec {sys.executable} "
            f'-c {shlex.quote(NODE)} {root} "$@"',
        )
        self.program("modprobe", f'echo "$@" >> {root}/modprobe')
        self.program(
            "sleep",
            f'echo "$@" >> {root}/slept; [ "$1" -le 99 ] || exec /bin/sleep 99; exec /bin/sleep .1',
        )
        self.hostname("node-1")

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def hostname(self, name: str) -> None:
        (self.root / "hostname").write_text(f"{name}\n")
        file = self.root / "hostname"
        self.program("hostname", f'if [ $# = 0 ]; then cat {file}; else echo "$1" > {file}; fi')

    def image_config(self, document: dict[str, object]) -> None:
        path = self.root / "usr/lib/kubesolo/kubesolo.yaml"
        path.write_text(json.dumps(document))

    def describe(self, containerd: str) -> None:
        """The image's payload.json."""
        document = {
            "schema": 1,
            "kind": "kubesolo",
            "version": "v1.2.3",
            "kubernetes": "1.35.1",
            "services": ["kubesolo", "kubesolo-images"],
            "kubeconfig": f"{self.state}/pki/admin/admin.kubeconfig",
            "containerd": containerd,
            "datastore": {"path": f"{self.state}/kine/db", "service": "kubesolo"},
            "images": "",
        }
        path = self.root / "usr/lib/kubesolo/payload.json"
        path.write_text(json.dumps(document, indent=2) + "\n")

    def start(self, name: str = "kubesolo") -> None:
        folder = self.root / "run/service" / name
        folder.mkdir()
        for script in ("run", "finish"):
            text = (SERVICES / name / script).read_text()
            for path in ("/var/", "/etc/kubesolo", "/run/", "/usr/lib/", "/dev/console", "/sys/"):
                for before in (" ", "=", '"', "\n", ">"):
                    text = text.replace(before + path, f"{before}{self.root}{path}")
            text = text.replace("/usr/sbin/modprobe", "modprobe")
            # What is written to a console stays on it.
            text = text.replace(f"> {self.root}/dev/console", f">> {self.root}/dev/console")
            (folder / script).write_text(text)
            (folder / script).chmod(0o755)
        self._processes[name] = subprocess.Popen(
            self._command("runsv", str(folder)),
            env={
                "PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "STANDIN_STATE": str(self.state),
            },
            stdout=(self.root / f"{name}.log").open("wb"),
            start_new_session=True,
        )

    def _command(self, program: str, *arguments: str) -> list[str]:
        libraries = self.guest / "usr/lib" / host_arch().multiarch
        loader = str(self.guest / LOADERS[host_arch()])
        path = str(self.guest / "usr/bin" / program)
        return [loader, "--library-path", str(libraries), path, *arguments]

    def sv(self, *arguments: str) -> None:
        subprocess.run(
            self._command("sv", "-w", "15", *arguments), check=True, stdout=subprocess.DEVNULL
        )

    def log(self, name: str = "kubesolo") -> str:
        return (self.root / f"{name}.log").read_text()

    def console(self) -> str:
        return (self.root / "dev/console").read_text()

    def pid(self) -> int:
        text = (self.root / "run/service/kubesolo/supervise/pid").read_text().strip()
        return int(text or 0)

    def stop(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(15)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def node(guest: Path, tmp_path: Path) -> Iterator[Supervised]:
    # A socket's path may have 107 bytes.
    root = Path("/tmp") / f"ksolo-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    made = Supervised(root, guest)
    yield made
    made.stop()
    shutil.rmtree(root)


def eventually(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def is_ready(node: Supervised, times: int = 1) -> None:
    eventually(lambda: node.log().count("kubeproxy is ready") >= times, node.log())


def test_it_starts_by_its_configuration_file(node: Supervised) -> None:
    node.start()
    is_ready(node)
    assert (node.root / "run/kubesolo/kubesolo.yaml").stat().st_mode & 0o777 == 0o600
    eventually((node.state / "pki/admin/admin.kubeconfig").exists, "no kubeconfig")
    for folder in ("cni/net.d", "opt-cni/bin"):
        assert (node.state / folder).is_dir()
    for folder in ("conf.d", "config.d"):
        assert (node.root / "etc/kubesolo/containerd" / folder).is_dir()
    assert "br_netfilter" in (node.root / "modprobe").read_text()
    group = node.root / "sys/fs/cgroup/containerd/cgroup.procs"
    assert int(group.read_text()) == node.pid()


def test_the_operators_file_takes_the_place_of_the_images(node: Supervised) -> None:
    node.config.write_text(json.dumps({"operators": 1}))
    node.start()
    is_ready(node)
    assert "WRN unknown key operators" in node.log()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("runtime:\n  endpoint: unix:///run/crio.sock\n", "runtime.endpoint '"),
        ('{"Runtime": {"EndPoint": "/run/crio.sock"}}', "runtime.endpoint '"),
        ("path: /mnt/kubesolo\n", "path '/mnt/kubesolo'"),
        ("path: [\n", "is no usable YAML"),
    ],
)
def test_an_operators_file_that_moves_what_others_look_for_starts_nothing(
    node: Supervised, settings: str, key: str
) -> None:
    node.config.write_text(settings)
    node.start()
    slept = node.root / "slept"
    eventually(lambda: slept.exists() and slept.read_text().count("3") >= 3, "not tried again")
    (line,) = node.console().splitlines()
    assert line.startswith(f"kubesolo: problem: Kubernetes: {node.config} ")
    assert key in line
    kept = (node.root / "run/kubesolo/problems").read_text().splitlines()
    assert line.removeprefix("kubesolo: problem: ") in kept
    assert "is ready" not in node.log()
    node.config.write_text("logging:\n  debug: true\n")
    node.program("kubesolo", f'cp "${{1#*=}}" {node.root}/taken; exec sleep 100')
    eventually((node.root / "taken").exists, "not started by a file that is in order")
    assert (node.root / "taken").read_text() == node.config.read_text()


def test_the_nodes_settings_go_over_whichever_file_there_is(node: Supervised) -> None:
    settings = {"node-ip": "10.0.0.5", "portainer-edge-key": "c2VjcmV0", "mtu": "wide"}
    document = {"schema": 1, "settings": settings}
    (node.root / "etc/kubesolo/kubernetes.json").write_text(json.dumps(document))
    node.config.write_text("network:\n  mtu: 1400\n  nodeIP: 10.0.0.1\n")
    node.program("kubesolo", f'cp "${{1#*=}}" {node.root}/taken; exec sleep 100')
    node.start()
    eventually((node.root / "taken").exists, "not started")
    taken = json.loads((node.root / "taken").read_text())
    assert taken == {
        "network": {"mtu": 1400, "nodeIP": "10.0.0.5"},
        "portainer": {"edgeKey": "c2VjcmV0"},
    }
    assert (node.root / "run/kubesolo/kubesolo.yaml").stat().st_mode & 0o777 == 0o600
    (line,) = node.console().splitlines()
    assert "mtu: a whole number from 576 to 65535 was expected; it is left out" in line


def test_an_operators_file_may_say_what_the_image_says(node: Supervised) -> None:
    path = str(node.root / "other.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        node.image_config({"runtime": {"endpoint": path}})
        node.config.write_text(json.dumps({"runtime": {"endpoint": f"unix://{path}"}, "own": 1}))
        node.start()
        is_ready(node)
    assert "WRN unknown key own" in node.log()


def test_an_operators_file_must_keep_the_images_socket(node: Supervised) -> None:
    node.image_config({"runtime": {"endpoint": "/run/other.sock"}})
    node.config.write_text("{}")
    node.start()
    eventually(lambda: "runtime.endpoint ''" in node.console(), node.log())
    assert "is ready" not in node.log()


def test_a_wrong_type_is_fatal_and_said_until_it_is_corrected(node: Supervised) -> None:
    node.config.write_text(json.dumps({"network": "10.0.0.1"}))
    node.start()
    eventually(lambda: node.console().count("KubeSolo ended (exit code 1)") >= 2, "not said")
    assert "FTL network is no dict" in node.log()
    node.config.unlink()
    is_ready(node)


def test_it_starts_again_when_a_component_fails(node: Supervised) -> None:
    node.start()
    is_ready(node)
    first = node.pid()
    (node.state / "fail").touch()
    is_ready(node, 2)
    assert node.pid() != first
    assert (node.root / "slept").read_text().split() == ["3"]
    assert node.console().count("KubeSolo ended (exit code 1)") == 1


def test_a_kill_is_named(node: Supervised) -> None:
    node.start()
    is_ready(node)
    os.kill(node.pid(), signal.SIGKILL)
    is_ready(node, 2)
    assert "KubeSolo ended (signal 9)" in node.console()


def test_it_stops_in_its_own_order_when_told_to(node: Supervised) -> None:
    node.start()
    is_ready(node)
    started = time.monotonic()
    node.sv("down", str(node.root / "run/service/kubesolo"))
    assert time.monotonic() - started < 10
    stopped = [line.split()[1] for line in node.log().splitlines() if line.endswith("stopped")]
    assert (stopped[0], stopped[-1]) == ("kubeproxy", "containerd")
    # Nobody is told of what was wanted.
    assert node.console() == ""


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("Edge_01", "edge-01"),
        ("-x-", "x"),
        ("a..b.", "a.b"),
        ("\u00e4\u00f6", "kubesolo"),
        ("a" * 80, "a" * 63),
    ],
)
def test_a_hostname_that_kubernetes_refuses_is_made_fit(
    node: Supervised, name: str, fit: str
) -> None:
    node.hostname(name)
    node.start()
    is_ready(node)
    assert (node.root / "hostname").read_text().strip() == fit
    assert f"'{fit}' instead" in (node.root / "run/kubesolo/problems").read_text()


def test_a_fit_hostname_is_left_alone(node: Supervised) -> None:
    node.hostname("node-1.example.com")
    node.start()
    is_ready(node)
    assert (node.root / "hostname").read_text().strip() == "node-1.example.com"
    assert not (node.root / "run/kubesolo/problems").exists()


def imports(node: Supervised) -> list[str]:
    path = node.root / "imported"
    return path.read_text().split() if path.exists() else []


def test_the_images_are_imported_at_each_start(node: Supervised) -> None:
    for name in ("agent", "nginx"):
        (node.root / f"usr/lib/kubesolo/images/{name}.tar").touch()
    node.program(
        "ctr",
        'for last; do :; done; case "$*" in *" version") exit 0 ;; esac\n'
        f'basename "$last" >> {node.root}/imported',
    )
    node.start("kubesolo-images")
    time.sleep(0.5)
    assert not imports(node)
    node.start()
    eventually(lambda: imports(node) == ["agent.tar", "nginx.tar"], node.log("kubesolo-images"))
    is_ready(node)
    (node.state / "fail").touch()
    eventually(lambda: len(imports(node)) == 4, node.log("kubesolo-images"))


def test_the_images_go_to_the_socket_that_the_payload_names(node: Supervised) -> None:
    (node.root / "usr/lib/kubesolo/images/agent.tar").touch()
    node.program("ctr", f'echo "$2" >> {node.root}/imported')
    path = str(node.root / "other.sock")
    node.describe(path)
    node.image_config({"runtime": {"endpoint": path}})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        node.start()
        node.start("kubesolo-images")
        eventually(lambda: "imported 1 images" in node.log("kubesolo-images"), "never")
    assert set(imports(node)) == {path}


def test_a_payload_without_a_socket_is_said(node: Supervised) -> None:
    (node.root / "usr/lib/kubesolo/images/agent.tar").touch()
    node.describe("")
    node.start("kubesolo-images")
    eventually(
        lambda: "payload.json names no socket of containerd" in node.log("kubesolo-images"), "never"
    )


def test_a_failed_import_is_tried_again(node: Supervised) -> None:
    (node.root / "usr/lib/kubesolo/images/agent.tar").touch()
    node.program(
        "ctr",
        'case "$*" in *" version") exit 0 ;; esac\n'
        f'echo try >> {node.root}/imported; [ "$(wc -l < {node.root}/imported)" -gt 1 ]',
    )
    node.start()
    node.start("kubesolo-images")
    eventually(lambda: "imported 1 images" in node.log("kubesolo-images"), "never")
    assert imports(node) == ["try", "try"]
