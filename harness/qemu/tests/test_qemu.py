"""QEMU itself under the harness, with firmware and an empty disk: no guest is needed."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, LaunchError, MachineExitedError, QmpError
from harness.journal.journal import Source
from harness.qemu import storage
from harness.qemu.accel import boot
from harness.qemu.arch import Arch
from harness.qemu.machine import Host, Machine, Saved
from harness.qemu.process import alive
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools
from harness.target.protocols import Target
from scenarios.profile import KUBESOLO

LIMIT = 60.0

# A partition table's signature and nothing else.
EMPTY_DISK = (bytes(512) + b"EFI PART").ljust(1 << 20, b"\0")


@pytest.fixture
def empty(tmp_path: Path) -> MachineSpec:
    """A machine with BIOS and a disk that nothing boots from."""
    image = tmp_path / "disk.img"
    image.write_bytes(EMPTY_DISK)
    return MachineSpec.model_validate(
        {
            "arch": "x86_64",
            "image": image,
            "firmware": "bios",
            "memory_mib": 128,
            "disk_size_mib": 64,
            "network": False,
        }
    )


@pytest.fixture
def host(host_tools: HostTools, tmp_path: Path) -> Host:
    return Host(host_tools, "tcg", 1.0, tmp_path / "runs", profile=KUBESOLO)


@pytest.fixture
def machine(empty: MachineSpec, host: Host, tmp_path: Path) -> Iterator[Machine]:
    with Machine(empty, host, tmp_path / "artefacts") as made:
        yield made


def test_a_machine_is_a_target(machine: Machine) -> None:
    target: Target = machine  # The type checker's test.
    assert not target.running


def test_start_and_power_cut_leave_evidence_and_nothing_else(
    empty: MachineSpec, host: Host, tmp_path: Path
) -> None:
    artefacts = tmp_path / "artefacts"
    with Machine(empty, host, artefacts) as machine:
        machine.power_on()
        pid = machine.process.pid
        assert pid is not None
        assert machine.qmp("query-status") == {"status": "running", "running": True}
        machine.power_cut()
        assert not machine.running
        assert not alive(pid)
    assert list(host.runs.iterdir()) == []
    timeline = json.loads((artefacts / "timeline.json").read_text())
    kinds = [(event["source"], event["kind"]) for event in timeline["events"]]
    assert ("harness", "start") in kinds
    assert ("harness", "exit") in kinds
    assert '"execute":"query-status"' in (artefacts / "qmp.log").read_text()
    assert "qemu-system-x86_64" in (artefacts / "command").read_text()
    assert (artefacts / "console.log").exists()


def test_a_machine_can_be_switched_on_again(machine: Machine) -> None:
    for _ in range(3):
        machine.power_on()
        machine.power_cut()
    starts = [
        e for e in machine.journal.events() if (e.source, e.kind) == (Source.HARNESS, "start")
    ]
    assert len(starts) == 3


def test_the_reset_button_is_seen_by_qmp(machine: Machine) -> None:
    machine.power_on()
    cursor = machine.journal.cursor
    machine.reset()
    assert any(event.text == "RESET" for event in machine.journal.events(cursor))


def test_a_machine_without_a_network_has_no_address(machine: Machine) -> None:
    with pytest.raises(HarnessError, match="is off"):
        machine.address(80)
    machine.power_on()
    with pytest.raises(HarnessError, match="does not forward port 80"):
        machine.address(80)


def test_quitting_in_good_order(machine: Machine) -> None:
    machine.power_on()
    machine.quit()
    last = machine.journal.last(lambda event: event.kind == "exit")
    assert last is not None
    assert last.data["status"] == 0


def test_a_wait_ends_with_qemu(machine: Machine) -> None:
    machine.power_on()
    pid = machine.process.pid
    assert pid is not None
    since = machine.journal.cursor
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(MachineExitedError, match="-9"):
        machine.wait_console("never", Deadline.after(60), since=since)


def test_a_power_cut_of_a_machine_that_ended_by_itself_is_none(machine: Machine) -> None:
    machine.power_on()
    machine.qmp("quit")
    machine.process.wait(Deadline.after(LIMIT))
    with pytest.raises(HarnessError, match="by itself"):
        machine.power_cut()


def test_a_refused_command_carries_qemus_reason(machine: Machine) -> None:
    machine.power_on()
    with pytest.raises(QmpError, match="dance"):
        machine.qmp("dance")
    with pytest.raises(QmpError, match=r"net7.*not found"):
        machine.qmp("set_link", name="net7", up=False)


def test_a_command_line_that_qemu_refuses_is_an_error_with_its_words(
    empty: MachineSpec, host: Host, tmp_path: Path
) -> None:
    spec = empty.model_copy(update={"extra": ("-device", "no-such-device")})
    with (
        Machine(spec, host, tmp_path / "artefacts") as machine,
        pytest.raises(LaunchError, match="no-such-device"),
    ):
        machine.power_on()
    assert list(host.runs.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": Path("/nonexistent.img")}, "no disk image"),
        ({"disk_size_mib": 64}, "smaller than its image"),
    ],
)
def test_an_impossible_disk_leaves_nothing_behind(
    empty: MachineSpec, host: Host, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    assert empty.image is not None
    with empty.image.open("r+b") as file:
        file.truncate(65 << 20)
    with pytest.raises(LaunchError, match=reason):
        Machine(empty.model_copy(update=fields), host, tmp_path / "artefacts")
    assert list(host.runs.iterdir()) == []


def test_an_image_that_is_no_disk_says_so(host: Host, empty: MachineSpec, tmp_path: Path) -> None:
    for wrong, reason in ((tmp_path, "no disk image"), (Path(__file__), "no partition table")):
        spec = empty.model_copy(update={"image": wrong})
        with pytest.raises(LaunchError, match=reason):
            Machine(spec, host, tmp_path / "artefacts")


def test_what_a_machine_writes_never_reaches_its_image(
    machine: Machine, empty: MachineSpec, host_tools: HostTools
) -> None:
    write = [*host_tools.argv("qemu-io", "-c", "write -P 0x5a 0 4096")]
    subprocess.run([*write, str(machine.storage.disk)], check=True, capture_output=True)
    assert empty.image is not None
    assert empty.image.read_bytes() == EMPTY_DISK


def test_a_machine_writes_into_a_copy_of_its_seed_and_takes_another(
    empty: MachineSpec, host: Host, tmp_path: Path
) -> None:
    seed, other = tmp_path / "seed", tmp_path / "other"
    seed.write_bytes(b"a" * 4096)
    other.write_bytes(b"b" * 4096)
    spec = MachineSpec.model_validate({**empty.model_dump(), "seed": seed})
    with Machine(spec, host, tmp_path / "artefacts") as machine:
        machine.power_on()
        device = "/machine/peripheral/seed0/virtio-backend"
        assert machine.monitor(f'qemu-io -d {device} "write -P 0x63 0 512"') == ""
        with pytest.raises(HarnessError, match="its seed disk cannot be changed"):
            machine.insert_seed(other)
        machine.quit()
        own = machine.storage.seed
        assert own is not None
        assert own.read_bytes()[:513] == b"c" * 512 + b"a"
        assert seed.read_bytes() == b"a" * 4096
        machine.insert_seed(other)
        machine.power_on()
        machine.quit()
        assert own.read_bytes() == b"b" * 4096
        machine.insert_seed(None)
        machine.power_on()
        assert "seed0" not in machine.monitor("info qtree")


def write(machine: Machine, *commands: str) -> None:
    """Have QEMU do commands of qemu-io on the disk of a machine that is on."""
    for command in commands:
        device = "/machine/peripheral/disk0/virtio-backend"
        assert machine.monitor(f'qemu-io -d {device} "{command}"') == ""


def check_disk(tools: HostTools, disk: Path | None, *commands: str) -> None:
    """What ``read -P`` of qemu-io finds in an overlay that nobody has open."""
    assert disk is not None
    for command in commands:
        argv = tools.argv("qemu-io", "-r", "-f", "qcow2", "-c", command, str(disk))
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


class _Held(Machine):
    """A machine whose processors never start. A BIOS would soon say that it knows no flush, and
    QEMU would write each of the disk's writes out at once."""

    def qmp(self, command: str, /, **arguments: object) -> object:
        return None if command == "cont" else super().qmp(command, **arguments)


def test_a_power_cut_loses_each_write_that_was_not_flushed(
    empty: MachineSpec, host: Host, tmp_path: Path
) -> None:
    # As large as a node's, which QEMU would keep several tables for.
    spec = empty.model_copy(update={"disk_size_mib": 6144})
    with _Held(spec, host, tmp_path / "artefacts") as machine:
        machine.power_on()
        assert machine.qmp("query-status") == {"status": "prelaunch", "running": False}
        write(machine, "write -P 0x11 64k 64k", "flush", "write -P 0x22 1M 64k")
        # The first into another part of the disk: nothing is written out for its sake.
        write(machine, "write -P 0x33 3G 64k")
        machine.power_cut()
        lost = ("read -P 0x11 64k 64k", "read -P 0 1M 64k", "read -P 0 3G 64k")
        check_disk(host.tools, machine.storage.disk, *lost)
        machine.power_on()
        # Over what the disk had before the cut, too.
        write(machine, "write -P 0x44 64k 64k", "write -P 0x55 1M 64k")
        machine.power_cut()
        check_disk(host.tools, machine.storage.disk, *lost)
        machine.power_on()
        write(machine, "write -P 0x66 1M 64k", "flush")
        machine.power_cut()
        kept = (lost[0], "read -P 0x66 1M 64k", lost[2])
        check_disk(host.tools, machine.storage.disk, *kept)
        disk = machine.keep_disk()
    assert disk == tmp_path / "artefacts" / "disk.qcow2"
    check_disk(host.tools, disk, *kept)


def forked_and_kept(empty: MachineSpec, host: Host, tmp_path: Path) -> tuple[Path, str]:
    """What is kept of a machine that wrote, whose snapshot wrote, and which wrote after a cut; and
    what is said of it."""
    folder = tmp_path / "saved"
    folder.mkdir()
    with _Held(empty, host, tmp_path / "first") as first:
        first.power_on()
        write(first, "write -P 0x11 1M 64k", "flush")
        saved = first.save(folder)
    with Machine(empty, host, tmp_path / "artefacts", base=saved.storage) as fork:
        fork.power_on(saved)
        write(fork, "write -P 0x22 2M 64k", "flush")
        fork.power_cut()
        fork.power_on()
        write(fork, "write -P 0x33 3M 64k", "flush")
        fork.quit()
        disk = fork.keep_disk()
        assert disk is not None
        notes = [event.text for event in fork.journal.events() if event.kind == "note"]
    shutil.rmtree(folder)
    said = (tmp_path / "artefacts" / "disk.txt").read_text()
    assert any(said.startswith(note) for note in notes)
    return disk, said


WRITTEN = ("read -P 0x11 1M 64k", "read -P 0x22 2M 64k", "read -P 0x33 3M 64k")


def test_a_kept_disk_can_be_opened_anywhere(empty: MachineSpec, host: Host, tmp_path: Path) -> None:
    disk, said = forked_and_kept(empty, host, tmp_path)
    assert empty.image is not None
    empty.image.unlink()
    elsewhere = disk.rename(tmp_path / "elsewhere.qcow2")
    check_disk(host.tools, elsewhere, *WRITTEN)
    assert "the whole disk" in said
    assert list((tmp_path / "artefacts").glob("*.part")) == []


def test_a_disk_too_large_to_be_kept_whole_names_its_image(
    empty: MachineSpec, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "WHOLE_BYTES", 1000)
    disk, said = forked_and_kept(empty, host, tmp_path)
    check_disk(host.tools, disk, *WRITTEN)
    assert empty.image is not None
    assert str(empty.image) in said
    assert hashlib.sha256(EMPTY_DISK).hexdigest() in said
    # The command that it names opens it elsewhere.
    image = empty.image.rename(tmp_path / "moved.img")
    [command] = [line.strip() for line in said.splitlines() if "qemu-img rebase" in line]
    words = command.replace("IMAGE", str(image)).split()
    assert words[0] == "qemu-img"
    argv = host.tools.argv("qemu-img", *words[1:])
    subprocess.run(argv, check=True, cwd=disk.parent)
    check_disk(host.tools, disk, *WRITTEN)


def test_a_machine_whose_power_was_cut_is_not_saved(machine: Machine, tmp_path: Path) -> None:
    machine.power_on()
    machine.power_cut()
    machine.power_on()
    with pytest.raises(HarnessError, match=r"the power of node was cut: it cannot be saved"):
        machine.save(tmp_path)
    assert machine.running


def test_a_saved_machine_goes_on_where_it_was(
    empty: MachineSpec, host: Host, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    with Machine(empty, host, tmp_path / "first") as first:
        first.power_on()
        saved = first.save(folder)
    assert isinstance(saved, Saved)
    names = [f"fork{number}" for number in range(2)]
    for name in names:
        with Machine(empty, host, tmp_path / name, base=saved.storage) as fork:
            fork.power_on(saved)
            assert fork.journal.last(lambda event: event.kind == "restored") is not None
            assert fork.qmp("query-status") == {"status": "running", "running": True}
            assert fork.storage.disk != saved.storage.disk


def test_a_damaged_snapshot_is_refused(empty: MachineSpec, host: Host, tmp_path: Path) -> None:
    (tmp_path / "memory").write_bytes(b"no snapshot")
    base = storage.fresh(empty, host.tools, tmp_path)
    with (
        Machine(empty, host, tmp_path / "artefacts", base=base) as machine,
        pytest.raises(LaunchError, match=r"(?i)not a migration stream|memory"),
    ):
        machine.power_on(Saved(tmp_path / "memory", base))


def test_the_probe_says_what_a_file_is_that_boots_nowhere(
    host_tools: HostTools, tmp_path: Path
) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"no kernel" * 1000)
    with pytest.raises(LaunchError, match="kernel"):
        boot(host_tools, kernel, Arch.X86_64, "tcg", tmp_path, Deadline.after(LIMIT))


RUNNER = """
import json, sys
from pathlib import Path
from harness.qemu.machine import Host, Machine
from harness.qemu.spec import MachineSpec

class Tools:
    def argv(self, program, *args):
        return [*json.loads(sys.argv[2])[program], *args]
    def path(self, relative):
        return Path(relative)

spec = MachineSpec.model_validate_json(sys.argv[1])
machine = Machine(spec, Host(Tools(), "tcg", 1.0, Path(sys.argv[3])), Path(sys.argv[4]))
machine.power_on()
print(machine.process.pid, flush=True)
sys.stdin.read()
"""


def test_a_killed_runner_leaves_no_qemu(
    empty: MachineSpec, host: Host, host_tools: HostTools, tmp_path: Path
) -> None:
    programs = {name: host_tools.argv(name) for name in ("qemu-system-x86_64", "qemu-img")}
    runner = subprocess.Popen(
        [
            *(sys.executable, "-c", RUNNER, empty.model_dump_json(), json.dumps(programs)),
            *(str(host.runs), str(tmp_path / "artefacts")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout is not None
    assert runner.stdin is not None
    try:
        descriptor = os.pidfd_open(int(runner.stdout.readline()))
        assert len(list(host.runs.iterdir())) == 1
        runner.kill()
        assert select.select([descriptor], [], [], LIMIT)[0], "QEMU outlived its runner"
        os.close(descriptor)
        supervised = Deadline.after(LIMIT)
        while list(host.runs.iterdir()) and not supervised.passed:
            select.select([], [], [], 0.01)
        assert list(host.runs.iterdir()) == []
    finally:
        runner.kill()
        runner.wait()
        runner.stdin.close()
        runner.stdout.close()
