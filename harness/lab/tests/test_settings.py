"""What a lab's file may say, and what a scenario asks of a board in vain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.lab.settings import LabError, LabSettings
from harness.lab.tests.support import SETTINGS


def test_every_fault_is_named() -> None:
    with pytest.raises(LabError, match=r"lab\.yaml") as caught:
        LabSettings.parse({"name": "x", "arch": "mips", "colour": 1}, "lab.yaml")
    for key in ("arch", "colour", "host_address", "own_address"):
        assert key in caught.value.message
    with pytest.raises(LabError, match="harness: "):
        LabSettings.parse(None, "lab.yaml")


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({}, []),
        ({"memory_mib": 1024}, []),
        ({"memory_mib": 4096, "cpus": 2}, ["cpus 2", "memory_mib 4096"]),
        ({"firmware": "bios"}, ["firmware"]),
        ({"seed": Path("x"), "log_writes": True}, ["log_writes", "seed"]),
        ({"extra": ("-device", "x")}, ["extra"]),
        ({"tpm": True}, ["tpm"]),
    ],
)
def test_what_a_board_is_not(fields: dict[str, object], lacking: list[str]) -> None:
    assert SETTINGS.refused(fields) == lacking


def test_labgrid_is_imported_for_a_lab_alone() -> None:
    code = "import harness.pytest_plugin.lab, sys; print('labgrid' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
