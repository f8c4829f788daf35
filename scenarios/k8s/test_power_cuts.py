"""Power cuts on a node that runs Kubernetes."""

from __future__ import annotations

import re

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.kubernetes import LOG, MACHINE, begin

pytestmark = pytest.mark.machine(**MACHINE)

# From power on to the API server's start.
BOOT = 120.0

# One object after another, each acknowledged where no cut reaches it. Nothing is flushed for it.
LOAD = """
number=0
while :; do
    number=$((number + 1))
    {kubectl} create configmap load-$number --from-literal=number=$number > /dev/null || exit 1
    echo "acknowledged $number" > /dev/console
done
"""


@scenario()
def test_cut_while_kubernetes_starts_and_under_load(node: Node) -> None:
    """What kubectl was told is stored is there after each cut."""
    cluster = begin(node)
    cluster.create("store")
    cluster.wait("pod/store", "condition=Ready")
    loaded = node.journal.cursor
    node.start(LOAD.format(kubectl=" ".join(cluster.command)), seconds=600)
    node.wait_console(r"^acknowledged ([5-9]|\d\d)$", seconds=120, since=loaded)
    node.power_cut()
    acknowledged = [
        found[1]
        for event in node.journal.events(loaded)
        if (found := re.fullmatch(r"acknowledged (\d+)", event.text))
    ]
    since = node.journal.cursor
    node.power_on()
    # In the middle of its start: the services run, nothing is ready.
    node.wait_console("enter stage: /etc/runit/2", since=since)
    node.wait_console("kubesolo: network", since=since)
    node.power_cut()
    # Further on: the datastore is open and written to.
    since = node.journal.cursor
    node.power_on()
    node.target.channel.wait_up(node.deadline(BOOT))
    node.succeed(f"until grep -q 'start kube-apiserver' {LOG}; do sleep 0.2; done", seconds=BOOT)
    node.succeed(f"! grep -q 'is ready' {LOG}")
    node.power_cut()
    assert not any("kubernetes ready" in event.text for event in node.journal.events(since))
    node.boot()
    assert cluster.is_ready
    assert len(acknowledged) >= 5
    names = {item["metadata"]["name"] for item in cluster.get("configmaps")["items"]}
    assert names >= {f"load-{number}" for number in acknowledged}
    cluster.store_started(2)
    cluster.wait("pod/store", "condition=Ready")
