"""The node's clock: wrong at first, right once somebody can be asked, and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from harness.faults.http import WebServer
from harness.faults.link import LinkDown
from harness.faults.ntp import TimeServer
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.set_up import set_up
from scenarios.steps import Update, offer

# What a hardware clock without a battery shows. A PC's firmware knows nothing before 2000.
CLOCK = {Arch.X86_64: "2000-01-01T00:00:00", Arch.AARCH64: "1970-01-01T00:00:00"}
# A node whose clock is right is off by less, on a host that is busy.
SECONDS = 20.0
# 2026-11-01, the images' date.
BUILT = 1793491200
MOVED = r"kubesolo: time: synchronised, the clock moved by (\d+) s$"
BEHIND = "the clock stood before the image's build date and was set to it"


@set_up
def _ask(node: Node, server: TimeServer) -> None:
    """Configure the server, from now on."""
    node.put(f"# ours\n{server.guest_name}\n", "/etc/kubesolo/ntp")
    node.succeed("sync && sv -w 10 restart /run/service/time")


def _clock(node: Node) -> float:
    """What the node's clock shows, in seconds since 1970."""
    return float(node.succeed("date +%s").text)


@scenario()
def test_a_clock_without_a_battery_is_set_when_the_cable_comes(
    machine_factory: Callable[..., Node],
    arch: Arch,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    """And the next boot begins where this one ended, not where the image was built."""
    node = machine_factory(rtc=CLOCK[arch])
    with TimeServer() as server:
        node.power_on()
        with LinkDown(node.machine):
            ready = node.wait_ready()
            assert ready.confirmed
            assert BUILT <= _clock(node) < BUILT + 3600
            _ask(node, server)
            status = node.status()
            assert BEHIND in status.problems
            assert (status.time.synchronised, status.time.servers) == (False, [server.guest_name])
            assert not any(problem.startswith("time:") for problem in status.problems)

            since = node.journal.cursor
            server.answer()
        (moved,) = node.wait_console(MOVED, since=since)
        assert int(moved or 0) > 3600
        assert abs(_clock(node) - time.time()) < SECONDS
        found = node.status().time
        assert (found.synchronised, found.source, found["from"]) == (
            True,
            node.host_address,
            "configuration",
        )

        # What was written by the wrong clock is in nobody's way: a release of today is taken.
        web = webserver(releases.good.repository)
        offer(node, releases.good, web)
        update = Update(node, releases.good, web)
        update.stage()
        known = _clock(node)
        server.fall_silent()
        node.reboot()
        ready = node.wait_ready()
        assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
        # The machine's clock was set along, and forgets it without power.
        assert known - SECONDS < _clock(node) < known + 3600
        node.power_cut()
        since = node.journal.cursor
        node.power_on()
        node.wait_ready()
        node.wait_console("kubesolo: the clock stood before what this node last knew", since=since)
        assert known - SECONDS < _clock(node) < known + 3600
        status = node.status()
        assert status.time.synchronised is False
        assert status.problems == []


@scenario()
def test_local_time_and_authorities_are_those_of_the_site(node: Node) -> None:
    """Also for Python, which the agent is written in."""
    node.at(State.READY)
    authority = node.succeed(
        "sed '/END CERTIFICATE/q' /etc/ssl/certs/ca-certificates.crt"
    ).text.replace("\n", "\r\n")
    before = _trusted(node)
    node.put("Asia/Kolkata\n", "/etc/kubesolo/timezone")
    node.put(authority, "/etc/kubesolo/ca-certificates.crt")
    node.succeed("sync")
    node.reboot()
    node.wait_ready()
    assert node.succeed("date +%z").text == "+0530"
    zone = node.succeed(["python3", "-c", "import time; print(time.strftime('%Z %z'))"]).text
    assert zone == "IST +0530"
    assert _trusted(node) == before + 1
    assert node.status().problems == []
    # A zone that is none leaves UTC, and is said.
    node.put("Europe/Nowhere\n", "/etc/kubesolo/timezone")
    node.succeed("sync")
    node.reboot()
    node.wait_ready()
    assert node.succeed("date +%z").text == "+0000"
    (problem,) = node.status().problems
    assert "/etc/kubesolo/timezone names 'Europe/Nowhere'" in problem


def _trusted(node: Node) -> int:
    """How many certificates the agent's kind of connection believes."""
    read = "print(open(ssl.get_default_verify_paths().cafile).read().count('BEGIN CERT'))"
    return int(node.succeed(["python3", "-c", f"import ssl; {read}"]).text)
