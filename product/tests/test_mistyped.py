"""A mistyped word is one error that names what there is, not a run of nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
MENU = "scenarios/boot/test_menu.py"


IMAGE = (sys.executable, "-m", "product.image", "build", "--recipe")


def run(*command: str) -> tuple[int, str]:
    """The exit status and everything that was said."""
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("word", "there"),
    [
        ("scenarios/bot/test_menu.py", "/scenarios has boot/, cloudinit/, conformance/, crash/, "),
        ("scenarios/boot/test_men.py", "/boot has test_environment.py, test_first_boot.py, "),
        ("scenario/boot", " has harness/, kubesolo_os/, product/, scenarios/"),
        (
            f"{MENU}::test_nothing",
            f"{MENU} has test_the_emergency_shell_is_a_shell_on_the_console,",
        ),
    ],
)
def test_a_path_of_tests(word: str, there: str) -> None:
    status, text = run(sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", word)
    assert status != 0
    assert f"ERROR: {word} does not exist; " in text
    assert there in text


def test_a_part_of_the_benchmark() -> None:
    status, text = run("./noxw", "-s", "bench", "--", "--part", "biuld")
    assert status != 0
    assert "uv" not in text.split(), text
    for part in ("biuld", "build", "size", "boot", "fork", "apply", "suite", "kubernetes"):
        assert f"'{part}'" in text


def test_a_recipe() -> None:
    status, text = run(*IMAGE, "images/nope.toml")
    assert status == 1
    assert "error: recipe images/nope.toml does not exist" in text
    assert "hint: recipes in images: appliance-encryption.toml, appliance-ssh.toml, " in text
    status, text = run(*IMAGE, "nope")
    assert status == 1
    assert "/images: appliance-encryption.toml, appliance-ssh.toml, " in text
