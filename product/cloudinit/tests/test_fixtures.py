"""Files as people publish them: each is accepted, or refused at the right line and key."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from product.cloudinit.errors import InvalidFileError
from product.cloudinit.load import load_meta_data, load_network, load_user_data
from product.cloudinit.plan import plan_network, plan_user_data
from product.cloudinit.tests.support import FIXTURES

FILES = tomllib.loads((FIXTURES / "expected.toml").read_text())["file"]


def _load(name: str) -> Any:
    kind = name.partition("/")[0]
    load: Any = {
        "user-data": load_user_data,
        "network-config": load_network,
        "meta-data": load_meta_data,
    }[kind]
    return load((FIXTURES / name).read_bytes(), name)


def test_every_file_has_an_entry() -> None:
    there = {str(path.relative_to(FIXTURES)) for path in FIXTURES.glob("*/*")}
    assert sorted(there) == sorted(file["name"] for file in FILES)
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["name"])
def test_a_file(file: dict[str, Any]) -> None:
    if "errors" in file:
        with pytest.raises(InvalidFileError) as caught:
            _load(file["name"])
        places = [[problem.line, problem.key] for problem in caught.value.problems]
        assert places == file["errors"], str(caught.value)
        return
    found = _load(file["name"])
    assert [[note.line, note.key] for note in found.notes] == file.get("notes", [])
    if file["name"].startswith("user-data"):
        plan_user_data(found)
    elif file["name"].startswith("network-config"):
        plan_network(found)
