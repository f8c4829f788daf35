"""An update that is cut off leaves the active slot alone, and the next one succeeds."""

from __future__ import annotations

from collections.abc import Callable

from harness.faults.link import LinkDown
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.held import apply_until_held, path_of
from scenarios.releases import Releases
from scenarios.steps import APPLY_SECONDS, FAILED, Update, read_data, slot_digests, write_data

Serve = Callable[..., Update]

KILL_AGENT = """
for process in /proc/[0-9]*; do
    if tr '\\0' ' ' < $process/cmdline | grep -q '[k]ubesolo-update apply'; then
        kill -9 ${process#/proc/} && exit 0
    fi
done
exit 1
"""


def _starts(update: Update) -> list[int]:
    """The bytes that the answered requests for the largest artifact began at, in their order."""
    asked = [r for r in update.server.requests if r.path == path_of(update)]
    asked.sort(key=lambda request: request.time)
    spans = [request.range or "bytes=0-" for request in asked]
    return [int(span.removeprefix("bytes=").partition("-")[0]) for span in spans]


@scenario(tier="core", core_arch="aarch64")
def test_without_power_without_network_and_killed(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """One update is cut off three times; no reboot lies between the last two and its success."""
    node.at(State.READY, slot="A")
    write_data(node, "kept")
    before = slot_digests(node)
    update = serve(releases.good)
    _, held = apply_until_held(update)
    node.power_cut()
    held.release()
    with node.expect_boots(1) as boots:
        node.boot()
    assert boots.slots == ["A"]
    assert slot_digests(node)["A"] == before["A"]
    running, held = apply_until_held(update)
    with LinkDown(node.machine):
        held.release()
        done = running.wait(node.deadline(APPLY_SECONDS))
        assert done.exit == FAILED, done
        assert node.status().update.last_error.startswith("server-unreachable: ")
        assert slot_digests(node)["A"] == before["A"]
    running, held = apply_until_held(update)
    node.succeed(KILL_AGENT)
    assert running.wait(node.deadline(30)).exit != 0
    held.release()
    assert slot_digests(node)["A"] == before["A"]
    update.apply()
    # What the power cut left need not be used.
    *_, lost, killed = _starts(update)
    assert 0 < lost < killed, "an attempt did not begin where the last one was cut off"
    assert node.status().update.phase == "staged"
    assert slot_digests(node)["A"] == before["A"]
    assert read_data(node) == "kept"
