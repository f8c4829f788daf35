"""The first part: boot, update, and the way back from a release whose init panics."""

from __future__ import annotations

from harness.faults.http import WebServer
from harness.journal.boots import Ready
from harness.journal.patterns import Pattern
from harness.target.node import Node
from product.errors import KubesoloError
from scenarios.demo.story import Story
from scenarios.releases import Releases
from scenarios.steps import Update, offer


def slots(releases: Releases) -> list[str]:
    """Build the releases; what each weighs."""
    built = (releases.good.slot, releases.panicking_init.slot)
    return [f"{slot.version}: {slot.manifest.total_size / 1e6:.0f} MB" for slot in built]


def tell(node: Node, releases: Releases, story: Story) -> None:
    """The main job on one node. Raises KubesoloError where it ends otherwise."""
    with story.chapter("boot 0.1.0") as outcome:
        ready = node.boot()
        outcome.append(f"slot {ready.slot}, {ready.version}, confirmed")
    first = releases.sign("demo", releases.good.slot)
    with WebServer(first.repository) as server:
        offer(node, first, server)
        update = Update(node, first, server)
        with story.chapter("apply 0.2.0 to slot B, verify, arm") as outcome:
            update.stage()
            outcome.append("signed, downloaded, read back, boot counter 3")
        with story.chapter("boot 0.2.0, health check, commit") as outcome:
            with node.expect_boots(1) as boots:
                node.reboot()
                ready = node.wait_ready()
            runs_the_good_one(ready, "the update")
            outcome.append(f"slot {boots.slots[0]}, confirmed")
        bad = releases.publish_next(first, releases.panicking_init.slot)
        update = Update(node, bad, server)
        with story.chapter("apply 0.2.1, whose init panics, to slot A") as outcome:
            update.stage()
            outcome.append("armed")
        with story.chapter("three failed boots and the way back") as outcome:
            with (
                node.expecting(Pattern.INIT_EXITED, times=3),
                node.expect_boots(4) as boots,
            ):
                node.reboot()
                # The last of the four is the one that gets ready.
            ready = node.wait_ready()
            runs_the_good_one(ready, "the rollback")
            outcome.append(f"slots {' '.join(boots.slots)}")
            outcome.append(str(node.status().update.last_error))


def runs_the_good_one(ready: Ready, what: str) -> None:
    """Raise KubesoloError unless 0.2.0 runs in slot B and is confirmed, where ``what`` ended."""
    if (ready.slot, ready.version, ready.confirmed) != ("B", "0.2.0", True):
        state = "confirmed" if ready.confirmed else "not confirmed"
        raise KubesoloError(
            f"{what} ended in slot {ready.slot} with {ready.version}, {state}; "
            "slot B with 0.2.0, confirmed, was expected"
        )
