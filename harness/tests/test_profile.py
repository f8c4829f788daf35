"""A profile's mistakes are one error; its failures, commands and place are taken as it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LaunchError
from harness.journal.patterns import Pattern, classify
from harness.profile import LINUX, Failure, Moment, Profile, ProfileError, chosen, load
from harness.tools import InstalledTools
from scenarios.profile import KUBESOLO


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ready": "(unclosed"}, r"ready of the profile x is no regular expression.*\(unclosed"),
        ({"ready": "up (?P<verison>.*)"}, "ready .* has the groups verison, which mean nothing"),
        ({"boot": "boot (?P<version>.*)"}, "boot .* has the groups version"),
        ({"failures": (Failure("F", "*"),)}, "failure F of the profile x is no regular"),
        ({"moments": (Moment("[", "label"),)}, "moment label of the profile x is no regular"),
        ({"phases": (("kernel", "+"),)}, "phase kernel of the profile x is no regular"),
        ({"channel": False}, "neither a ready line nor the channel"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        Profile(name="x", **fields)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("nothing", "'nothing' names no profile"),
        (":x", "':x' names no profile"),
        ("not.there:X", "not.there:X cannot be imported: No module named 'not'"),
        ("harness.profile:NONE", "the module harness.profile has no NONE"),
        ("harness.profile:Menu", "harness.profile:Menu is a type, and no Profile"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(reference: str, reason: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load(reference)
    assert reason in caught.value.message


def test_failures_of_the_system_stand_beside_those_of_linux() -> None:
    mine = Failure("RAID_GONE", r"md0: lost")
    profile = Profile(failures=(mine,))
    assert classify("[ 3.0] md0: lost both disks", profile) is mine
    assert classify("[ 3.0] md0: lost both disks") is None
    assert classify("Kernel panic - not syncing: x", profile) is Pattern.PANIC


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pytest.ini", "[pytest]\nharness_profile = my_profile:MINE\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\nharness_profile = "my_profile:MINE"\n'),
        ("tox.ini", "[pytest]\nharness_profile = my_profile:MINE\npythonpath = .\n"),
        ("setup.cfg", "[tool:pytest]\nharness_profile = my_profile:MINE\n"),
    ],
)
def test_the_command_line_takes_the_profile_of_pytests_configuration(
    tmp_path: Path, file: str, text: str
) -> None:
    (tmp_path / file).write_text(text)
    (tmp_path / "my_profile.py").write_text(
        "from harness.profile import Profile\nMINE = Profile(name='mine')\n"
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", "from harness.profile import chosen; print(chosen().name)"],
        cwd=below, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "mine\n", done.stderr


def test_without_a_configuration_it_is_any_linux(tmp_path: Path) -> None:
    assert chosen(start=tmp_path) is LINUX
    (tmp_path / "pytest.ini").write_text("[pytest\n")
    with pytest.raises(ProfileError, match=r"pytest\.ini cannot be read"):
        chosen(start=tmp_path)


def test_this_project_names_its_own() -> None:
    assert chosen(start=Path(__file__).parents[2]) is KUBESOLO


def test_programs_that_the_host_lacks_are_named(tmp_path: Path) -> None:
    tools = InstalledTools()
    assert tools.argv("sh", "-c", "true")[1:] == ["-c", "true"]
    assert Path(tools.argv("sh")[0]).is_absolute()
    with pytest.raises(LaunchError, match="qemu-system-z80 is not on PATH"):
        tools.argv("qemu-system-z80")
    with pytest.raises(LaunchError, match=r"there is no usr/share/none\.fd: tried /usr/share"):
        tools.path("usr/share/none.fd")
