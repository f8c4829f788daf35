"""Which runs of scenarios are enough for a release."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from product.publish.errors import MatrixError
from product.publish.matrix import UPGRADE, MatrixReport, Wanted, problems, read_reports

NOW = datetime(2026, 12, 2, 12, tzinfo=UTC)
COMMIT = "c" * 40
FILES = ("scenarios/boot/test_boot.py", UPGRADE)
UPGRADES = {f"{UPGRADE}::test_up[{arch}]" for arch in ("x86_64", "aarch64")}
WANTED = Wanted(COMMIT, FILES, ("aarch64", "x86_64"), 7, "0.1.0")


def report(**changes: Any) -> MatrixReport:
    fields: dict[str, Any] = {
        "id": "run-1",
        "commit": COMMIT,
        "dirty": False,
        "started": NOW - timedelta(hours=5),
        "ended": NOW - timedelta(hours=1),
        "host": "Linux x86_64, 2 processors",
        "tier": "full",
        "architectures": ("x86_64", "aarch64"),
        "paths": ("scenarios",),
        "passed": ("scenarios/boot/test_boot.py::test_it[x86_64]", *UPGRADES),
        "properties": {test: {"upgraded_from": "0.1.0"} for test in UPGRADES},
    }
    return MatrixReport.model_validate({**fields, **changes})


def found(*reports: MatrixReport, wanted: Wanted = WANTED) -> list[str]:
    return list(problems(reports, wanted, NOW))


def test_a_whole_run_is_enough() -> None:
    assert found(report()) == []
    assert found(report(skipped={"scenarios/a.py::test": "needs a lab"})) == []
    # Without a release before there is nothing to update from.
    fresh = report(properties={}, passed=("scenarios/boot/test_boot.py::test_it[x86_64]",))
    assert found(fresh, wanted=WANTED._replace(upgraded_from=None)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"commit": "d" * 40}, "was of commit dddd"),
        ({"commit": None}, "was of commit unknown"),
        ({"dirty": True}, "not committed"),
        ({"tier": "core"}, "of the tier core"),
        ({"ended": NOW - timedelta(days=8), "started": NOW - timedelta(days=9)}, "8 days ago"),
        ({"ended": NOW - timedelta(hours=6)}, "began at"),
        ({"failed": {"scenarios/a.py::test": "assert 1 == 2"}}, "1 scenarios failed"),
        ({"not_run": {"scenarios/a.py::test": "deselected"}}, "1 scenarios did not run"),
        ({"skipped": {"scenarios/a.py::test": " "}}, "without a reason"),
        ({"architectures": ("x86_64",)}, "did not run on aarch64"),
        ({"paths": ("scenarios/boot",)}, f"did not run on x86_64: {UPGRADE}"),
        ({"paths": ("scenarios/boo",)}, "2 files of scenarios did not run"),
        ({"paths": (f"{FILES[0]}::test_it", UPGRADE)}, f"did not run on x86_64: {FILES[0]}"),
        ({"passed": ()}, "no scenario passed"),
        ({"passed": (FILES[0], f"{UPGRADE}::test_up[x86_64]")}, "0.1.0, did not run on aarch64"),
        ({"properties": {}}, "did not run on x86_64, only one from ?"),
    ],
)
def test_what_is_not_enough(changes: dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in found(report(**changes))), found(report(**changes))


def test_an_update_from_another_release_does_not_count() -> None:
    other = report(properties={test: {"upgraded_from": "0.0.9"} for test in UPGRADES})
    assert "only one from 0.0.9" in found(other)[0]


def test_runs_of_suites_make_a_whole_one_and_each_failure_counts() -> None:
    boot = report(id="boot", paths=("scenarios/boot",))
    update = report(id="update", paths=("scenarios/update/",))
    assert found(boot, update) == []
    broken = report(id="first", failed={"scenarios/a.py::test": "x"})
    assert found(broken, report()) != []


def test_reports_are_read_from_folders(tmp_path: Path) -> None:
    def write(name: str, one: MatrixReport) -> None:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "report.json").write_text(one.dump())

    write("a", report(id="a"))
    write("b/deep", report(id="b"))
    assert [one.id for one in read_reports([tmp_path])] == ["a", "b"]
    assert read_reports([tmp_path / "a/report.json"]) == [report(id="a")]
    for place, words in ((tmp_path / "none", "cannot be read"), (tmp_path, "no report")):
        (tmp_path / "a/report.json").write_text("[]")
        with pytest.raises(MatrixError, match=words):
            read_reports([place])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MatrixError, match="below"):
        read_reports([tmp_path / "empty"])
