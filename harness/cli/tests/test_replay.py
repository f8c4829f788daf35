"""A failure that was packed opens on another host: its machine goes on, or its disk boots."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.qemu.arch import Arch
from harness.qemu.left import qemu_version
from harness.qemu.pack import SUFFIX
from harness.qemu.tools import HostTools
from harness.tests.small_system import environment, in_terminal, make_project, pytest_command

LIMIT = 900
FAILS = """
from harness.pytest_plugin.scenario import scenario

@scenario(arch="x86_64", watchdog=False)
def test_fails(harness_node):
    harness_node.boot()
    with harness_node.journal.step("write"):
        harness_node.succeed("mkdir /mnt; mount -t ext4 /dev/vda /mnt")
        harness_node.succeed("echo on the disk > /mnt/written; sync")
        harness_node.succeed("echo in memory > /run/written")
    harness_node.succeed("setsid sh </dev/console >/dev/console 2>&1 &")
    with harness_node.journal.step("compare"):
        harness_node.succeed("grep something-else /mnt/written")
"""
NAME = f"test_it-test_fails[x86_64]{SUFFIX}"


def harness(project: Path, cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *words], cwd=project, env=environment(cache),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def elsewhere(
    tmp_path_factory: pytest.TempPathFactory, host_tools: HostTools
) -> tuple[Path, Path, Path]:
    """A packed failure of a project that is gone with its cache, another project, its cache."""
    root = tmp_path_factory.mktemp("replay")
    disk = root / "disk.img"
    argv = host_tools.argv("mke2fs", "-q", "-t", "ext4", str(disk), "64M")
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    first = make_project(root / "first", FAILS, disk)
    words = ["--arch", "x86_64", "-n", "0", "--pack-failures"]
    done = subprocess.run(
        pytest_command(*words), cwd=first, env=environment(root / "first-cache"),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    made = first / "out/scenarios" / NAME
    assert f"packed: {made}" in done.stdout
    assert not (first / "out/scenarios/test_it-test_fails[x86_64]/node/memory").exists()
    there = make_project(root / "there", "")
    made.rename(there / "taken.tar.zst")
    # What it lay over has gone.
    (root / "first-cache").rename(root / "gone")
    first.rename(root / "gone-too")
    disk.unlink()
    return there / "taken.tar.zst", there, root / "there-cache"


def test_its_machine_goes_on_from_the_failure(elsewhere: tuple[Path, Path, Path]) -> None:
    packed, project, cache = elsewhere
    into = project / "opened"
    before = hashlib.sha256(packed.read_bytes()).hexdigest()
    done = harness(
        project, cache, "replay", str(packed), "--into", str(into), "--run",
        "cat /run/written /mnt/written; cat /proc/uptime",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_it.py::test_fails[x86_64] failed" in done.stdout
    assert "in memory\non the disk\n" in done.stdout
    assert "compare: " in done.stdout  # a step
    assert "node goes on from its failure" in done.stderr
    command = (into / "replay-node/command").read_text()
    for word in ("-kernel", "-initrd"):
        assert f"{word} {into}/files/" in command
    assert list((cache / "harness/runs").iterdir()) == []
    assert hashlib.sha256(packed.read_bytes()).hexdigest() == before
    again = harness(project, cache, "replay", str(packed), "--into", str(into))
    assert again.returncode == 1
    assert f"{into} is not empty" in again.stderr


def test_its_disk_boots(elsewhere: tuple[Path, Path, Path]) -> None:
    packed, project, cache = elsewhere
    script = "mkdir /mnt; mount -t ext4 /dev/vda /mnt && cat /mnt/written; cat /run/written"
    done = harness(project, cache, "replay", str(packed), "--boot", "--run", script)
    assert done.stdout.endswith("on the disk\n"), done.stdout + done.stderr
    assert "node boots" in done.stderr
    # Its memory was another one.
    assert done.returncode == 1


def test_its_console_is_on_the_terminal(elsewhere: tuple[Path, Path, Path]) -> None:
    packed, project, cache = elsewhere
    words = [sys.executable, "-m", "harness", "replay", str(packed)]
    shown = in_terminal(words, project, cache)
    try:
        shown.expect("Ctrl-] ends it")
        shown.send("cat /run/written\r")
        shown.expect(r"\nin memory\r")
        shown.sendcontrol("]")
        shown.expect(r".*\Z")
        shown.wait()
    finally:
        shown.close(force=True)
    assert shown.exitstatus == 0
    assert list((cache / "harness/runs").iterdir()) == []


def test_the_timeline_is_told_without_a_machine(elsewhere: tuple[Path, Path, Path]) -> None:
    packed, project, cache = elsewhere
    whole = harness(project, cache, "replay", str(packed), "--timeline")
    assert whole.returncode == 0, whole.stderr
    assert "debian-cloud: ready" in whole.stdout
    assert "grep something-else /mnt/written" in whole.stdout
    part = harness(project, cache, "replay", str(packed), "--timeline", "--to", "ready")
    assert "debian-cloud: ready" in part.stdout
    assert "mount -t ext4" not in part.stdout
    none = harness(project, cache, "replay", str(packed), "--timeline", "--to", "dance")
    assert none.returncode == 1
    assert "its steps: wait until ready, write, compare" in none.stderr


Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def repacked(packed: Path, target: Path, change: Change) -> Path:
    """A packed failure with another manifest or other files."""
    raw = subprocess.run(["zstd", "-qdc", packed], capture_output=True, check=True).stdout
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for entry in tar:
            stream = tar.extractfile(entry)
            assert stream is not None
            files[entry.name] = stream.read()
    manifest = json.loads(files.pop("manifest.json"))
    change(manifest, files)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with target.open("wb") as stream_out:
        subprocess.run(["zstd", "-q1c"], input=out.getvalue(), stdout=stream_out, check=True)
    return target


def newer(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    manifest["schema"] = 9


def other_qemu(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    manifest["nodes"]["node"]["qemu"] = "6.2.0"


def other_disk(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    files["node/disk.qcow2"] = b"x" + files["node/disk.qcow2"][1:]


def one_missing(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    del files["node/timeline.json"]


def one_too_many(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    files["../escape"] = b"x"


def one_outside(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    manifest["nodes"]["node"]["spec"]["kernel"] = "../../vmlinuz"


def unknown_field(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    manifest["nodes"]["node"]["spec"]["hovercraft"] = True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (newer, "a newer harness packed it (schema 9; this one knows 1)"),
        (other_qemu, "its memory was saved by QEMU 6.2.0, and this host has"),
        (other_disk, "node/disk.qcow2 is damaged: its sha256 is"),
        (one_missing, "it ends too early: node/timeline.json is missing"),
        (one_too_many, "it has '../escape', which its manifest does not"),
        (one_outside, "../../vmlinuz lies outside of the archive"),
        (unknown_field, "a machine that this harness cannot build"),
    ],
)
def test_what_cannot_be_replayed_is_one_error(
    elsewhere: tuple[Path, Path, Path], tmp_path: Path, change: Change, said: str
) -> None:
    packed, project, cache = elsewhere
    changed = repacked(packed, tmp_path / "changed", change)
    done = harness(project, cache, "replay", str(changed), "--run", "true")
    assert done.returncode == 1, done.stdout
    assert said in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_copy_that_was_cut_off_or_is_something_else(
    elsewhere: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    packed, project, cache = elsewhere
    raw = packed.read_bytes()
    for name, data in {
        "cut": raw[: len(raw) // 2], "flipped": raw[:5000] + b"\0" * 50 + raw[5050:],
        "text": b"hello", "empty": b"",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
        done = harness(project, cache, "replay", str(tmp_path / name), "--timeline")
        assert done.returncode == 1, name
        assert f"error: {tmp_path / name} cannot be opened: " in done.stderr, name
        assert "Traceback" not in done.stderr, name
    none = harness(project, cache, "replay", str(tmp_path / "none"))
    assert "there is no packed failure" in none.stderr


def test_of_evidence_that_is_no_failure_nothing_is_packed(
    elsewhere: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, project, cache = elsewhere
    for result, said in (
        (None, "is no scenario's evidence"),
        ({"outcome": "passed"}, "what failed can be packed"),
        ({"outcome": "failed"}, "has no machine that could be started again"),
    ):
        if result is not None:
            (tmp_path / "result.json").write_text(json.dumps(result))
        done = harness(project, cache, "pack", str(tmp_path))
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_evidence_is_packed_later_without_its_memory(
    elsewhere: tuple[Path, Path, Path], tmp_path: Path, host_tools: HostTools
) -> None:
    """What lies in the evidence of each failure is enough to boot its disk."""
    packed, project, cache = elsewhere
    into = tmp_path / "opened"
    opened = harness(project, cache, "replay", str(packed), "--timeline", "--into", str(into))
    assert opened.returncode == 0
    # As a failure without --pack-failures leaves it: machine.json names files of this host.
    [kernel] = into.glob("files/*vmlinuz*")
    [initrd] = into.glob("files/*initrd*")
    document: Mapping[str, Any] = json.loads((into / "node/machine.json").read_text())
    spec = {**document["spec"], "kernel": str(kernel), "initrd": str(initrd)}
    (into / "node/machine.json").write_text(json.dumps({**document, "spec": spec}))
    (into / "node/memory").unlink()
    done = harness(project, cache, "pack", str(into), "--output", str(tmp_path / "later"))
    assert done.returncode == 0, done.stderr
    shown = harness(project, cache, "replay", str(tmp_path / "later"), "--timeline")
    assert f"QEMU {qemu_version(Arch.X86_64, host_tools)}" in shown.stdout
    kernel.unlink()
    gone = harness(project, cache, "pack", str(into))
    assert gone.returncode == 1
    assert f"{kernel} has gone" in gone.stderr
