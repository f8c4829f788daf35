"""An update by delta: only what changed is fetched, and whatever is wrong costs the whole file."""

from __future__ import annotations

import json
from collections.abc import Callable

from harness.faults.http import Fault
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from harness.target.protocols import Pending
from product.agent.slots.delta import COPY, END, HEADER, MAGIC
from product.deltas import Delta
from product.manifest import ROOT_NAME
from scenarios.releases import GOOD, Releases
from scenarios.steps import APPLY_SECONDS, Update, slot_digests

Serve = Callable[..., Update]


def _whole(update: Update) -> str:
    return f"/artifacts/{update.release.slot.manifest.artifact(ROOT_NAME).sha256}"


def _delta(update: Update) -> str:
    return f"/artifacts/{update.release.delta.sha256}"


def _asked(update: Update) -> list[str]:
    return [request.path for request in update.server.requests]


def _noted(node: Node) -> list[tuple[str, str]]:
    """Outcome and reason of each delta in the history."""
    entries = json.loads(node.succeed(["kubesolo-update", "history", "--json"]).stdout)
    return [(e["outcome"], e["reason"]) for e in entries if e["event"] == "delta"]


@scenario()
def test_only_what_changed_is_fetched(node: Node, releases: Releases, serve: Serve) -> None:
    """The node makes the new root of its own one and a delta, and runs it."""
    node.at(State.READY, slot="A")
    update = serve(releases.with_delta("delta"))
    ready = update.install()
    assert ready.slot == "B"
    assert _delta(update) in _asked(update)
    assert _whole(update) not in _asked(update), "the whole root was fetched"
    assert [outcome for outcome, _ in _noted(node)] == ["applied"]
    assert ready.version == GOOD


def _copy_of_the_old_root(delta: Delta, old: int, new: int) -> bytes:
    """A delta to as many bytes as the new root has, all of them the old one's."""
    out = MAGIC + HEADER.pack(new, 0, 0, 0, 0, 0)
    done = 0
    while done < new:
        length = min(old, new - done)
        # From the old file's beginning each time: back by all that was copied before it.
        distance = 0 if not done else old * 2 - 1
        out += bytes([COPY]) + _number(distance) + _number(length)
        done += length
    return out + bytes([END])


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@scenario()
def test_a_delta_to_something_else(node: Node, releases: Releases, serve: Serve) -> None:
    """A delta that a publisher signed, and that leads to another root of the same size."""
    node.at(State.READY, slot="A")
    new = releases.slot(GOOD).manifest.artifact(ROOT_NAME).size
    release = releases.with_delta(
        "delta-to-something-else", lambda delta, old: _copy_of_the_old_root(delta, old, new)
    )
    update = serve(release)
    update.apply()
    assert _whole(update) in _asked(update), "bytes that nobody signed were staged"
    ((outcome, reason),) = _noted(node)
    assert outcome == "failed"
    assert reason.startswith("delta-mismatch: "), reason
    assert node.status().update.phase == "staged"


def _held(update: Update) -> tuple[Pending, Fault]:
    """Start an apply and return in the middle of the delta, of which some kilobytes are left."""
    held = update.server.hold(_delta(update), 1000)
    running = update.node.start(["kubesolo-update", "apply"], seconds=APPLY_SECONDS)
    held.wait_fired(update.node.deadline(90))
    return running, held


@scenario()
def test_power_cuts_while_a_delta_is_fetched_and_applied(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.at(State.READY, slot="A")
    before = slot_digests(node)
    update = serve(releases.with_delta("delta-cut"))
    _, held = _held(update)
    node.power_cut()
    held.release()
    with node.expect_boots(1) as boots:
        node.boot()
    assert boots.slots == ["A"]
    _, held = _held(update)
    held.release()
    # By its answer the rest has come, and the node is at work with it.
    node.succeed("true")
    node.power_cut()
    with node.expect_boots(1) as boots:
        node.boot()
    assert boots.slots == ["A"]
    assert slot_digests(node)["A"] == before["A"]
    update.apply()
    assert node.status().update.phase == "staged"
    assert _whole(update) not in _asked(update), "the whole root was fetched"
    assert slot_digests(node)["A"] == before["A"]
