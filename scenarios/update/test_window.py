"""The maintenance window is one of the node's time zone, and what is not known of it is closed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.image.seed import seed_image
from product.image.tools import HostTools
from scenarios.steps import CONF_PATH, FAILED, REFUSED

# 13:30 in UTC is 22:30 in Tokyo.
HALF_PAST_ONE = "2026-12-15T13:30:00"
USER_DATA = """\
#cloud-config
timezone: Asia/Tokyo
updates:
  server: http://127.0.0.1:9/
  pubkey: /etc/kubesolo/update.pem
  check_interval: 0
  maintenance_window: {window}
"""
OUTSIDE = "outside the maintenance window"


def _refused(node: Node) -> str:
    return node.fail(["kubesolo-update", "apply"], exit=REFUSED).stderr.decode()


@scenario(rtc=HALF_PAST_ONE)
def test_a_window_is_in_the_nodes_time_zone(
    machine_factory: Callable[..., Node], host_tools: HostTools, tmp_path: Path
) -> None:
    files = {"user-data": USER_DATA.format(window="22:00-24:00").encode()}
    node = machine_factory(seed=seed_image(tmp_path / "seed", files, tools=host_tools))
    node.boot()
    status = node.status()
    assert status.maintenance.window == "22:00-24:00"
    assert status.maintenance.zone == "Asia/Tokyo (JST +0900)"
    assert status.maintenance.open
    # The window let it pass; there is no key.
    done = node.fail(["kubesolo-update", "apply"], exit=FAILED)
    assert OUTSIDE not in done.stderr.decode(), done
    # By UTC this one would be open.
    node.succeed(f"sed -i s/22:00-24:00/9:00-17:00/ {CONF_PATH}")
    assert "it is 22:3" in _refused(node)
    status = node.status()
    assert not status.maintenance.open
    # 9:00 of the next day, there.
    assert node.succeed(f"date -u -d @{status.maintenance.opens} +%F-%H:%M").text == (
        "2026-12-16-00:00"
    )


@scenario(tier="core", core_arch="aarch64")
def test_a_window_that_cannot_be_read_is_closed(node: Node) -> None:
    """Written with an editor of Windows, and mistyped: nothing is applied, armed or rebooted."""
    node.at(State.READY)
    conf = "\ufeffserver=http://127.0.0.1:9/\r\npubkey='/etc/kubesolo/update.pem'\r\nnew_key=1\r\n"
    node.put(conf, CONF_PATH)
    status = node.status()
    assert status.problems == []
    assert "'new_key' is no key of this version" in status.unknown_keys[0]
    assert status.maintenance.open
    node.put(conf + "maintenance_windw=22:00-24:00\r\n", CONF_PATH)
    done = node.fail(["kubesolo-update", "apply"], exit=FAILED)
    assert "perhaps maintenance_window is meant" in done.stderr.decode(), done
    assert "note: " in done.stderr.decode(), done
    done = node.run(["kubesolo-update", "rollback", "--reboot"])
    assert (done.exit, "the maintenance window is not known" in done.stderr.decode()) == (
        REFUSED,
        True,
    ), done
    assert not node.status().maintenance.open
    # The boot-time health check does not mind.
    node.reboot()
    assert node.wait_ready().confirmed
