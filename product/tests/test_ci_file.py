"""The CI file of public forges runs every suite of scenarios."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_matrix_has_every_suite_of_scenarios() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    found = re.search(r"suite: \[(.*)\]", text)
    assert found is not None
    suites = {path.parent.name for path in ROOT.glob("scenarios/*/test_*.py")} - {"tests"}
    assert sorted(found.group(1).split(", ")) == sorted(suites)
