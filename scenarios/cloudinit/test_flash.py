"""A disk that a flashing tool has written: its node needs nobody, not even for updates."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.faults.http import WebServer
from harness.pytest_plugin.image import ImageUnderTest
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from scenarios.releases import Releases

USER_DATA = """\
    #cloud-config
    hostname: edge-12
    updates:
      server: {server}
      check_interval: 1
      pubkey: |
    {pubkey}
    """
# A look each minute, the first within 66 s of the start; then the download, and a boot.
UPDATE_SECONDS = 400.0


@scenario()
def test_a_flashed_node_updates_itself(
    machine_factory: Callable[..., Node],
    images: Mapping[str, ImageUnderTest],
    arch: Arch,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
    tmp_path: Path,
) -> None:
    release = releases.good
    server = webserver(release.repository)
    pubkey = textwrap.indent(release.pubkey.decode(), "    ")
    config = tmp_path / "user-data"
    config.write_text(textwrap.dedent(USER_DATA).format(server=server.url, pubkey=pubkey))
    disk = tmp_path / "disk.img"
    subprocess.run(
        [
            *(sys.executable, "-m", "product.image", "flash"),
            *(images[arch].disk, disk, "--config", config),
        ],
        check=True,
    )
    node = machine_factory(image=disk)
    node.boot()
    configuration = node.status().configuration
    assert configuration.source == "the folder kubesolo of KSOLOEFI"
    assert (configuration.outcome, configuration.problems) == ("applied", [])
    # From here on nobody does anything.
    node.wait_console("kubesolo: boot slot=B", seconds=UPDATE_SECONDS, since=0)
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    status = node.status()
    assert (status.configuration.outcome, status.problems) == ("unchanged", [])
    assert node.succeed("hostname").text == "edge-12"


@scenario(network=False)
def test_a_flashed_node_without_a_network_updates_from_its_own_disk(
    machine_factory: Callable[..., Node],
    images: Mapping[str, ImageUnderTest],
    arch: Arch,
    releases: Releases,
    tmp_path: Path,
) -> None:
    release = releases.good
    pubkey = textwrap.indent(release.pubkey.decode(), "    ")
    config, disk = tmp_path / "user-data", tmp_path / "disk.img"
    server = "disk:KSOLOEFI/updates"
    config.write_text(textwrap.dedent(USER_DATA).format(server=server, pubkey=pubkey))
    subprocess.run(
        [
            *(sys.executable, "-m", "product.image", "flash", images[arch].disk, disk),
            *("--config", config, "--repository", release.repository),
        ],
        check=True,
    )
    node = machine_factory(image=disk)
    node.power_on()
    node.wait_console("kubesolo: boot slot=B", seconds=UPDATE_SECONDS, since=0)
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    mounts = node.succeed("cat /proc/mounts").text
    assert "/run/kubesolo/repository" not in mounts
