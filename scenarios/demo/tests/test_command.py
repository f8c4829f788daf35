"""The command line: which parts are told, and how it ends."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.qemu.arch import Arch
from harness.qemu.process import alive
from product.errors import KubesoloError
from product.image.cache import Cache
from scenarios.demo import __main__ as demo
from scenarios.demo.story import Story

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 60.0


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> demo.Stage:
    monkeypatch.chdir(tmp_path)
    return demo.Stage(Arch.X86_64, Cache(tmp_path / "cache"), Console(file=io.StringIO()))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that were told, and what the console had shown when each began."""
    parts: list[str] = []

    def run(stage: demo.Stage, part: demo.Part) -> Story:
        assert isinstance(stage.console.file, io.StringIO)
        if not parts:
            assert "about" in stage.console.file.getvalue()
        parts.append(part.name)
        return Story()

    monkeypatch.setattr(demo.Stage, "run", run)
    return parts


def test_both_parts_are_told_after_the_estimate(stage: demo.Stage, told: list[str]) -> None:
    demo.run(stage)
    assert told == ["without Kubernetes", "with Kubernetes"]


def test_the_second_part_can_be_left_out(stage: demo.Stage, told: list[str]) -> None:
    demo.run(stage, with_kubernetes=False)
    assert told == ["without Kubernetes"]


def test_evidence_of_an_earlier_run_of_this_architecture_is_gone(
    stage: demo.Stage, told: list[str]
) -> None:
    for name in ("x86_64", "x86_64-kubernetes", "aarch64"):
        (demo.OUTPUT / name).mkdir(parents=True)
    demo.run(stage, with_kubernetes=False)
    assert [path.name for path in demo.OUTPUT.iterdir()] == ["aarch64"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arch", "ppc64"], "'ppc64' is not one of"),
        (["--readme", "--no-kubernetes"], "README shows both parts"),
        (["--kubernetes-only"], "No such option"),
    ],
)
def test_a_mistyped_word_is_one_error(
    words: list[str],
    said: str,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", *words])
    with pytest.raises(SystemExit) as ended:
        demo.command()
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert ended.value.code == 2
    assert said in shown
    assert told == []


# In the place of each part: the first shows a table, the second starts a process as QEMU's is.
SCRIPT = """
import signal, sys, time
from pathlib import Path
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.journal.journal import Journal
from harness.qemu.process import Process
from scenarios.demo import __main__ as demo
from scenarios.demo.story import Story
# A shell has what it runs in the background ignore this one.
signal.signal(signal.SIGINT, signal.default_int_handler)

def run(stage, part):
    if part is demo.APPLIANCE and {waits_in!r} != "first":
        stage.console.print("TABLE")
        return Story()
    machine = Process(Path("runs").absolute(), Journal(), lambda: None)
    pid = machine.start(["/bin/sleep", "600"], [], Deadline.after(30))
    print(f"waits {{pid}}", flush=True)
    try:
        time.sleep(600)
    finally:
        machine.close()
        if {end_fails}:
            raise HarnessError("the end failed, too")

demo.Stage.run = run
demo.command()
"""


def start(folder: Path, script: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KUBESOLO_CACHE": str(folder / "cache")},
    )  # fmt: skip


@pytest.mark.parametrize("end_fails", [False, True], ids=["", "and the end fails"])
@pytest.mark.parametrize(
    ("waits_in", "line"),
    [
        (
            "first",
            "interrupted in the first part; what is built is kept, run it again: "
            "./noxw -s demo -- --arch aarch64",
        ),
        (
            "second",
            "interrupted in the second part; the result of the first stands, what is compiled is "
            "kept, run it again: ./noxw -s demo -- --arch aarch64",
        ),
    ],
)
def test_ctrl_c_is_one_line_and_leaves_nothing(
    tmp_path: Path, waits_in: str, line: str, end_fails: bool
) -> None:
    script = SCRIPT.format(waits_in=waits_in, end_fails=end_fails)
    process = start(tmp_path, script, "--arch", "aarch64")
    assert process.stdout is not None
    said = []
    for text in process.stdout:
        said.append(text)
        if text.startswith("waits"):
            break
    else:
        pytest.fail(f"it ended first: {process.communicate()}")
    machine = int(said[-1].split()[1])
    assert alive(machine)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert error.strip().splitlines() == [line]
    assert not alive(machine)
    assert list((tmp_path / "runs").iterdir()) == []
    assert ("TABLE\n" in said) == (waits_in == "second")


def test_another_failure_keeps_its_own_words() -> None:
    with pytest.raises(KubesoloError, match="broken"), demo.ends_in_one_line("interrupted"):
        raise KubesoloError("broken")
