"""The guest's part of the network fault, with directories in place of its kernel's."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness.faults.link import WAIT

CARD = "52:54:00:12:34:56"
LIMIT = 30.0


def interface(root: Path, name: str, address: str, carrier: str, *, hardware: bool) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "address").write_text(f"{address}\n")
    (folder / "carrier").write_text(f"{carrier}\n")
    if hardware:
        (folder / "device").mkdir()
    return folder


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The card of a node with a bridge of pods, a cable between them, and an address of its own
    that a bridge has taken over."""
    interface(tmp_path, "lo", "00:00:00:00:00:00", "1", hardware=False)
    interface(tmp_path, "br0", CARD, "0", hardware=False)
    interface(tmp_path, "cni0", "0a:58:0a:f4:00:01", "1", hardware=False)
    interface(tmp_path, "other", "52:54:00:00:00:01", "1", hardware=True)
    return interface(tmp_path, "zcard", CARD, "1", hardware=True)


def wait(root: Path, carrier: str, address: str = CARD) -> subprocess.CompletedProcess[str]:
    argv = ["/bin/sh", "-c", WAIT, "sh", str(root), address, carrier]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_only_the_card_is_looked_at(tmp_path: Path, card: Path) -> None:
    assert wait(tmp_path, "1").returncode == 0
    (card / "carrier").write_text("0\n")
    assert wait(tmp_path, "0").returncode == 0


def test_a_change_that_comes_late_is_waited_for_without_spinning(
    tmp_path: Path, card: Path
) -> None:
    timer = threading.Timer(1.5, (card / "carrier").write_text, ["0\n"])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    timer.start()
    assert wait(tmp_path, "0").returncode == 0
    assert time.monotonic() - begun > 1
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 0.5


def test_an_address_that_nobody_has_is_said(tmp_path: Path, card: Path) -> None:
    done = wait(tmp_path, "1", "52:54:00:00:00:99")
    assert done.returncode == 2
    assert "no network card has the address 52:54:00:00:00:99" in done.stderr
