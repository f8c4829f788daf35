"""The ``kubesolo:`` block, by flag names and by those of KubeSolo's own file."""

from __future__ import annotations

import pytest

from product.cloudinit.load import load_user_data
from product.cloudinit.settings import REFUSED, SETTINGS, Setting
from product.cloudinit.tests.support import edge_key, problems_of, user_data

VALUES: dict[str, tuple[str, Setting]] = {
    "debug": ("true", True),
    "pprof-server": ("no", False),
    "node-ip": ("10.20.0.5", "10.20.0.5"),
    "mtu": ("1400", 1400),
    "disable-ipv6": ("yes", True),
    "load-balancer": ("off", False),
    "load-balancer-ip": ("2001:DB8::1", "2001:db8::1"),
    "container-mode": ("auto", "auto"),
    "node-name": ("Edge-07", "edge-07"),
    "apiserver-extra-sans": ("[Edge.example.org, 10.0.0.4, '*.example.org']",
                             ["edge.example.org", "10.0.0.4", "*.example.org"]),
    "startup-timeout": ("1200", 1200),
    "cpu-manager-policy": ("static", "static"),
    "cpu-manager-policy-options": ('{full-pcpus-only: "true"}', {"full-pcpus-only": "true"}),
    "reserved-cpus": ("0-1,4", "0-1,4"),
    "system-reserved": ("{cpu: 250m, memory: 500Mi}", {"cpu": "250m", "memory": "500Mi"}),
    "local-storage": ("True", True),
    "local-storage-shared-path": ("/var/lib/kubesolo/shared", "/var/lib/kubesolo/shared"),
    "db-wal-repair": ("true", True),
    "portainer-edge-id": ("00123", "00123"),
    "portainer-edge-key": (edge_key(), edge_key().rstrip("=")),
    "portainer-edge-async": ("true", True),
    "portainer-edge-image": ("example.org:5000/agent:lts", "example.org:5000/agent:lts"),
    "d2k": ("true", True),
    "d2k-namespace": ("docker", "docker"),
    "metrics-server": ("true", True),
    "metrics-bind-address": ("0.0.0.0:9105", "0.0.0.0:9105"),
    "pki-ca-cert": ("/etc/kubesolo/ca.crt", "/etc/kubesolo/ca.crt"),
    "pki-ca-key": ("/etc/kubesolo/ca.key", "/etc/kubesolo/ca.key"),
    "api-access": ("[10.0.0.0/8, 192.168.7.1]", ["10.0.0.0/8", "192.168.7.1"]),
    "audit-log": ("no", False),
    "pod-security": ("restricted", "restricted"),
    "secrets-encryption": ("yes", True),
}  # fmt: skip
PAIRS = {
    "portainer-edge-id": "portainer-edge-key",
    "portainer-edge-key": "portainer-edge-id",
    "pki-ca-cert": "pki-ca-key",
    "pki-ca-key": "pki-ca-cert",
}


def settings(block: str) -> dict[str, Setting]:
    found = load_user_data(user_data(f"kubesolo:\n{block}")).config.kubesolo
    assert found is not None
    return found


def errors(block: str) -> list[tuple[int, str, str]]:
    found = problems_of(load_user_data, user_data(f"kubesolo:\n{block}"))
    return [(problem.line, problem.key, problem.message) for problem in found]


def test_the_table_has_every_setting() -> None:
    assert VALUES.keys() == SETTINGS.keys()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_under_its_flag_and_under_its_place_in_kubesolos_file(name: str) -> None:
    text, value = VALUES[name]
    other = PAIRS.get(name)
    rest = f"  {other}: {VALUES[other][0]}\n" if other else ""
    assert settings(f"  {name}: {text}\n{rest}")[name] == value
    if not SETTINGS[name].place:
        return
    *groups, last = SETTINGS[name].place.split(".")
    nested = "".join("  " * depth + f"{group}:\n" for depth, group in enumerate(groups, start=1))
    nested += "  " * (len(groups) + 1) + f"{last}: {text}\n"
    assert settings(nested + rest)[name] == value


def test_both_names_at_once_are_an_error() -> None:
    ((line, key, message),) = errors("  mtu: 1400\n  network: {mtu: 1500}\n")
    assert (line, key) == (4, "kubesolo.network.mtu")
    assert message == "is the same setting as mtu, which is there, too"


def test_lists_and_pairs_may_be_text_as_flags_have_them() -> None:
    assert settings("  apiserver-extra-sans: a.example.org,10.0.0.4\n") == {
        "apiserver-extra-sans": ["a.example.org", "10.0.0.4"]
    }
    assert settings("  system-reserved: cpu=1,memory=500Mi\n") == {
        "system-reserved": {"cpu": "1", "memory": "500Mi"}
    }


def test_defaults_of_kubesolos_own_file_are_accepted() -> None:
    block = (
        '  network: {nodeIP: "", mtu: 0, loadBalancer: {enabled: true, ip: ""}}\n'
        "  runtime: {endpoint: '', containerMode: null}\n"
        "  kubernetes: {apiServer: {extraSANs: []}, kubelet: {systemReserved: {}}}\n"
        "  portainer: {edgeID: '', edgeKey: '', async: false}\n  api: {enabled: false}\n"
        "  pki:\n"
    )
    assert settings(block) == {
        "mtu": 0, "load-balancer": True, "portainer-edge-async": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("block", "key", "said"),
    [
        ("local-storag: true", "local-storag", "did you mean local-storage?"),
        ("portainer_edge_id: x", "portainer_edge_id", "did you mean portainer-edge-id?"),
        ("network: {nodeIp: 10.0.0.1}", "network.nodeIp", "did you mean nodeIP?"),
        ("network: x", "network", "needs a mapping"),
        ("full: true", "full", "has no effect"),
        ("path: /data", "path", "is fixed by the image"),
        ("container-runtime-endpoint: unix:///x", "container-runtime-endpoint", "is fixed"),
        ("runtime: {endpoint: unix:///x}", "runtime.endpoint", "is fixed by the image"),
        ("api: {enabled: true}", "api.enabled", "KubeSolo would replace its own program"),
        ("api: {socketPath: /x}", "api.socketPath", "is fixed by the image"),
        ("apiVersion: kubesolo.io/v1alpha1", "apiVersion", "leave it out"),
        ("kind: Config", "kind", "leave it out"),
        ("mtu: 12x", "mtu", "needs a whole number"),
        ("mtu: 0100", "mtu", "begins with 0"),
        ("mtu: 100", "mtu", "is not between 576 and 65535"),
        ("node-ip: 10.20.0.5/24", "node-ip", "has a prefix"),
        ("node-ip: 127.0.0.1", "node-ip", "is not the address of one other host"),
        ("node-ip: 'fe80::1'", "node-ip", "is not an address that Kubernetes takes"),
        ("node-ip: 169.254.0.7", "node-ip", "is not an address that Kubernetes takes"),
        ("node-ip: 255.255.255.255", "node-ip", "is not an address that Kubernetes takes"),
        ("load-balancer-ip: 'fe80::1'", "load-balancer-ip", "address that Kubernetes takes"),
        ("node-name: 10.0.0.1", "node-name", "is an address, not a name"),
        ("api-access: office", "api-access", "is neither all, node, an address nor a network"),
        ("api-access: [node, 10.0.0.1]", "api-access", "is neither all, node, an address"),
        ("api-access: 10.0.0.7/8", "api-access", "has host bits set"),
        ("pod-security: strict", "pod-security", "is none of privileged, baseline, restricted"),
        ("apiserver-extra-sans: [a_b]", "apiserver-extra-sans", "a name has a-z"),
        ("apiserver-extra-sans: [[a]]", "apiserver-extra-sans", "needs text"),
        ("cpu-manager-policy: statc", "cpu-manager-policy", "is none of none, static"),
        ("reserved-cpus: all", "reserved-cpus", "is not a set of CPUs"),
        ("reserved-cpus: 9-1", "reserved-cpus", "the range 9-1 runs backwards"),
        ("reserved-cpus: '0,3-2'", "reserved-cpus", "the range 3-2 runs backwards"),
        ("system-reserved: {cpus: 1}", "system-reserved", "is none of cpu, memory"),
        ("system-reserved: {memory: lots}", "system-reserved", "is not a quantity"),
        ("system-reserved: cpu", "system-reserved", "is not KEY=VALUE"),
        ("local-storage: perhaps", "local-storage", "needs true or false, found 'perhaps'"),
        ("local-storage-shared-path: shared", "local-storage-shared-path", "absolute path"),
        ("metrics-bind-address: here", "metrics-bind-address", "is not ADDRESS:PORT"),
        ("metrics-bind-address: host:80", "metrics-bind-address", "is not ADDRESS:PORT"),
        ("d2k-namespace: a.b", "d2k-namespace", "is not a namespace"),
        ("portainer-edge-image: A B", "portainer-edge-image", "is not the name of an image"),
        ("portainer-edge-id: x", "portainer-edge-id", "needs portainer-edge-key, too"),
        ("pki: {caKey: /x}", "pki.caKey", "needs pki-ca-cert, too"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_error(block: str, key: str, said: str) -> None:
    ((line, found, message),) = errors(f"  {block}\n")
    assert (line, found) == (3, f"kubesolo.{key}")
    assert said in message


def test_settings_that_do_not_go_together() -> None:
    ((_, key, message),) = errors("  d2k: true\n  load-balancer: false\n")
    assert (key, message) == ("kubesolo.d2k", "needs load-balancer, which is false here")
    ((_, key, _),) = errors("  cpu-manager-policy: static\n  container-mode: true\n")
    assert key == "kubesolo.cpu-manager-policy"


def test_an_edge_key_is_never_shown() -> None:
    for value in ("c2VjcmV0LXNlY3JldA==", "[c2VjcmV0LXNlY3JldA==]", "{c2VjcmV0LXNlY3JldA==: x}"):
        for block in (f"  portainer-edge-key: {value}\n", f"  portainer: {{edgeKey: {value}}}\n"):
            for _, _, message in errors(block):
                assert "c2VjcmV0" not in message


def test_what_is_refused_says_why() -> None:
    for name, reason in REFUSED.items():
        assert name not in SETTINGS
        assert len(reason.split()) >= 4
