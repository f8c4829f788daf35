"""Commands by the resident process that has the agent's imports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import AVAILABLE, UP_TO_DATE, Update

Serve = Callable[..., Update]

SERVES = "until [ -S /run/kubesolo/agent.sock ]; do sleep 1; done"
SERVER = (
    "for process in $(pidof python3); do "
    "if grep -q cli.resident /proc/$process/cmdline; then echo $process; fi; done"
)


@scenario()
@pytest.mark.machine(memory_mib=1024)
def test_commands_by_the_resident_process(node: Node, releases: Releases, serve: Serve) -> None:
    """They end as without it, an update too, and a killed one is nobody's loss."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    node.succeed(SERVES, seconds=120)
    [server] = node.succeed(SERVER).text.split()
    pages = node.succeed(f"grep VmRSS: /proc/{server}/status").text.split()[1]
    assert int(pages) <= 30 * 1024, f"the idle agent has {pages} KiB"
    update.check(exit=AVAILABLE)
    by_server = node.status()
    node.succeed(f"sv once /run/service/agent; kill -9 {server}")
    alone = node.status()
    assert (alone.slots, alone.update) == (by_server.slots, by_server.update)
    node.succeed(f"sv up /run/service/agent; rm /run/kubesolo/agent.sock; {SERVES}", seconds=120)
    ready = update.install()
    assert (ready.version, ready.slot, ready.confirmed) == (releases.good.version, "B", True)
    update.check(exit=UP_TO_DATE)
