"""The service that looks on a schedule, under this host's shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[4] / "images/overlay/usr/lib/kubesolo/services/updates/run"
MOVED = ("/etc/kubesolo", "/run/kubesolo")


def watch(root: Path, answer: str) -> list[str]:
    """What the service did until it had slept five times, where ``timer next`` says ``answer``."""
    for name in ("etc/kubesolo", "run/kubesolo", "bin"):
        (root / name).mkdir(parents=True)
    (root / "etc/kubesolo/update.conf").write_text("check_interval=60\n")
    (root / "run/kubesolo/agent.json").write_text("{}")
    log = root / "log"
    end = f'[ "$(grep -c {{}} {log})" -lt {{}} ] || kill $PPID\n'
    for name, text in {
        "chpst": f'for last; do :; done\necho "timer $last" >> {log}\nprintf "%s" "{answer}"\n'
        + end.format("timer", 50),
        "sleep": f'echo "sleep $1" >> {log}\n' + end.format("sleep", 5),
    }.items():
        program = root / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}")
        program.chmod(0o755)
    text = RUN.read_text().replace("/usr/lib/kubesolo/confine", f"{RUN.parents[2]}/confine")
    for place in MOVED:
        text = text.replace(place, f"{root}{place}")
    subprocess.run(
        ["/bin/sh", "-c", text], check=False, timeout=20, capture_output=True,
        env={"PATH": f"{root}/bin:/usr/bin:/bin", "KUBESOLO_CONFINED": "1"},
    )  # fmt: skip
    return log.read_text().splitlines()


@pytest.mark.parametrize("answer", ["", "Traceback", "-3", "12 x"])
def test_an_answer_that_is_none_is_waited_after(tmp_path: Path, answer: str) -> None:
    assert watch(tmp_path, answer) == ["timer first", "sleep 60"] * 5


def test_never_is_asked_once(tmp_path: Path) -> None:
    assert watch(tmp_path, "never") == ["timer first", *["sleep 60"] * 5]


def test_a_look_follows_the_wait(tmp_path: Path) -> None:
    wait = ["sleep 60", "sleep 30", "timer run"]
    assert watch(tmp_path, "90") == [
        "timer first", *wait, "timer next", *wait, "timer next", "sleep 60",
    ]  # fmt: skip
