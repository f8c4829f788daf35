"""A project with a small system, docs/examples/debian-cloud, and a cache of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pexpect

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/examples/debian-cloud"

_PROFILE = """
import dataclasses, os, sys
from pathlib import Path
sys.path.insert(0, {example!r})
from debian_cloud import DEBIAN

SMALL = dataclasses.replace(
    DEBIAN, name="small", cache=lambda: Path(os.environ["SMALL_CACHE"]), rerun="rerun {{test}}"
)
"""
_CONFTEST = """
import dataclasses, pytest, small
from pathlib import Path
import build_image

@pytest.fixture
def harness_images():
    disk = {disk!r}
    if disk:
        build_image.MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "ext4")
    image = build_image.build("x86_64")
    image = dataclasses.replace(image, append=image.append + {append!r})
    if disk:
        fields = {{**image.fields, "disk_size_mib": 64}}
        image = dataclasses.replace(image, disk=Path(disk), fields=fields)
    return {{"x86_64": image}}
"""


def make_project(folder: Path, tests: str, disk: Path | None = None, append: str = "") -> Path:
    """A folder with a profile, an image and ``tests``, the text of test_it.py; ``disk`` of 64 MiB
    at most, with ext4, is the machine's /dev/vda; ``append`` are more words for its kernel."""
    folder.mkdir(exist_ok=True)
    (folder / "small.py").write_text(_PROFILE.format(example=str(EXAMPLE)))
    (folder / "conftest.py").write_text(
        _CONFTEST.format(disk=str(disk) if disk else "", append=f" {append}")
    )
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text(
        "[pytest]\nharness_profile = small:SMALL\npythonpath = .\naddopts = -p no:cacheprovider\n"
    )
    return folder


def environment(cache: Path) -> dict[str, str]:
    """Variables for the project's programs; what the harness keeps goes into ``cache``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COLUMNS"))}
    paths = ":".join([str(ROOT), *sys.path])
    return {**kept, "PYTHONPATH": paths, "SMALL_CACHE": str(cache), "KUBESOLO_ALLOW_DRIFT": "1",
            "COLUMNS": "200", "TERM": "dumb"}  # fmt: skip


def pytest_command(*words: str) -> list[str]:
    """The command line that runs the project's tests."""
    return [sys.executable, "-m", "pytest", "-p", "harness.pytest_plugin", *words]


def in_terminal(words: Sequence[str], project: Path, cache: Path) -> pexpect.spawn[str]:
    """A program of the project on a terminal of its own, which is read for ten minutes at most."""
    return pexpect.spawn(
        words[0], list(words[1:]), cwd=str(project), env=environment(cache), timeout=600,
        dimensions=(50, 200), encoding="utf-8",
    )  # fmt: skip
