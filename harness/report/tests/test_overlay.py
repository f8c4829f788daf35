"""Boots of two targets stand below each other from their first starts on."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from harness.report.overlay import overlay

WORDS = {"boot": r"boot slot=(?P<slot>[AB])", "ready": "ready", "phases": [], "moments": []}


def timeline(begin: float, *, lab: bool = False) -> dict[str, Any]:
    def event(time: float, source: str, kind: str, text: str = "") -> dict[str, Any]:
        return {"time": begin + time, "source": source, "kind": kind, "text": text, "data": {}}

    return {
        "machine": "node", "arch": "x86_64", "started": "", "words": WORDS,
        "events": [
            event(0, "harness", "start"), event(4, "console", "line", "boot slot=A"),
            event(9, "console", "line", "ready"),
            event(12, "lab" if lab else "qmp", "event", "RESET"),
            event(15, "console", "line", "boot slot=B"), event(20, "harness", "exit"),
        ],
    }  # fmt: skip


def test_both_begin_at_zero() -> None:
    one, other = ("qemu", timeline(0)), ("bench-3", timeline(30, lab=True))
    root = ET.fromstring(overlay([one, other], title="update"))
    slots = [(text.text, text.get("x")) for text in root.iter() if text.text in ("A0", "B0")]
    assert [text for text, _ in slots] == ["A0", "B0", "A0", "B0"]
    assert slots[:2] == slots[2:]
    assert [text.text for text in root.iter() if text.get("class") == "lane-name"] == [
        "qemu", "bench-3",
    ]  # fmt: skip


def test_an_empty_timeline_is_an_empty_lane() -> None:
    assert "nothing" in overlay([("nothing", {})])


def test_faults_count_from_the_first_start_too() -> None:
    one, other = ("qemu", timeline(0)), ("bench-3", timeline(30, lab=True))
    root = ET.fromstring(overlay([one, other]))
    places = [text.get("x") for text in root.iter() if (text.text or "").startswith("reset")]
    assert len(places) == 2
    assert places[0] == places[1]
