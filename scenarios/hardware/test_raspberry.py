"""A Raspberry Pi keeps the boot contract: U-Boot's UEFI starts the same GRUB from an SD card.

Kubernetes does not run here: this image has none, and an emulated Pi has 1 GiB.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Images
from harness.faults.http import WebServer
from harness.journal.patterns import Pattern
from harness.pytest_plugin.lab import bench_of, is_lab
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from product.disk.loader import BOARD, IN_ROOT
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from scenarios.hardware import raspberry
from scenarios.releases import Release, Releases
from scenarios.steps import Update, failed_for, offer, read_data, write_data

Serve = Callable[..., Update]

HARDWARE = "rpi"
BOOT_SECONDS = 120.0


@pytest.fixture(scope="session")
def pi_images(
    request: pytest.FixtureRequest, images: Images, cache: Cache, host_tools: HostTools
) -> Images:
    """A lab's image is for its board's hardware already."""
    if not is_lab(request.config):
        return Images(cache, host_tools, hardware=HARDWARE)
    settings = bench_of(request.config).board.settings
    if settings.hardware != HARDWARE:
        pytest.skip(f"{settings.name} is no Raspberry Pi: its hardware is not {HARDWARE}")
    return images


@pytest.fixture(scope="session")
def pi_releases(pi_images: Images, releases_of: Callable[[Images], Releases]) -> Releases:
    return releases_of(pi_images)


@pytest.fixture
def pi(
    request: pytest.FixtureRequest,
    arch: Arch,
    pi_images: Images,
    machine_factory: Callable[..., Node],
    host_tools: HostTools,
    cache: Cache,
    tmp_path: Path,
) -> Node:
    if is_lab(request.config):
        return machine_factory("pi", image=pi_images[arch].disk)
    tools = HostTools.prepare(cache, IMAGES / "board-tools.toml")
    return machine_factory("pi", **raspberry.fields(pi_images[arch], tmp_path, host_tools, tools))


@pytest.fixture
def serve_pi(pi: Node, webserver: Callable[[Path], WebServer]) -> Serve:
    def serve(release: Release, **settings: str) -> Update:
        server = webserver(release.repository)
        offer(pi, release, server, **settings)
        return Update(pi, release, server)

    return serve


@scenario(arch="aarch64")
def test_it_boots_from_its_card_and_is_confirmed(pi: Node) -> None:
    ready = pi.boot()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    early = pi.succeed("cat /run/kubesolo/early").text.splitlines()
    assert {"disk=/dev/mmcblk0", "data=persistent"} <= set(early), early
    model = pi.succeed("tr -d '\\0' < /proc/device-tree/model").text
    assert model == "Raspberry Pi 3 Model B"
    pi.wait_console(rf"kubesolo: network \S+ {re.escape(pi.own_address)}", since=0)
    status = pi.status()
    assert status.environment.boot_success
    # The clock of a Pi has no battery, and this emulation takes its watchdog away.
    assert all("clock" in line or "watchdog" in line for line in status.problems), status.problems
    # The firmware's own view of the card has outlived its growth.
    table = pi.succeed("od -An -tx1 -j446 -N32 /dev/mmcblk0 | tr -d ' \\n'").text
    assert (table[8:10], table[40:42]) == ("0c", "ee")


def _with_another_config(releases: Releases, folder: Path) -> tuple[Release, str]:
    """0.3.0, which brings another CONFIG.TXT, and what that says."""
    board = folder / "overlay" / IN_ROOT / BOARD
    board.mkdir(parents=True)
    text = (releases.loader / BOARD / "CONFIG.TXT").read_text() + "# of 0.3.0\n"
    (board / "CONFIG.TXT").write_text(text)
    return releases.with_overlay("another-config", "0.3.0", folder / "overlay"), text


@scenario(arch="aarch64")
def test_an_update_brings_the_files_of_the_board(
    pi: Node, pi_releases: Releases, serve_pi: Serve, tmp_path: Path
) -> None:
    release, text = _with_another_config(pi_releases, tmp_path)
    pi.boot()
    write_data(pi, "kept")
    since = pi.journal.cursor
    ready = serve_pi(release).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.3.0", "B", True)
    pi.wait_console("kubesolo-update: boot loader of 0.3.0 installed", since=since)
    look = "mkdir -p /run/look && mount -t vfat -o ro /dev/mmcblk0p1 /run/look"
    assert pi.succeed(f"{look} && cat /run/look/CONFIG.TXT").text + "\n" == text
    assert pi.status().update.phase == "success"
    assert read_data(pi) == "kept"


@scenario(arch="aarch64")
def test_three_failed_boots_roll_back(pi: Node, pi_releases: Releases, serve_pi: Serve) -> None:
    pi.boot()
    serve_pi(pi_releases.panicking_init).stage()
    with (
        pi.expecting(Pattern.INIT_EXITED, times=3),
        pi.expect_boots(4, seconds_each=BOOT_SECONDS) as boots,
    ):
        pi.reboot()
        ready = pi.wait_ready()
    failed_for(boots, "Kernel panic - not syncing: Attempted to kill init")
    assert boots.slots == ["B", "B", "B", "A"]
    assert boots.counters[:3] == [2, 1, 0]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert pi.status().update.phase == "rolled_back"


@scenario(arch="aarch64")
def test_a_power_cut_of_an_unconfirmed_boot_spends_a_try(
    pi: Node, pi_releases: Releases, serve_pi: Serve
) -> None:
    pi.boot()
    serve_pi(pi_releases.good).stage()
    with pi.expect_boots(2, seconds_each=BOOT_SECONDS) as boots:
        since = pi.journal.cursor
        pi.reboot()
        pi.wait_console("kubesolo: stage 20-data", seconds=BOOT_SECONDS, since=since)
        pi.power_cut()
        ready = pi.boot()
    assert boots.slots == ["B", "B"]
    assert boots.counters == [2, 1]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
