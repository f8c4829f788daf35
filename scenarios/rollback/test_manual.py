"""Going back by hand: through the agent, and at the boot menu."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import APPLY_SECONDS, FAILED, REFUSED, Update, boot_menu, read_data, write_data

Begin = Callable[..., Update]


@scenario(tier="core", core_arch="x86_64")
def test_an_operator_returns_to_the_former_slot(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    begin_after(Update.install, releases.good)
    write_data(node, "kept")
    with node.expect_boots(1) as boots:
        node.succeed(["kubesolo-update", "rollback"])
        node.reboot()
        ready = node.wait_ready()
    assert boots.slots == ["A"]
    assert boots.successes == [True]
    assert (ready.version, ready.confirmed) == ("0.1.0", True)
    status = node.status()
    assert status.update.phase == "rolled_back"
    assert status.update.last_error == "manual rollback"
    assert read_data(node) == "kept"
    node.fail(["kubesolo-update", "apply"], exit=REFUSED)


@scenario()
def test_an_operator_goes_before_an_update_that_waits_for_a_server(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    update = begin_after(Update.install, releases.good)
    held = update.server.hold("/metadata/timestamp.json", after=1, times=None)
    running = node.start(["kubesolo-update", "apply"], seconds=APPLY_SECONDS)
    held.wait_fired(node.deadline(90))
    node.succeed(["kubesolo-update", "rollback"], seconds=30)
    done = running.wait(node.deadline(30))
    held.release()
    assert done.exit == FAILED, done
    assert node.status().environment.active_slot == "A"


@scenario()
def test_a_fresh_image_has_nothing_to_return_to(node: Node) -> None:
    node.at(State.READY, slot="A")
    done = node.fail(["kubesolo-update", "rollback"])
    assert b"slot B" in done.stderr
    assert node.status().environment.active_slot == "A"


@scenario()
def test_the_boot_menu_switches_the_slot(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    begin_after(Update.install, releases.good)
    with node.expect_boots(1) as boots:
        boot_menu(node, "Switch to the other slot by hand")
    ready = node.wait_ready()
    assert boots.slots == ["A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert node.status().environment.active_slot == "A"
