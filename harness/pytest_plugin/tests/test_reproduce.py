"""The command that a failure prints runs that test alone, from a plain shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.pytest_plugin.failure import reproduce
from harness.qemu.arch import Arch
from scenarios.profile import KUBESOLO

ROOT = Path(__file__).resolve().parents[3]


def shell(command: str) -> list[str]:
    """What a command of a plain shell in the project's folder prints."""
    # Not this test's own environment: it would bring its interpreter along.
    kept = ("PATH", "HOME", "XDG_CACHE_HOME", "KUBESOLO_CACHE")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run(
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("folder", ["scenarios/update", "harness/target/tests"])
def test_the_printed_command_runs_that_test_and_no_other(folder: str) -> None:
    named = [
        f"{path.relative_to(ROOT)}::test_{rest.partition('(')[0]}[x86_64]"
        for path in sorted((ROOT / folder).glob("test_*.py"))
        for rest in path.read_text().split("\n@scenario(")[1:]
        for rest in rest.split("\ndef test_")[1:2]
    ]
    identity = named[0]
    command = reproduce(KUBESOLO, identity, Arch.X86_64)
    assert command == f"./noxw -s scenarios -- '{identity}' --arch x86_64"
    lines = shell(f"{command} --collect-only -q -p no:cacheprovider")
    assert [line for line in lines if "::" in line] == [identity]


def test_what_a_shell_would_take_apart_is_quoted() -> None:
    identity = "scenarios/test_x.py::test_y[it's $HOME-x86_64]"
    arguments = reproduce(KUBESOLO, identity, Arch.X86_64).partition(" -- ")[2]
    assert shell(f"printf '%s\\n' {arguments}") == [identity, "--arch", "x86_64"]
