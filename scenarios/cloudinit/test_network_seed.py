"""A configuration of the firmware: a name, or a URL that is fetched once and rebooted into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.faults.http import WebServer
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node


@scenario()
def test_a_seed_on_a_server_is_fetched_once_and_rebooted_into(
    machine_factory: Callable[..., Node],
    webserver: Callable[[Path], WebServer],
    tmp_path: Path,
) -> None:
    (tmp_path / "user-data").write_text("#cloud-config\nhostname: edge-11\n")
    (tmp_path / "meta-data").write_text("instance-id: served-1\n")
    server = webserver(tmp_path)
    # Fields of QEMU's option are parted by commas, of which a URL has none.
    node = machine_factory(extra=("-smbios", f"type=1,serial=ds=nocloud;s={server.url}/"))
    with node.expect_boots(2, seconds_each=150.0):
        node.power_on()
    node.wait_console("configuration: applied; the node restarts with it", since=0)
    node.wait_ready()
    configuration = node.status().configuration
    assert (configuration.outcome, configuration.instance_id) == ("unchanged", "served-1")
    assert node.succeed("hostname").text == "edge-11"
    asked = len(server.requests)
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    assert node.journal.cursor > since
    assert len(server.requests) == asked, "the seed was fetched again"


@scenario(extra=("-smbios", "type=1,serial=ds=nocloud;i=firmware-1;h=edge-14"))
def test_a_name_of_the_firmware(node: Node) -> None:
    node.boot()
    status = node.status()
    assert (status.configuration.outcome, status.problems) == ("applied", [])
    assert status.configuration.instance_id == "firmware-1"
    assert node.succeed("hostname").text == "edge-14"
