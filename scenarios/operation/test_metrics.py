"""A node's figures: a real Prometheus follows an update, and nobody outside asks unless allowed."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

from harness.pytest_plugin.scenario import scenario
from harness.servers.prometheus import Prometheus
from harness.target.node import Node, State
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from scenarios.releases import Releases
from scenarios.steps import Update, configure

Serve = Callable[..., Update]

PORT = 9100
URL = f"http://127.0.0.1:{PORT}/metrics"
TEXTFILE = "/tmp/kubesolo.prom"
# What the service may take while nobody asks, in kB.
RESIDENT = 15_000
SERVER = "/proc/$(cat /run/sv/metrics-server/supervise/pid)/status"
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: kubesolo
  static_configs: [{{targets: ["{target}"]}}]
"""


def _own_figures(node: Node) -> str:
    """What a program of the node gets, once there is something."""
    wait = f"until wget -qO /tmp/figures {URL} 2> /dev/null; do sleep 1; done; cat /tmp/figures"
    return node.succeed(wait, seconds=120).stdout.decode()


def _reachable(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@scenario()
def test_prometheus_follows_an_update(
    node: Node, releases: Releases, serve: Serve, cache: Cache, tmp_path: Path
) -> None:
    tools = HostTools.prepare(cache, IMAGES / "metrics-tools.toml")
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    figures = _own_figures(node)
    assert "\nkubesolo_boot_success 1\n" in figures
    assert tools.run("promtool", "check", "metrics", stdin=figures.encode()) == b""
    outside = node.address(PORT)
    assert not _reachable(outside), "metrics are served to the network, and nobody asked for it"
    assert node.succeed(f"awk '/^Uid:/ {{print $2}}' {SERVER}").text.strip() == "102"
    resident = node.succeed(f"awk '/^VmRSS:/ {{print $2}}' {SERVER}").text
    assert int(resident) < RESIDENT

    configure(node, metrics_address="::")
    patience = node.deadline(180).seconds
    with Prometheus(tools, tmp_path / "runs", CONFIG.format(target=outside)) as prometheus:
        prometheus.wait_scraped(seconds=patience)
        attempts = "kubesolo_update_attempts_total"
        prometheus.wait_value(attempts, lambda value: value == 0, seconds=patience)
        update.install()
        running = f'kubesolo_os_info{{version="{releases.good.version}", slot="B"}}'
        prometheus.wait_value(running, lambda value: value == 1, seconds=patience)
        installs = "kubesolo_update_installs_total"
        prometheus.wait_value(installs, lambda value: value == 1, seconds=patience)
        # Over the reboot nothing went back: to Prometheus that would be a counter's new beginning.
        assert prometheus.value(attempts) == 1
        assert prometheus.value(f"resets({attempts}[1h])") == 0
        assert prometheus.value('kubesolo_update_phase{phase="success"}') == 1
        assert prometheus.value("kubesolo_update_available") == 0
        fetched = prometheus.value('kubesolo_update_bytes_total{kind="full"}')
        assert fetched is not None
        assert fetched > 0


@scenario()
def test_a_textfile_has_the_same_figures(node: Node, cache: Cache) -> None:
    tools = HostTools.prepare(cache, IMAGES / "metrics-tools.toml")
    node.at(State.READY)
    node.succeed(["kubesolo-update", "metrics", "--textfile", TEXTFILE])
    # node_exporter is not root.
    assert node.succeed(["stat", "-c", "%a", TEXTFILE]).text.strip() == "644"
    text = node.get(TEXTFILE)
    assert tools.run("promtool", "check", "metrics", stdin=text) == b""
    status = node.status()
    slot, version = status.boot.slot, status.version
    assert f'version="{version}"' in text.decode()
    assert f'slot="{slot}"' in text.decode()
    assert '\nkubesolo_update_phase{phase="idle"} 1\n' in text.decode()
    node.fail(["kubesolo-update", "metrics", "--textfile", "/nowhere/kubesolo.prom"], exit=1)


@scenario()
def test_switched_off_nothing_listens(node: Node) -> None:
    node.at(State.READY)
    _own_figures(node)
    configure(node, metrics_address="none")
    node.succeed(f"while wget -qO /dev/null {URL} 2> /dev/null; do sleep 1; done", seconds=120)
    assert f":{PORT} " not in node.succeed(["netstat", "-ltn"]).text
    configure(node, metrics_address="::1")
    wait = f"until wget -qO- 'http://[::1]:{PORT}/metrics' 2> /dev/null; do sleep 1; done"
    assert "kubesolo_boot_success 1" in node.succeed(wait, seconds=120).text
    node.fail(f"wget -qO- {URL}")
