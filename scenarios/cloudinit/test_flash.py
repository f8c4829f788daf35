"""A disk that `flash` wrote is a node that nobody needs to log in to."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.faults.http import WebServer
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from scenarios.releases import Releases
from scenarios.steps import APPLY_SECONDS

if TYPE_CHECKING:
    from conftest import Images

USER_DATA = """\
#cloud-config
hostname: edge-21
updates:
  server: {server}
  check_interval: 1
  pubkey: |
{pubkey}
"""
# The first look comes a minute after the boot, and up to a tenth of that later.
LOOK_SECONDS = 80.0


@scenario(tier="core")
def test_a_flashed_node_updates_itself(
    machine_factory: Callable[..., Node],
    arch: Arch,
    images: Images,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
    tmp_path: Path,
) -> None:
    server = webserver(releases.good.repository)
    key = textwrap.indent(releases.good.pubkey.decode(), "    ")
    config, disk = tmp_path / "user-data", tmp_path / "disk.img"
    config.write_text(USER_DATA.format(server=server.url, pubkey=key))
    image = images[arch.value].disk
    words = ("flash", str(image), str(disk), "--config", str(config))
    command = [sys.executable, "-m", "product.image", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    node = machine_factory(image=disk)
    node.power_on()
    first = node.wait_ready()
    assert (first.version, first.slot, first.confirmed) == ("0.1.0", "A", True)
    with node.expect_boots(1, seconds_each=LOOK_SECONDS + APPLY_SECONDS) as boots:
        node.wait_console(
            "kubesolo-update: 0.2.0 is staged in slot B: rebooting",
            seconds=LOOK_SECONDS + APPLY_SECONDS, since=0,
        )  # fmt: skip
    second = node.wait_ready()
    assert boots.slots == ["B"]
    assert (second.version, second.slot, second.confirmed) == ("0.2.0", "B", True)
    assert node.succeed("hostname").text == "edge-21"
    configuration = node.status().configuration
    assert configuration.source == "the folder kubesolo of KSOLOEFI"
