"""Releases that a node must refuse, each by its name, with the active slot untouched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from harness.journal.journal import Source
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node, State
from product.release.repository import Overrides, utc_now
from scenarios.releases import Releases, monday
from scenarios.steps import FAILED, REFUSED, Update, offer

if TYPE_CHECKING:
    from conftest import Images

Serve = Callable[..., Update]


def _artifact(update: Update) -> str:
    return f"/artifacts/{update.release.slot.manifest.artifact('root.squashfs').sha256}"


@scenario(tier="core", core_arch="x86_64")
def test_tampered_artifact(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    tampered = update.server.tamper(_artifact(update), at=1 << 20)
    update.refused("digest-mismatch", exit=FAILED)
    assert tampered.count > 0
    fired = [event.text for event in node.journal.events() if event.source is Source.FAULT]
    assert fired == [f"byte {1 << 20} of {_artifact(update)} inverted"]
    assert node.status().slots.B.version is None, "a half slot looks whole"


@scenario()
def test_wrong_size(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    short = update.server.truncate(_artifact(update), to=1 << 20)
    update.refused("size-mismatch", exit=FAILED)
    assert short.count > 0


@scenario(tier="core", core_arch="aarch64")
def test_wrong_key(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    stranger = releases.sign("wrong-key", releases.good.slot, keys=releases.strangers_keys())
    serve(stranger).refused("untrusted-signature", exit=FAILED)


@scenario(tier="core", core_arch="x86_64")
def test_expired_metadata(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    past = Overrides(expires=utc_now() - timedelta(hours=1))
    expired = releases.sign("expired", releases.good.slot, overrides=past)
    serve(expired).refused("expired", exit=FAILED)


@scenario(tier="core", core_arch="aarch64")
def test_downgrade(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    serve(releases.older).refused("downgrade", exit=REFUSED)


@scenario()
def test_wrong_architecture(
    node: Node, releases: Releases, serve: Serve, images: Images, arch: Arch
) -> None:
    node.at(State.READY, slot="A")
    other = next(name for name in images if name != arch.value)
    foreign = images.builder(other).slot("0.2.0")
    misplaced = Overrides(architecture_path=arch.value)
    serve(releases.sign("foreign", foreign, overrides=misplaced)).refused(
        "architecture", exit=REFUSED
    )


def _replay(
    node: Node, releases: Releases, serve: Serve, name: str, clock: Callable[[], datetime]
) -> Update:
    """An update whose server hands out what was valid before a release that the node has seen,
    both of which were signed by ``clock``."""
    first = releases.sign(name, releases.good.slot, clock=clock)
    old = serve(first)
    signed = releases.sign(f"{name}-newer", releases.good.slot, clock=clock)
    newer = releases.publish_next(signed, releases.newer.slot, clock=clock)
    serve(newer).check(exit=10)
    offer(node, first, old.server)
    return old


@scenario()
def test_old_metadata_again(node: Node, releases: Releases, serve: Serve) -> None:
    """A server, or somebody before it, that goes on with what was valid days ago."""
    node.at(State.READY, slot="A")
    old = _replay(node, releases, serve, "replayed", lambda: monday() - timedelta(days=2))
    old.refused("metadata-rollback", exit=FAILED)


@scenario()
def test_a_cache_that_is_behind(node: Node, releases: Releases, serve: Serve) -> None:
    """What was valid until a moment ago is a cache's, and no attack."""
    node.at(State.READY, slot="A")
    old = _replay(node, releases, serve, "cached", utc_now)
    old.refused("metadata-stale", exit=FAILED)


@scenario()
def test_too_large_a_step(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    stepping = releases.sign("stepping", releases.newer.slot, min_compatible_version="0.2.0")
    serve(stepping).refused("min_compatible_version", exit=REFUSED)


@scenario(tier="core", core_arch="x86_64")
def test_outside_the_maintenance_window(node: Node, releases: Releases, serve: Serve) -> None:
    """A window of zero length never opens, and asks nobody; --force passes it."""
    node.at(State.READY, slot="A")
    update = serve(releases.good, maintenance_window="03:00-03:00")
    update.refused("maintenance_window", exit=REFUSED)
    assert update.server.requests == []
    node.succeed(["kubesolo-update", "apply", "--force"], seconds=180)
