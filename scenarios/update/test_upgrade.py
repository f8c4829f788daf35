"""From the release before, as it was made, to this one, and back.

Every other scenario knows only this checkout. Here the old agent fetches, writes and arms, and the
old boot loader starts what it has written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.faults.http import WebServer
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from product.current import VERSION
from product.image.cache import Cache
from product.image.recipe import Arch as ImageArch
from product.image.tools import HostTools
from product.publish.matrix import UPGRADED_FROM
from scenarios.before import Before, release_before
from scenarios.kubernetes import JUDGED, MACHINE
from scenarios.releases import Releases
from scenarios.steps import Update, offer, read_data, write_data

if TYPE_CHECKING:
    from conftest import Images


@pytest.fixture
def before(arch: Arch, host_tools: HostTools, tmp_path: Path) -> Before:
    """The release before; skips where there is none."""
    return release_before(ImageArch(arch.value), host_tools, tmp_path)


@pytest.fixture
def this_one(
    before: Before,
    cache: Cache,
    host_tools: HostTools,
    releases_of: Callable[[Images], Releases],
) -> Releases:
    """Releases of this checkout, built from the recipe of the release before."""
    from conftest import Images

    return releases_of(Images(cache, host_tools, recipe=before.recipe))


@scenario()
def test_the_release_before_takes_this_one_and_gets_the_node_back(
    before: Before,
    this_one: Releases,
    machine_factory: Callable[..., Node],
    webserver: Callable[[Path], WebServer],
    record_property: Callable[[str, object], None],
) -> None:
    release = this_one.sign("this-one", this_one.slot(VERSION))
    machine = MACHINE if release.slot.manifest.kubernetes else {}
    node = machine_factory("node", image=before.disk, **machine)
    ready = node.boot()
    assert (ready.version, ready.slot, ready.confirmed) == (before.version, "A", True)
    write_data(node, "kept")
    server = webserver(release.repository)
    offer(node, release, server)
    Update(node, release, server).stage()
    with node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == (VERSION, "B", True)
    assert node.status().update.from_version == before.version
    assert read_data(node) == "kept"
    with node.expect_boots(1) as boots:
        node.succeed(["kubesolo-update", "rollback"])
        node.reboot()
        ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["A"]
    assert (ready.version, ready.confirmed) == (before.version, True)
    assert read_data(node) == "kept"
    record_property(UPGRADED_FROM, before.version)
