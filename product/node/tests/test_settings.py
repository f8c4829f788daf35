"""What the node was told reaches its Kubernetes; what cannot be used is said, and stops nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.image.payload.kubesolo_config import KubesoloConfig
from product.node import address, pki
from product.node.cli import main
from product.node.configure import configure, renew
from product.node.errors import PayloadError
from product.node.machine import read_machine
from product.node.paths import NodePaths
from product.node.pki import Identity
from product.node.settings import KINDS, OF_KUBESOLO, OF_UPSTREAM, known_settings, read_settings
from product.node.tests.conftest import NodeWorld

EVERY: dict[str, object] = {
    "debug": True,
    "pprof-server": True,
    "node-ip": "10.0.0.5",
    "mtu": 1400,
    "disable-ipv6": True,
    "load-balancer": True,
    "load-balancer-ip": "10.0.0.6",
    "container-mode": "false",
    "node-name": "edge-7",
    "apiserver-extra-sans": ["edge.example.com", "192.168.7.1"],
    "startup-timeout": 900,
    "cpu-manager-policy": "static",
    "cpu-manager-policy-options": {"full-pcpus-only": "true"},
    "reserved-cpus": "0-1",
    "system-reserved": {"cpu": "250m", "memory": "200Mi"},
    "local-storage": True,
    "local-storage-shared-path": "/var/lib/kubesolo/shared",
    "db-wal-repair": True,
    "portainer-edge-id": "device-1",
    "portainer-edge-key": "aHR0cHM6Ly9wLmV4YW1wbGV8ZS5leGFtcGxlOjgwMDB8YWE6YmJ8Nw",
    "portainer-edge-async": True,
    "portainer-edge-image": "docker.io/portainer/agent:lts",
    "d2k": True,
    "d2k-namespace": "docker",
    "metrics-server": True,
    "metrics-bind-address": "127.0.0.1:9105",
    "pki-ca-cert": "/var/lib/kubesolo/ca.crt",
    "pki-ca-key": "/var/lib/kubesolo/ca.key",
}
# Those that KubeSolo has no place for.
OURS: dict[str, object] = {
    "api-access": ["10.0.0.0/8", "fd00::/8"], "audit-log": True, "pod-security": "baseline",
    "secrets-encryption": True,
}  # fmt: skip


def tell(world: NodeWorld, **settings: object) -> None:
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    world.write(world.paths.settings, json.dumps({"schema": 1, "settings": named}))


def plan_of(world: NodeWorld, component: str) -> str:
    lines = Path(world.paths.plan).read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{component} "))
    return line


def test_every_setting_is_known_and_fits_kubesolos_file(world: NodeWorld) -> None:
    assert EVERY.keys() | OURS.keys() == KINDS.keys()
    assert set(OF_KUBESOLO) == EVERY.keys()
    base, target = str(world.root / "base.yaml"), str(world.root / "target.yaml")
    world.write(
        base, "apiVersion: kubesolo.io/v1alpha1\nkind: Config\nStorage:\n  dbWALRepair: no\n"
    )
    tell(world, **EVERY)
    assert main(["settings", base, target], world.paths) == 0
    assert world.problems == []
    path = Path(target)
    assert path.stat().st_mode & 0o777 == 0o600
    document = json.loads(path.read_text())
    assert document["Storage"]["dbWALRepair"] is True
    assert document["apiVersion"] == "kubesolo.io/v1alpha1"
    # As KubeSolo's own model reads it, whose keys are in small letters.
    document["storage"] = document.pop("Storage")
    config = KubesoloConfig.model_validate(
        {k: v for k, v in document.items() if k[-1] != "d" and k != "apiVersion"}
    )
    assert config.network.nodeIP == "10.0.0.5"
    assert config.kubernetes.apiServer.extraSANs == EVERY["apiserver-extra-sans"]
    assert config.kubernetes.kubelet.cpuManager.reservedCPUs == "0-1"
    assert config.runtime.containerMode is False
    assert config.portainer.asynchronous is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "is no JSON"),
        ("[]", "is not of the form"),
        ('{"schema": 2, "settings": {}}', "is not of the form"),
        ('{"schema": 1, "settings": {"nodeip": "10.0.0.5"}}', "there is no setting 'nodeip'"),
        ('{"schema": 1, "settings": {"node-ip": "10.0.0"}}', "node-ip: an IP address was expected"),
        ('{"schema": 1, "settings": {"mtu": "1400"}}', "mtu: a whole number from 576"),
        ('{"schema": 1, "settings": {"debug": "yes"}}', "debug: true or false was expected"),
        ('{"schema": 1, "settings": {"d2k": true}}', "this image's Kubernetes has no d2k"),
        ('{"schema": 1, "settings": {"cpu-manager-policy": "static"}}', "needs reserved-cpus"),
        ('{"schema": 1, "settings": {"apiserver-extra-sans": ["A B"]}}', "neither a lower-case"),
        ('{"schema": 1, "settings": {"reserved-cpus": "9-1"}}', "the range 9-1 runs backwards"),
        ('{"schema": 1, "settings": {"node-ip": "fe80::1"}}', "link-local"),
        ('{"schema": 1, "settings": {"node-ip": "169.254.0.7"}}', "link-local"),
    ],
)
def test_what_cannot_be_used_is_said_and_stops_nothing(
    world: NodeWorld, text: str, said: str
) -> None:
    world.write(world.paths.settings, text)
    found = configure(world.paths, world.payload, world.reporter)
    assert found == Identity("node-1", "10.0.2.15")
    (problem,) = world.problems
    assert problem.startswith(f"Kubernetes: {world.paths.settings}")
    assert said in problem


def test_an_editor_on_windows_changes_nothing(world: NodeWorld) -> None:
    world.write(world.paths.settings, '\ufeff{"schema": 1,\r\n "settings": {"debug": true}}\r\n')
    found = read_settings(world.paths.settings)
    assert (found.values, found.problems) == ({"debug": True}, ())


@pytest.mark.parametrize(
    ("settings", "said", "kept"),
    [
        ({"reserved-cpus": "0-1"}, "", {"reserved-cpus": "0-1"}),
        ({"reserved-cpus": "1-2"}, "reserved-cpus: this machine has no CPU 2; it has 0, 1", {}),
        ({"system-reserved": {"cpu": "2", "memory": "900Mi", "pid": "1000"}}, "",
         {"system-reserved": {"cpu": "2", "memory": "900Mi", "pid": "1000"}}),
        ({"system-reserved": {"cpu": "400", "memory": "500Mi"}},
         "system-reserved: cpu: 400 is more than this machine can set aside: 2;",
         {"system-reserved": {"memory": "500Mi"}}),
        ({"system-reserved": {"cpu": "2001m"}}, "cpu: 2001m is more than", {}),
        ({"system-reserved": {"memory": "999Ti"}},
         "memory: 999Ti is more than this machine can set aside: 924Mi;", {}),
        ({"system-reserved": {"memory": "1Gi"}}, "memory: 1Gi is more than", {}),
        ({"system-reserved": {"pid": "40000"}}, "pid: 40000 is more than", {}),
        ({"system-reserved": {"ephemeral-storage": "9" * 400 + "T"}}, "ephemeral-storage: 999", {}),
        ({"system-reserved": {"cpu": "3"}, "cpu-manager-policy": "static"},
         "cpu-manager-policy: static needs reserved-cpus", {}),
    ],
)  # fmt: skip
def test_more_than_the_machine_has_is_left_out(
    world: NodeWorld, settings: dict[str, object], said: str, kept: dict[str, object]
) -> None:
    world.write(world.paths.cpus, "0-1\n")
    world.write(world.paths.memory, "MemTotal:        1048576 kB\nMemFree: 1 kB\n")
    world.write(world.paths.most_pids, "32768\n")
    world.write(world.paths.most_threads, "65536\n")
    world.write(world.paths.settings, json.dumps({"schema": 1, "settings": settings}))
    found = read_settings(world.paths.settings, machine=read_machine(world.paths))
    assert found.values == kept
    assert said in " ".join(found.problems)
    assert all(problem.endswith("it is left out") for problem in found.problems)
    # Both payloads ask the machine.
    configure(world.paths, world.payload, world.reporter)
    kubelet = json.loads(Path(world.paths.config, "kubelet.json").read_text())
    assert kubelet.get("systemReserved", {}) == kept.get("system-reserved", {})
    world.write(base := str(world.root / "base.yaml"), "{}")
    target = world.root / "target.yaml"
    assert main(["settings", base, str(target)], world.paths) == 0
    document = json.loads(target.read_text()).get("kubernetes", {}).get("kubelet", {})
    wanted = kept.get("system-reserved", {})
    assert isinstance(wanted, dict)
    # KubeSolo wants a CPU of the two for pods.
    assert document.get("systemReserved", {}) == {k: v for k, v in wanted.items() if k != "cpu"}


def test_a_machine_that_says_nothing_of_itself_refuses_nothing(world: NodeWorld) -> None:
    machine = read_machine(world.paths)
    assert machine.cpus is None
    assert machine.lacks_cpus("0-99") is None
    assert machine.exceeds("memory", "999Ti") is None


def test_this_machine_is_read() -> None:
    machine = read_machine(NodePaths())
    assert machine.cpus
    assert machine.most["cpu"] == len(machine.cpus)
    assert machine.most["memory"] > 0
    assert machine.most["pid"] > 300


def test_a_secret_never_stands_in_a_problem(world: NodeWorld) -> None:
    secret = "c3dvcmRmaXNo\nand more"
    tell(world, portainer_edge_key=secret, portainer_edge_id=7)
    problems = read_settings(world.paths.settings).problems
    assert len(problems) == 2
    assert "c3dvcmRmaXNo" not in " ".join(problems)


def test_settings_reach_the_components(world: NodeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "has_address", lambda wanted: wanted == "10.0.0.5")
    tell(world, node_ip="10.0.0.5", node_name="edge-7", debug=True, reserved_cpus="0",
         cpu_manager_policy="static", system_reserved={"memory": "200Mi"},
         apiserver_extra_sans=["edge.example.com", "192.168.7.1"])  # fmt: skip
    identity = configure(world.paths, world.payload, world.reporter)
    assert world.problems == []
    assert identity[:2] == ("edge-7", "10.0.0.5")
    assert "--advertise-address=10.0.0.5" in plan_of(world, "kube-apiserver")
    assert "--hostname-override=edge-7" in plan_of(world, "kubelet")
    assert "verbosity 4\n" in Path(world.paths.plan).read_text()
    kubelet = json.loads(Path(world.paths.config, "kubelet.json").read_text())
    assert kubelet["systemReserved"] == {"memory": "200Mi"}
    assert kubelet["reservedSystemCPUs"] == "0"
    assert kubelet["cpuManagerPolicy"] == "static"
    leaf = next(leaf for leaf in pki.leaves(identity) if leaf.name == "apiserver")
    assert "edge.example.com" in leaf.dns
    assert {"192.168.7.1", "10.0.0.5"} <= set(leaf.addresses)
    # A renewal by the running node keeps the names.
    before = Path(world.paths.pki, "apiserver.crt").read_bytes()
    assert renew(world.paths, world.payload, world.reporter) is False
    assert Path(world.paths.pki, "apiserver.crt").read_bytes() == before


def test_names_that_are_added_reach_the_certificate_alone(world: NodeWorld) -> None:
    configure(world.paths, world.payload, world.reporter)
    before = {path.name: path.read_bytes() for path in Path(world.paths.pki).glob("*.crt")}
    tell(world, apiserver_extra_sans=["edge.example.com"])
    configure(world.paths, world.payload, world.reporter)
    after = {path.name: path.read_bytes() for path in Path(world.paths.pki).glob("*.crt")}
    assert {name for name in before if before[name] != after[name]} == {"apiserver.crt"}
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(after["apiserver.crt"])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "edge.example.com" in names.get_values_for_type(x509.DNSName)
    assert world.problems == []


def test_an_address_that_no_card_has_is_said(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "has_address", lambda wanted: False)
    tell(world, node_ip="10.0.0.5")
    assert configure(world.paths, world.payload, world.reporter).address == "10.0.2.15"
    (problem,) = world.problems
    assert "node-ip is 10.0.0.5, which no network card of this node has" in problem


def test_kubesolo_is_told_nothing_that_it_has_no_place_for(world: NodeWorld) -> None:
    base, target = str(world.root / "base.yaml"), str(world.root / "target.yaml")
    world.write(base, "kind: Config\n")
    tell(world, **OURS)
    assert main(["settings", base, target], world.paths) == 0
    assert json.loads(Path(target).read_text()) == {"kind": "Config"}
    assert len(world.problems) == len(OURS)
    assert "this image's Kubernetes has no pod-security" in "".join(world.problems)


@pytest.mark.parametrize(
    "value", [[], "", "office", ["node", "10.0.0.1"], ["10.0.0.0/33"], ["fd00::/129"], [7], True]
)
def test_an_access_that_is_none_is_left_out(world: NodeWorld, value: object) -> None:
    tell(world, api_access=value)
    found = read_settings(world.paths.settings)
    assert found.values == {}
    assert "api-access: " in found.problems[0]


def test_the_payload_knows_no_setting_that_is_none() -> None:
    assert set(OF_UPSTREAM) <= KINDS.keys()


def test_what_belongs_to_a_node_is_taken_by_either_payload() -> None:
    """KubeSolo's file has a place for each of KINDS."""
    neutral = {
        "apiserver-extra-sans", "debug", "disable-ipv6", "load-balancer-ip", "local-storage",
        "local-storage-shared-path", "mtu", "node-ip", "node-name", "portainer-edge-async",
        "portainer-edge-id", "portainer-edge-key", "pprof-server", "reserved-cpus",
        "startup-timeout",
    }  # fmt: skip
    assert neutral <= set(OF_UPSTREAM) & KINDS.keys()


def test_the_image_says_which_settings_it_takes(world: NodeWorld) -> None:
    assert known_settings(world.payload) == OF_UPSTREAM
    lacking = [name for name in OF_UPSTREAM if name != "metrics-server"]
    world.write_payload(kind="upstream", settings=lacking)
    tell(world, metrics_server=True)
    configure(world.paths, world.payload, world.reporter)
    said = f"{world.paths.settings}: this image's Kubernetes has no metrics-server"
    assert world.problems == [f"Kubernetes: {said}"]
    assert world.console.count(said) == 1
    # Said once for the status, whoever reads the settings.
    configure(world.paths, world.payload, world.reporter)
    assert world.problems == [f"Kubernetes: {said}"]
    world.write_payload(settings="all")
    with pytest.raises(PayloadError, match="no usable settings: 'all'"):
        world.payload  # noqa: B018


def test_an_image_that_no_setting_asks_for_is_unwanted(world: NodeWorld) -> None:
    path = world.paths.settings
    assert read_settings(path).unwanted_images == {"metrics-server"}
    tell(world, metrics_server=False)
    assert read_settings(path).unwanted_images == {"metrics-server"}
    tell(world, metrics_server=True)
    assert read_settings(path).unwanted_images == frozenset()
    known = tuple(name for name in OF_UPSTREAM if name != "metrics-server")
    assert read_settings(path, known).unwanted_images == {"metrics-server"}
