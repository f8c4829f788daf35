"""What stages of the ``upstream`` payload make of the node's settings, under this host's shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from product.image.tools import IMAGES

STAGES = IMAGES / "payload/upstream/usr/lib/kubesolo/stages"
NAMES = ("all", "default", "lo")


def _run(stage: str, root: Path, settings: dict[str, object] | None) -> None:
    """Run a stage whose paths lie below ``root``."""
    if settings is not None:
        path = root / "etc/kubesolo/kubernetes.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        # As the node's configuration writes it.
        path.write_text(json.dumps({"schema": 1, "settings": settings}, indent=2))
    text = (STAGES / stage).read_text()
    for folder in ("/etc/kubesolo", "/proc/sys"):
        text = text.replace(folder, f"{root}{folder}")
    script = f"stage() {{\n{text}\n}}\nstage"
    done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (None, "0\n"),
        ({"mtu": 1400}, "0\n"),
        ({"disable-ipv6": False}, "0\n"),
        ({"debug": True, "disable-ipv6": True}, "1\n"),
    ],
)
def test_ipv6_is_off_where_the_settings_say_so(
    tmp_path: Path, settings: dict[str, object] | None, found: str
) -> None:
    files = [tmp_path / "proc/sys/net/ipv6/conf" / name / "disable_ipv6" for name in NAMES]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("0\n")
    _run("83-ipv6", tmp_path, settings)
    assert [file.read_text() for file in files] == [found] * 3


def test_a_kernel_without_ipv6_stops_no_boot(tmp_path: Path) -> None:
    _run("83-ipv6", tmp_path, {"disable-ipv6": True})
    assert not (tmp_path / "proc").exists()
