"""The services of the payload have the rights of their rows in docs/security.md, and work."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.hardening.services import differences, settled
from scenarios.kubernetes import MACHINE, begin

WANTED = {"cluster-dns", "containerd", "kubernetes", "pod-logs", "requests", "upkeep"}

pytestmark = pytest.mark.machine(**MACHINE)


@scenario()
def test_services_of_kubernetes_have_the_rights_of_their_rows(node: Node) -> None:
    cluster = begin(node)
    cluster.create("nginx")
    cluster.rolled_out("web")
    found = settled(node)
    assert found.keys() >= WANTED, sorted(WANTED - found.keys())
    assert differences(found) == []
    # The DNS answers, at its port below 1024, and its key is for it alone.
    node.succeed("nslookup kubernetes.default.svc.cluster.local 169.254.20.10")
    modes = node.succeed("stat -c '%a %U' /run/kubesolo/cluster-dns/kubeconfig").text
    assert modes.split() == ["400", "_dns"]
