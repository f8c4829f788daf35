"""The second part: the same job on a node with Kubernetes, which is served all along."""

from __future__ import annotations

import re
import textwrap
import urllib.request

from harness.errors import CommandError
from harness.faults.http import WebServer
from harness.target.node import Node
from product.errors import KubesoloError
from scenarios.demo.appliance import runs_the_good_one
from scenarios.demo.story import Story
from scenarios.kubernetes import JUDGED, Cluster, trial, verdict
from scenarios.releases import Releases
from scenarios.steps import Update, configure, offer

# A release that boots, and whose cluster does not come up.
BAD = "kubelet-cannot-start"
# Seconds for which pods of kube-system must be well: short, for people to watch.
SETTLE = "6"
# Seconds that each boot then has for its health checks, on a quiet machine: the way back, too.
TRIAL = 90
# The manifest nginx: its port on the node.
NODE_PORT = 30080
_CHECKS = ("containerd", "api_server", "node_ready", "kube_system")
_ANSWER = 20.0


def slots(releases: Releases) -> list[str]:
    """Build the releases; what each weighs."""
    built = (releases.good.slot, releases.broken(BAD).slot)
    return [f"{slot.version}: {slot.manifest.total_size / 1e6:.0f} MB" for slot in built]


def tell(node: Node, releases: Releases, story: Story) -> None:
    """The main job beside a workload. Raises KubesoloError where it ends otherwise."""
    with story.chapter("boot 0.1.0 until the node is Ready") as outcome:
        ready = node.boot()
        cluster = Cluster(node)
        outcome.append(f"slot {ready.slot}, Kubernetes {cluster.payload['kubernetes']}")
        outcome.append(judged(node))
    with story.chapter("create a Deployment of nginx and its Service") as outcome:
        cluster.create("nginx")
        cluster.rolled_out("web")
        page = served(cluster)
        outcome.append(f"this host is served port {NODE_PORT} of the node: {heading(page)!r}")
    first = releases.sign("demo", releases.good.slot)
    with WebServer(first.repository) as server:
        offer(node, first, server, kube_system_settle=SETTLE, auto_rollback_after="1")
        with story.chapter("apply 0.2.0 to slot B, verify, arm") as outcome:
            Update(node, first, server).stage()
            outcome.append("signed, downloaded, read back, datastore copied")
        with story.chapter("boot 0.2.0, judged by the cluster, commit") as outcome:
            with node.expect_boots(1) as boots:
                node.reboot()
                ready = node.wait_ready(seconds=JUDGED)
            runs_the_good_one(ready, "the update")
            outcome.append(f"slot {boots.slots[0]}, confirmed")
            outcome.append(judged(node))
        with story.chapter("ask the Service again") as outcome:
            same(served(cluster), page, "the update")
            outcome.append("the same page")
        bad = releases.publish_next(first, releases.broken(BAD).slot)
        configure(node, healthcheck_deadline=trial(node, TRIAL))
        with story.chapter("apply 0.2.1, whose kubelet cannot start, to slot A") as outcome:
            Update(node, bad, server).stage()
            outcome.append("armed")
        with story.chapter("a failed health check and the way back") as outcome:
            with node.expect_boots(2) as boots:
                node.reboot()
                said = verdict(node, node.journal.cursor)
            if said != "rolled back":
                raise KubesoloError(f"a release whose kubelet cannot start was judged: {said}")
            ready = node.wait_ready(seconds=JUDGED)
            runs_the_good_one(ready, "the rollback")
            outcome.append(f"slots {' '.join(boots.slots)}")
            outcome.append(str(node.status().update.last_error))
        with story.chapter("ask the Service once more") as outcome:
            same(served(cluster), page, "the rollback")
            outcome.append("the same page")


def judged(node: Node) -> str:
    """Which checks of the cluster the agent's verdict on this boot was made of.

    Raises KubesoloError where one of them was not passed.
    """
    checks = {check["name"]: check for check in node.status().last_boot_check.health}
    for name in _CHECKS:
        if name not in checks or checks[name]["result"] != "pass":
            raise KubesoloError(f"the check {name} did not pass: {checks.get(name, 'no result')}")
    return f"pass: {', '.join(_CHECKS)}"


def served(cluster: Cluster) -> str:
    """The Service's page: when the node has it at the Service's address, what this host gets at the
    node's port. Raises CommandError, or what a wait on the node raises."""
    cluster.page(cluster.web)
    address = f"http://{cluster.node.address(NODE_PORT)}/"
    seconds = cluster.node.deadline(_ANSWER).seconds
    try:
        with urllib.request.urlopen(address, timeout=seconds) as answer:
            return str(answer.read().decode(errors="replace"))
    except OSError as error:
        raise CommandError(
            f"asked port {NODE_PORT} of the node by {address}: {error}; the node itself is served"
        ) from None


def same(page: str, before: str, what: str) -> None:
    """Raise KubesoloError where the Service gives another page after ``what``."""
    if page != before:
        raise KubesoloError(f"after {what} the Service gave {page!r}, before it {before!r}")


def heading(page: str) -> str:
    """The first words of a page, without its markup."""
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    return textwrap.shorten(text, 40, placeholder=" ...")
