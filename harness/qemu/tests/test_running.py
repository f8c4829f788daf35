"""Which machine a word means."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.qemu.running import pick, running


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """Three machines that run, of two scenarios, and one that a host without power left."""
    held = []
    for name, (node, test) in {
        "aa": ("node", "test-one"), "bb": ("node", "test-two"), "cc": ("other", "test-two"),
        "dead": ("node", "test-three"),
    }.items():  # fmt: skip
        folder = tmp_path / f"machine-{name}"
        folder.mkdir()
        told = {"name": node, "arch": "x86_64", "artefacts": f"/out/{test}/{node}"}
        (folder / "machine.json").write_text(json.dumps(told))
        if name != "dead":
            held.append(os.open(folder, os.O_RDONLY))
            fcntl.flock(held[-1], fcntl.LOCK_SH)
    (tmp_path / "machine-bb/paused.json").write_text('{"test": "test-two"}')
    yield tmp_path
    for descriptor in held:
        os.close(descriptor)


def test_those_that_run_are_listed(runs: Path) -> None:
    found = {one.id: one.paused is not None for one in running(runs)}
    assert found == {"aa": False, "bb": True, "cc": False}


@pytest.mark.parametrize(
    ("word", "id"),
    [
        ("aa", "aa"), ("other", "cc"), ("/out/test-two/node", "bb"), ("/out/test-one", "aa"),
        ("test-one", "aa"),
    ],
)  # fmt: skip
def test_a_word_means_one(runs: Path, word: str, id: str) -> None:
    assert pick(running(runs), word).id == id


@pytest.mark.parametrize(
    ("word", "said"),
    [("node", "2 machines are called 'node'"), ("test-two", "2 machines"), ("dead", "no machine")],
)
def test_none_or_several_are_an_error_that_lists_them(runs: Path, word: str, said: str) -> None:
    with pytest.raises(HarnessError, match=said) as caught:
        pick(running(runs), word)
    assert "aa (node of test-one)" in str(caught.value.hint)
