"""Under which terms a release is offered: to whom, and whether it may be a step back."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.terms import Terms
from scenarios.releases import Releases
from scenarios.steps import REFUSED, UP_TO_DATE, Update

Serve = Callable[..., Update]


@scenario()
def test_a_release_for_nobody_yet(node: Node, releases: Releases, serve: Serve) -> None:
    """Who waits downloads nothing, and an operator may be the first."""
    node.at(State.READY, slot="A")
    held = releases.sign("for-nobody", releases.good.slot, terms=Terms(percent=0))
    update = serve(held)
    update.refused("rollout", exit=REFUSED)
    assert not [request for request in update.server.requests if "/artifacts/" in request.path]
    node.succeed(["kubesolo-update", "apply", "--force"], seconds=180)
    assert "rolled out to 0 of 100 nodes" in str(node.status().update.bypassed)


@scenario()
def test_a_paused_release(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    paused = releases.sign("paused", releases.good.slot, terms=Terms(paused="being looked into"))
    serve(paused).refused("rollout", exit=REFUSED)


@scenario()
def test_a_way_back_that_the_publisher_signed(node: Node, releases: Releases, serve: Serve) -> None:
    """An older version is installed, committed, and what runs then."""
    node.at(State.READY, slot="A")
    back = releases.sign("signed-back", releases.older.slot, terms=Terms(allow_downgrade=True))
    update = serve(back)
    ready = update.install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.0.9", "B", True)
    update.check(exit=UP_TO_DATE)
