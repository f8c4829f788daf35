"""The HTML report over directories of evidence, whole and damaged."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from harness.report import html
from harness.report.data import INCOMPLETE, read_scenarios
from harness.report.html import write_report

TIMELINES = Path(__file__).parents[3] / "fixtures" / "timelines"
TIMEOUT = (
    "waited 62.7 s for boot 1 of 1 in step 'wait for 1 boots': nothing within 63 s\n"
    "last 20 console lines:\n  Boot Options\nrun again: ./noxw -s scenarios -- x"
)


def evidence(
    root: Path, name: str, timeline: str = "two-updates", arch: str = "x86_64", **fields: Any
) -> Path:
    """A scenario's directory, as a run leaves it."""
    directory = root / f"scenarios-{name}[{arch}]"
    node = directory / "node"
    node.mkdir(parents=True)
    shutil.copy(TIMELINES / f"{timeline}.json", node / "timeline.json")
    (node / "console.log").write_text("[ 1.0] a line\n")
    (node / "command").write_text("qemu\n")
    result = {
        "schema": 1,
        "test": f"scenarios/test_x.py::test_{name}[{arch}]",
        "arch": arch,
        "accelerator": "tcg",
        "host_scale": 1.3,
        "outcome": "passed",
        "failure": None,
        "reproduce": f"./noxw -s scenarios -- 'scenarios/test_x.py::test_{name}[{arch}]'",
        "nodes": ["node"],
        "seconds": 80.0,
        "guest_seconds": 76.0,
        "cpu_seconds": 60.0,
        "making_seconds": 3.0,
        "turn_seconds": 0.9,
        "overhead_seconds": 0.1,
        **fields,
    }
    (directory / "result.json").write_text(json.dumps(result))
    return directory


SCRIPT = (Path(html.__file__).parent / "templates" / "report.js").read_text()


class Page(HTMLParser):
    """What tests ask of a page; tags that do not match are an error."""

    _VOID = frozenset({"meta", "br", "hr", "input"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.rows: list[dict[str, str | None]] = []
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        assert not any(name.startswith("on") for name in values)
        if "data-row" in values:
            self.rows.append(values)
        if link := values.get("href"):
            self.links.append(link)
        if identity := values.get("id"):
            self.ids.append(identity)
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    @property
    def text(self) -> str:
        return re.sub(r"<[^>]*>", "", self.source)


def report(root: Path) -> Page:
    return Page(write_report(root / "scenarios", root / "report.html"))


def test_every_scenario_is_there_with_outcome_boots_and_picture(tmp_path: Path) -> None:
    evidence(tmp_path / "scenarios", "one")
    evidence(tmp_path / "scenarios", "two", arch="aarch64")
    page = report(tmp_path)
    assert page.tags.count("svg") == 2
    assert page.tags.count("details") == 4  # of each the scenario's and its console's
    for name in ("one", "two"):
        assert f">{name}</a>" in page.source
    assert page.source.count('<span class="chip b">B2</span>') == 4  # table and summary, each
    assert "What did not pass" not in page.source


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("a/test_x.py::test_a_hang[x86_64]", "a hang"),
        ("a/test_x.py::test_a_hang[x86_64-empty]", "a hang (empty)"),
        ("a/test_x.py::test_a_hang[empty-x86_64-2]", "a hang (empty, 2)"),
        ("a/test_x.py::test_a_hang", "a hang"),
        ("demo[x86_64]", "demo"),
    ],
)
def test_scenarios_are_named_as_sentences(tmp_path: Path, test: str, name: str) -> None:
    evidence(tmp_path / "scenarios", "one", test=test)
    assert f">{name}</a>" in report(tmp_path).source


def test_the_summary_counts_and_adds_up_by_architecture(tmp_path: Path) -> None:
    for name, overhead in (("one", 0.1), ("two", 0.3)):
        evidence(tmp_path / "scenarios", name, overhead_seconds=overhead)
    evidence(tmp_path / "scenarios", "three", arch="aarch64", outcome="failed", failure="why")
    page = report(tmp_path)
    assert '<div class="card ok"><b>2</b>passed</div>' in page.source
    assert '<div class="card bad"><b>1</b>not passed</div>' in page.source
    assert "overhead a scenario (most 300 ms)" in page.source
    assert "<b>167 ms</b>" in page.source
    assert "<b>4 min 0 s</b>all scenarios together" in page.source
    row = next(line for line in page.source.split("<tr>") if line.startswith("<td>x86_64</td>"))
    cells = re.findall(r'number">([^<]*)<', row)
    assert cells == ["2", "2", "0", "160.0", "152.0", "6.0", "1.8", "200 ms"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (119.94, "119.9 s"),
        (119.97, "2 min 0 s"),
        (129.4, "2 min 9 s"),
        (359.7, "6 min 0 s"),
        (7249, "2 h 1 min"),
    ],
)
def test_seconds_that_round_up_are_a_minute(tmp_path: Path, seconds: float, words: str) -> None:
    evidence(tmp_path / "scenarios", "one", guest_seconds=seconds)
    assert f"<b>{words}</b>of which guests ran" in report(tmp_path).source


def test_wall_time_leaves_out_the_gap_between_runs(tmp_path: Path) -> None:
    first = evidence(tmp_path / "scenarios", "one")
    second = evidence(tmp_path / "scenarios", "two")
    for directory, started in ((first, "2026-01-01"), (second, "2026-01-09")):
        path = directory / "node" / "timeline.json"
        timeline = json.loads(path.read_text())
        timeline["started"] = f"{started}T00:00:00+00:00"
        timeline["events"] = [{"time": 60.0, "source": "console", "kind": "line", "text": "x"}]
        path.write_text(json.dumps(timeline))
    assert "<b>2 min 0 s</b>wall time" in report(tmp_path).source


def test_failures_come_first_with_their_reason_console_and_command(tmp_path: Path) -> None:
    evidence(tmp_path / "scenarios", "a_good_one")
    evidence(tmp_path / "scenarios", "the_menu", "menu-timeout", outcome="failed", failure=TIMEOUT)
    page = report(tmp_path)
    head, _, table = page.source.partition("All scenarios")
    assert "waited 62.7 s for boot 1 of 1 in step &#x27;wait for 1 boots&#x27;" in head
    assert "At 164.4 s of <b>node</b>: gave up after 62.7 s." in head
    assert "./noxw -s scenarios -- &#x27;scenarios/test_x.py::test_the_menu[x86_64]&#x27;" in head
    tail = re.search(r"last console lines of node</p><pre>(.*?)</pre>", head, re.DOTALL)
    assert tail is not None
    lines = tail[1].split("\n")
    assert len(lines) == 20
    assert lines[-2:] == ["Modify system boot", "options"]
    assert head.count("<svg") == 1
    assert table.index("the menu") < table.index("a good one")


def test_links_are_relative_and_lead_to_what_is_there(tmp_path: Path) -> None:
    evidence(tmp_path / "scenarios", "one")
    evidence(tmp_path / "scenarios", "two#?%", outcome="failed", failure="why")
    (tmp_path / "scenarios" / "junit.xml").touch()
    page = report(tmp_path)
    files = [link for link in page.links if not link.startswith("#")]
    assert "scenarios/junit.xml" in files
    assert any(link.endswith("console.log") for link in files)
    for link in files:
        assert not link.startswith("/")
        assert ":" not in link
        assert (tmp_path / unquote(link)).exists(), link
    anchors = [link.removeprefix("#") for link in page.links if link.startswith("#")]
    places = [one for one in page.ids if one.startswith("scenario-")]
    assert sorted(anchors) == sorted(places)
    assert len(anchors) == 2


def test_the_folder_can_be_moved(tmp_path: Path) -> None:
    evidence(tmp_path / "here" / "scenarios", "one")
    output = write_report(tmp_path / "here" / "scenarios", tmp_path / "here" / "report.html")
    before = output.read_bytes()
    assert os.fspath(tmp_path).encode() not in before
    (tmp_path / "here").rename(tmp_path / "there")
    again = write_report(tmp_path / "there" / "scenarios", tmp_path / "there" / "report.html")
    assert again.read_bytes() == before


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    evidence(tmp_path / "scenarios", "one")
    page = report(tmp_path)
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("script") == 1
    bare = page.source.replace("http://www.w3.org/2000/svg", "")
    assert "http" not in bare.replace("http-equiv", "")
    assert "url(" not in bare


def test_each_picture_lies_beside_its_timeline(tmp_path: Path) -> None:
    directory = evidence(tmp_path / "scenarios", "one")
    report(tmp_path)
    picture = (directory / "node" / "timeline.svg").read_text()
    assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    assert "<style>" in picture


def test_a_snapshots_making_is_told_apart(tmp_path: Path) -> None:
    directory = evidence(tmp_path / "scenarios", "one", outcome="failed", failure=TIMEOUT)
    shutil.copytree(directory / "node", directory / "node-making-ready")
    page = report(tmp_path)
    assert "node-making-ready: the snapshot was made in this run" in page.source
    assert "last console lines of node-making-ready" not in page.source
    making = (directory / "node-making-ready" / "timeline.svg").read_text()
    assert "decided by" not in making
    assert "decided by" in (directory / "node" / "timeline.svg").read_text()


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x>', "&lt;\x00\x1b[1m"]
)
def test_hostile_text_stays_text(tmp_path: Path, hostile: str) -> None:
    directory = evidence(
        tmp_path / "scenarios", "one", outcome="failed", failure=f"{hostile}\n{hostile}",
        test=hostile, reproduce=hostile, accelerator=hostile,
    )  # fmt: skip
    timeline = json.loads((directory / "node" / "timeline.json").read_text())
    timeline["events"].append({"time": 80, "source": "console", "kind": "line", "text": hostile})
    (directory / "node" / "timeline.json").write_text(json.dumps(timeline))
    page = report(tmp_path)
    assert "img" not in page.tags
    assert page.tags.count("script") == 1
    assert page.scripts == [SCRIPT]
    assert "\x00" not in page.source
    assert "\x1b" not in page.source


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (None, "there is no result.json: the run ended before the scenario did"),
        (b"{", "result.json is unreadable"),
        (b"[]", "result.json is unreadable: it is no JSON object"),
        (b"\xff\xfe", "result.json is unreadable"),
    ],
)
def test_a_scenario_without_a_result_is_reported(
    tmp_path: Path, damage: bytes | None, said: str
) -> None:
    directory = evidence(tmp_path / "scenarios", "one")
    if damage is None:
        (directory / "result.json").unlink()
    else:
        (directory / "result.json").write_bytes(damage)
    page = report(tmp_path)
    assert [one.outcome for one in read_scenarios(tmp_path / "scenarios")] == [INCOMPLETE]
    assert said in page.source
    assert '<div class="card bad"><b>1</b>not passed</div>' in page.source
    assert page.tags.count("svg") == 1


@pytest.mark.parametrize("damage", [None, b"{", b"[]", b'{"events": [{"time": "x"}]}', b"\xff"])
def test_a_machine_without_a_timeline_is_reported(tmp_path: Path, damage: bytes | None) -> None:
    directory = evidence(tmp_path / "scenarios", "one", outcome="failed", failure="why")
    path = directory / "node" / "timeline.json"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    page = report(tmp_path)
    assert "No picture: " in page.source
    assert "[ 1.0] a line" in page.source  # from console.log then


def test_result_fields_of_a_wrong_type_do_no_harm(tmp_path: Path) -> None:
    evidence(tmp_path / "scenarios", "one", seconds="many", overhead_seconds=None, failure=["x"])
    page = report(tmp_path)
    assert '<td class="number">0.0</td>' in page.source


@pytest.mark.parametrize("there", [True, False])
def test_no_evidence_is_said(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "scenarios").mkdir()
    assert "No scenario has left evidence here." in report(tmp_path).source


def begun(root: Path, run: str, *selected: str, **fields: Any) -> None:
    """What a run leaves beside its scenarios."""
    document = {
        "schema": 1, "id": run, "commit": "c0ffee", "started": "2026-11-30T10:00:00+00:00",
        "tier": "core", "arch": "all", "selected": list(selected), "left_out": {}, "skipped": {},
        **fields,
    }  # fmt: skip
    (root / "run.json").write_text(json.dumps(document))


def test_the_report_is_of_one_run_and_says_what_did_not_run(tmp_path: Path) -> None:
    tests = {name: f"scenarios/test_x.py::test_{name}[x86_64]" for name in "abcde"}
    old, new = evidence(tmp_path, "a"), evidence(tmp_path, "b")
    cut = evidence(tmp_path, "c")
    (cut / "result.json").unlink()
    (old / "run").write_text("first\n")
    (new / "run").write_text(f"second\n{tests['b']}\n")
    (cut / "run").write_text(f"second\n{tests['c']}\n")
    begun(
        tmp_path, "second", tests["b"], tests["c"], tests["d"],
        left_out={tests["a"]: "in the full tier alone"}, skipped={tests["e"]: "no watchdog"},
    )  # fmt: skip
    assert [one.test for one in read_scenarios(tmp_path)] == [tests["c"], tests["b"]]
    text = write_report(tmp_path, tmp_path / "report.html").read_text()
    assert "Run <b>second</b> of commit <code>c0ffee</code>" in text
    assert "2 scenarios ran, 3 did not" in text
    assert f"<summary>in the full tier alone: 1</summary><ul>\n<li>{tests['a']}</li>" in text
    assert f"the run ended before it began: 1</summary><ul>\n<li>{tests['d']}</li>" in text
    assert f"no watchdog: 1</summary><ul>\n<li>{tests['e']}</li>" in text


def test_a_damaged_record_of_the_run_hides_nothing(tmp_path: Path) -> None:
    evidence(tmp_path, "a")
    (tmp_path / "run.json").write_text("{")
    assert len(read_scenarios(tmp_path)) == 1


def test_the_policy_admits_the_pages_own_script_alone(tmp_path: Path) -> None:
    evidence(tmp_path / "scenarios", "one")
    page = report(tmp_path)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.source)
    assert policy is not None
    assert (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in policy[1]
    )
    assert "unsafe-inline" not in policy[1].partition("script-src")[2]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in SCRIPT


def test_the_search_has_console_steps_and_what_is_filtered_by(tmp_path: Path) -> None:
    folder = tmp_path / "scenarios"
    one = evidence(folder, "one", backend="lab")
    two = evidence(folder, "two", "kernel-panic", arch="aarch64", outcome="failed", failure="why")
    timeline = json.loads((one / "node" / "timeline.json").read_text())
    timeline["events"].append({"time": 1, "source": "fault", "kind": "fired", "text": "power cut"})
    timeline["events"].append(
        {"time": 2, "source": "console", "kind": "line", "text": "<odd> line"}
    )
    (one / "node" / "timeline.json").write_text(json.dumps(timeline))
    tests = [json.loads((path / "result.json").read_text())["test"] for path in (one, two)]
    for path, test in zip((one, two), tests, strict=True):
        (path / "run").write_text(f"it\n{test}\n")
    begun(folder, "it", *tests, tier="full", core=[tests[1]])
    page = report(tmp_path)
    assert [
        [row[f"data-{name}"] for name in ("outcome", "arch", "tier", "backend", "fault", "seconds")]
        for row in page.rows
    ] == [
        ["failed", "aarch64", "core", "qemu", "", "80.000"],
        ["passed", "x86_64", "full", "lab", "power cut", "80.000"],
    ]
    assert "&lt;odd&gt; line" in page.source.partition('<pre class="console"')[2]
    for option in ("failed", "aarch64", "core", "lab", "power cut"):
        assert f'<option value="{option}">' in page.source
    for row in page.rows:  # what the script shows and hides together
        assert page.source.count(f'data-of="{row["data-row"]}"') == 1


def test_a_record_without_the_core_says_no_tier(tmp_path: Path) -> None:
    path = evidence(tmp_path, "a")
    test = json.loads((path / "result.json").read_text())["test"]
    (path / "run").write_text(f"it\n{test}\n")
    begun(tmp_path, "it", test, tier="full")
    assert [one.tier for one in read_scenarios(tmp_path)] == [""]
    begun(tmp_path, "it", test)  # of the core alone
    assert [one.tier for one in read_scenarios(tmp_path)] == ["core"]


def test_two_scenarios_of_one_name_have_places_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        evidence(tmp_path / "scenarios", name, test="x::test[x86_64]")
    places = [row["data-row"] for row in report(tmp_path).rows]
    assert len(set(places)) == 2
