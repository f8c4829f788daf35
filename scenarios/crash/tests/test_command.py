"""Mistakes on the command line are one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.crash.record import Recording, RecordingError


def test_a_folder_without_a_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds no recording") as caught:
        Recording.read(tmp_path)
    assert "leave --recording out" in str(caught.value.hint)
    (tmp_path / "recording.json").write_text("[]")
    with pytest.raises(RecordingError, match="holds no recording"):
        Recording.read(tmp_path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    recording = Recording(tmp_path, 1 << 30, [1 << 30], [], {"ab": "0.1.0"})
    (tmp_path / "core-0.1.0").write_bytes(b"core")
    recording.write()
    found = Recording.read(tmp_path)
    assert found == recording
    assert found.cores == {"0.1.0": b"core"}
    assert found.boot == b""
