"""The network is bad, or names are not found on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.faults.dns import DnsFailure, NameServer
from harness.faults.network import BadLine, Line
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import AVAILABLE, FAILED, Update, configure

Serve = Callable[..., Update]

NAME = "updates.test"
# At worse ones QEMU's user network, whose TCP is an old one, brings some KB a second.
BAD = Line(latency=0.002, loss=0.0005, duplicate=0.01, reorder=0.002)
BAD_SECONDS = 600.0
# Until a name is given up: the C library's own patience, and the agent's three tries.
NAME_SECONDS = 180.0

SAID = {
    DnsFailure.SERVFAIL: "Temporary failure in name resolution",
    DnsFailure.NXDOMAIN: "Name or service not known",
    DnsFailure.TIMEOUT: "Temporary failure in name resolution",
    DnsFailure.WRONG_ADDRESS: "No route to host",
}


@scenario()
def test_a_release_comes_over_a_bad_line(node: Node, releases: Releases, serve: Serve) -> None:
    """Frames come late, twice, in another order or not at all, and what was signed is staged."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with BadLine(node.machine, BAD):
        node.succeed(["kubesolo-update", "apply"], seconds=BAD_SECONDS)
    assert node.status().update.phase == "staged"
    update.activate()
    node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)


@pytest.fixture
def names(node: Node) -> Iterator[NameServer]:
    """A name server that knows the update server."""
    node.at(State.READY, slot="A")
    with NameServer(node.machine, {NAME: node.host_address}) as server:
        yield server


@scenario()
def test_a_name_that_is_not_found_is_said_and_asked_for_again(
    node: Node, releases: Releases, names: NameServer, serve: Serve
) -> None:
    """Whatever the name server does: the error says it, and the next look succeeds."""
    update = serve(releases.good)
    configure(node, server=update.server.url.replace(node.host_address, NAME))
    for failure, words in SAID.items():
        with names.failing(failure):
            done = node.fail(["kubesolo-update", "check"], exit=FAILED, seconds=NAME_SECONDS)
        assert f"{NAME}" in done.stderr.decode(), done
        assert words in done.stderr.decode(), done
    update.check(exit=AVAILABLE)
    node.succeed(["kubesolo-update", "apply"], seconds=NAME_SECONDS)
    assert node.status().update.phase == "staged"
    assert names.asked[NAME] > 0
