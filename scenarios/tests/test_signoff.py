"""A report on a board is signed after a run without a failure, and holds only what was signed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from product.publish.matrix import MatrixReport
from product.release.downloads import SIGNATURE, load_downloads_key, verify_downloads
from product.release.errors import DownloadsError
from product.release.keys import DOWNLOADS, KeyDirectory
from scenarios.signoff import NAME, PAGE, Signoff, SignoffError, main, sign, told, withdraw

NOW = datetime(2026, 12, 3, tzinfo=UTC)
RUN = MatrixReport(
    id="1", commit=None, dirty=False, started=NOW, ended=NOW, host="x", tier="full",
    architectures=("aarch64",), paths=("scenarios",), passed=("a", "b"),
    skipped={"c": "bench-3 has no snapshot", "d": "bench-3 has no snapshot", "e": "no link"},
)  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory.generate(tmp_path / "keys", {DOWNLOADS: 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "signoff"
    made.mkdir()
    (made / PAGE).write_text("<html>")
    return made


def write(folder: Path, **fields: object) -> None:
    run = RUN.model_copy(update=fields)
    text = Signoff(board="bench-3", abilities=("power",), run=run).dump()
    (folder / NAME).write_text(text)


def test_what_was_signed_is_checked_by_the_released_command(
    folder: Path, keys: KeyDirectory
) -> None:
    write(folder)
    found = sign(folder, keys)
    key = load_downloads_key(keys.path / "downloads.pub.pem")
    assert verify_downloads(folder, key).files == (PAGE, NAME)
    lines = told(found)
    assert "2 scenarios passed, 3 were skipped" in lines[1]
    assert lines[2:] == ["  2 skipped: bench-3 has no snapshot", "  1 skipped: no link"]
    write(folder, failed={})
    text = (folder / NAME).read_text()
    (folder / NAME).write_text(text.replace('"a"', '"z"'))
    with pytest.raises(DownloadsError, match=r"signoff\.json"):
        verify_downloads(folder, key)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"failed": {"x": "it panicked"}}, "x: it panicked"),
        ({"not_run": {"y": "the run ended before it"}}, "y: the run ended"),
        ({"passed": ()}, "no scenario passed"),
    ],
)
def test_nothing_is_signed_where_something_failed(
    folder: Path, keys: KeyDirectory, fields: dict[str, object], reason: str
) -> None:
    write(folder, **fields)
    with pytest.raises(SignoffError, match=reason):
        sign(folder, keys)
    assert not (folder / SIGNATURE).exists()


def test_an_earlier_signature_does_not_stay(folder: Path, keys: KeyDirectory) -> None:
    write(folder)
    sign(folder, keys)
    withdraw(folder)
    assert list(folder.iterdir()) == []
    with pytest.raises(SignoffError, match="cannot be read"):
        sign(folder, keys)


def test_a_missing_key_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DownloadsError, match="no key that signs downloads"):
        main(["--lg-env", "lab.yaml", "--keys", str(tmp_path / "none")])
