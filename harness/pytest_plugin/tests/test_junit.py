"""The JUnit file of a run, read back."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.report.tests.test_report import evidence
from harness.report.tests.test_report_written import pytest_run

# The elements of the common JUnit format: attributes that each must have, and what it may hold.
FORMAT = {
    "testsuites": ((), {"testsuite"}),
    "testsuite": (
        ("name", "tests", "failures", "errors", "skipped", "time", "timestamp"),
        {"properties", "testcase"},
    ),
    "testcase": (
        ("classname", "name", "time"),
        {"properties", "skipped", "failure", "error", "system-out", "system-err"},
    ),
    "properties": ((), {"property"}),
    "property": (("name", "value"), set()),
    "skipped": (("message",), set()),
    "failure": (("message",), set()),
    "error": (("message",), set()),
    "system-out": ((), set()),
    "system-err": ((), set()),
}


def read(path: Path) -> ET.Element:
    """The file, held against the format: elements, attributes, counts."""
    root = ET.parse(path).getroot()
    assert root.tag == "testsuites"
    for parent in root.iter():
        needed, within = FORMAT[parent.tag]
        assert set(needed) <= set(parent.keys()), parent.tag
        assert {child.tag for child in parent} <= within, parent.tag
    for suite in root.iter("testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))
        for kind in ("failure", "error"):
            assert suite.get(f"{kind}s") == str(len(suite.findall(f"testcase/{kind}")))
    for case in root.iter("testcase"):
        assert len(case.findall("properties")) <= 1
    return root


def properties(owner: ET.Element) -> dict[str, str]:
    """Properties by name, each of which is there once and flat."""
    found = [
        (one.get("name", ""), one.get("value", "")) for one in owner.findall("properties/property")
    ]
    assert max(Counter(name for name, _ in found).values(), default=1) == 1
    assert not any(value.startswith(("{", "[")) for _, value in found)
    return dict(found)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_properties_are_flat_and_links_lead_to_the_evidence(tmp_path: Path, workers: str) -> None:
    folder = tmp_path / "evidence"
    evidence(folder, "one", nodes=["node"])
    evidence(folder, "two", backend="lab", failure="a\x00b <c>", nodes=["node"])
    pytest_run(tmp_path, "-n", workers, "--junitxml=evidence/junit.xml")
    root = read(folder / "junit.xml")
    cases = {case.get("name"): properties(case) for case in root.iter("testcase")}
    one, two, unit = (
        cases[name] for name in ("test_scenario[one]", "test_scenario[two]", "test_unit")
    )
    assert unit == {}
    assert one["arch"] == "x86_64"
    assert one["test"] == "scenarios/test_x.py::test_one[x86_64]"
    assert one["reproduce"].startswith("./noxw -s scenarios -- ")
    assert (one["backend"], two["backend"]) == ("qemu", "lab")
    assert one["outcome"] == "passed"
    assert (one["seconds"], one["cpu_seconds"]) == ("80.000", "60.000")
    assert one["overhead_seconds"] == "0.100"
    assert float(one["slot_a_seconds"]) > 0
    assert float(one["slot_b_seconds"]) > 0
    assert one["run"] == two["run"]
    assert one["run"]
    for name in ("evidence", "console", "timeline"):
        assert (folder / unquote(one[name])).exists(), name
    page, _, place = one["report"].partition("#")
    assert f'id="{place}"' in (folder / page).read_text()


def test_links_start_from_the_xml_files_own_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        evidence(tmp_path / "evidence", name, nodes=["node"])
    pytest_run(tmp_path, "--junitxml=results/of/junit.xml")
    root = read(tmp_path / "results" / "of" / "junit.xml")
    links = [properties(case).get("timeline") for case in root.iter("testcase")]
    assert [link for link in links if link] == [
        f"../../evidence/scenarios-{name}%5Bx86_64%5D/node/timeline.json" for name in ("one", "two")
    ]


def test_results_stay_whole_for_the_summary(tmp_path: Path) -> None:
    for name in ("one", "two"):
        evidence(tmp_path / "evidence", name)
    for options in ((), ("--junitxml=junit.xml",)):
        assert "2 scenarios, 160.0 s, of which guests 152.0 s" in pytest_run(tmp_path, *options)


def test_evidence_that_cannot_be_read_does_no_harm(tmp_path: Path) -> None:
    for name in ("one", "two"):
        path = evidence(tmp_path / "evidence", name, nodes=["node", "gone"])
        (path / "node" / "timeline.json").write_text("{")
    (tmp_path / "evidence" / "run.json").write_text("{")
    pytest_run(tmp_path, "--junitxml=junit.xml")
    case = next(read(tmp_path / "junit.xml").iter("testcase"))
    assert properties(case)["arch"] == "x86_64"
    assert "slot_a_seconds" not in properties(case)
