"""A real Prometheus scrapes a real server, with the published configuration and alerts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.servers.prometheus import Prometheus
from product.agent.config import load_config
from product.agent.metrics.collect import FACTS, collect
from product.agent.metrics.families import METRICS
from product.agent.metrics.tests.test_figures import FIXED
from product.agent.metrics.text_format import GAUGE
from product.agent.metrics.vitals import AGE, AGE_HELP, NAMES
from product.agent.settings import check_value
from product.agent.tests.world import FakeRelease, World
from product.cloudinit import load_user_data
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs/metrics.md"
EXAMPLES = ROOT / "docs/examples/metrics"
# The server's own main, but for a port of the kernel's choice.
RUN = """
import sys
from product.agent.metrics.server import Server
server = Server([sys.argv[1]], 0, sys.argv[2])
print(server.ports[0], flush=True)
while True:
    server.step(60)
"""


@pytest.fixture(scope="module")
def tools() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "metrics-tools.toml")


class Served:
    """A node's directory, and the process that serves its figures."""

    def __init__(self, world: World, address: str) -> None:
        self.world = world
        # The collector's own way; another port than a node's, which this host may use.
        self.collect()
        folder = Path(world.paths.metrics)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, address, str(folder / FACTS)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline())
        self.target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def collect(self) -> None:
        assert collect(self.world.node(), load_config(self.world.paths.config))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture(params=["127.0.0.1", "::1"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    made = Served(World(tmp_path, monkeypatch), request.param)
    yield made
    made.close()


def scrape_config(target: str) -> str:
    """The documented example, with one real target, a short interval and absolute paths."""
    document = yaml.safe_load((EXAMPLES / "prometheus.yaml").read_text())
    document["global"]["scrape_interval"] = "200ms"
    document["global"]["scrape_timeout"] = "200ms"
    document["global"]["evaluation_interval"] = "200ms"
    document["rule_files"] = [str(EXAMPLES / name) for name in document["rule_files"]]
    document["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    return json.dumps(document)


def test_prometheus_follows_an_update(served: Served, tools: HostTools, tmp_path: Path) -> None:
    world = served.world
    with Prometheus(tools, tmp_path / "runs", scrape_config(served.target)) as prometheus:
        prometheus.wait_scraped()
        (target,) = prometheus.targets()
        assert target.url == f"http://{served.target}/metrics"
        attempts = "kubesolo_update_attempts_total"
        prometheus.wait_value(attempts, lambda value: value == 0)
        assert prometheus.value("count(kubesolo_update_phase)") == 9
        types = prometheus.metadata()
        for metric in METRICS:
            if metric.name in types:
                assert types[metric.name] == (metric.kind, metric.help)
        world.update(FakeRelease("0.2.0"))
        served.collect()
        prometheus.wait_value(attempts, lambda value: value == 1)
        phase = 'kubesolo_update_phase{phase="activated"}'
        prometheus.wait_value(phase, lambda value: value == 1)
        world.power_on()
        world.boot_service()
        served.collect()
        prometheus.wait_value('count(kubesolo_os_info{version="0.2.0"})', lambda value: value == 1)
        assert prometheus.value("kubesolo_update_installs_total") == 1
        world.run("rollback")
        served.collect()
        prometheus.wait_value("kubesolo_update_rollbacks_total", lambda value: value == 1)
        fires = 'ALERTS{alertname="KubeSoloRolledBack", alertstate="firing"}'
        prometheus.wait_value(f"count({fires})", lambda value: value == 1)
        _every_panel_has_an_answer(prometheus)


def _every_panel_has_an_answer(prometheus: Prometheus) -> None:
    # What a healthy fleet has nothing of.
    empty = {"Failed health checks", "Refusals by gate", "Metadata end"}
    for title, expression in panel_queries():
        found = prometheus.query(_filled(expression))
        assert found or title in empty, f"{title}: {expression}"


def dashboard() -> dict[str, Any]:
    found = json.loads((EXAMPLES / "dashboard.json").read_text())
    assert isinstance(found, dict)
    return found


def panel_queries() -> list[tuple[str, str]]:
    return [(p["title"], t["expr"]) for p in dashboard()["panels"] for t in p["targets"]]


def _filled(expression: str) -> str:
    return expression.replace("$job", ".*").replace("$instance", ".*")


def used_names(text: str) -> set[str]:
    return set(re.findall(r"\bkubesolo_\w+", text))


def known_names() -> set[str]:
    return {metric.name for metric in METRICS} | set(NAMES) | {AGE}


def test_dashboard_and_rules_ask_for_metrics_that_exist() -> None:
    queries = " ".join(expression for _, expression in panel_queries())
    assert used_names(queries) <= known_names()
    rules = (EXAMPLES / "rules.yaml").read_text()
    assert used_names(rules) <= known_names()
    assert used_names((EXAMPLES / "rules-test.yaml").read_text()) <= known_names()


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """By Grafana's "dashboard JSON model"; nothing of Grafana is at hand that could tell."""
    found = dashboard()
    assert found["id"] is None
    assert found["schemaVersion"] >= 36
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", found["uid"])
    variables = [one["name"] for one in found["templating"]["list"]]
    assert variables == ["datasource", "job", "instance"]
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in {"stat", "timeseries", "table"}
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert "$job" in target["expr"], panel["title"]
            assert "$instance" in target["expr"], panel["title"]


def test_what_the_document_tells_to_run(tools: HostTools) -> None:
    commands = re.findall(r"^promtool (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert b"SUCCESS" in tools.run("promtool", *command.split(), cwd=EXAMPLES)


def test_the_agents_commands_of_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, monkeypatch)
    lines = re.findall(r"^kubesolo-update (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(lines) == 3
    folder = "/var/lib/node_exporter"
    (tmp_path / "textfiles").mkdir()
    for line in lines:
        words = line.partition("#")[0].replace(folder, f"{tmp_path}/textfiles").split()
        assert world.run(*words) == 0
    assert "kubesolo_os_info" in capsys.readouterr().out
    assert (tmp_path / "textfiles/kubesolo.prom").exists()


def test_what_the_document_says_of_user_data_is_valid() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    for block in blocks:
        loaded = load_user_data(f"#cloud-config\n{block}".encode(), "metrics.md")
        assert loaded.config.updates is not None
    values = re.findall(r"`metrics_(address|port)=([^`]*)`", DOCUMENT.read_text())
    assert len(values) >= 6
    for key, value in values:
        assert check_value(f"metrics_{key}", value) is None


def test_every_alert_is_tested() -> None:
    rules = yaml.safe_load((EXAMPLES / "rules.yaml").read_text())["groups"][0]["rules"]
    tests = (EXAMPLES / "rules-test.yaml").read_text()
    alerts = [rule["alert"] for rule in rules if "alert" in rule]
    assert len(alerts) >= 10
    for alert in alerts:
        assert alert in tests


def table() -> str:
    """The document's list, made of the code."""
    rows = [(m.name, m.kind, ", ".join(m.labels), m.help) for m in METRICS]
    rows += [(name, GAUGE, "", text) for name, (_, text) in NAMES.items()]
    rows.append((AGE, GAUGE, "", AGE_HELP))
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for name, kind, labels, text in sorted(rows):
        shown = f"**`{name}`**" if name in FIXED else f"`{name}`"
        lines.append(f"| {shown} | {kind} | {labels} | {text} |")
    return "\n".join(lines)


def test_the_document_lists_every_metric() -> None:
    text = DOCUMENT.read_text()
    listed = text.partition("<!-- metrics -->\n")[2].partition("\n<!-- /metrics -->")[0]
    assert listed == table()
    assert known_names() >= FIXED


if __name__ == "__main__":
    # Renews the document's list.
    before, _, rest = DOCUMENT.read_text().partition("<!-- metrics -->\n")
    after = rest.partition("<!-- /metrics -->")[2]
    DOCUMENT.write_text(f"{before}<!-- metrics -->\n{table()}\n<!-- /metrics -->{after}")
