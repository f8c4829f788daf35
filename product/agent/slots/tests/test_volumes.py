"""The machine's partitions: options, turns, leftovers; and real ext4 in a file."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from product.agent.slots.volumes import SystemVolumes, VolumeBusyError, VolumeError
from product.agent.system import mounts, program
from product.agent.system.paths import Paths

needs_e2fsprogs = pytest.mark.skipif(
    shutil.which("mke2fs", path="/usr/sbin:/sbin") is None, reason="needs e2fsprogs"
)


def _can_mount() -> bool:
    """Whether this host lets us mount a file: a container often does not."""
    if os.geteuid() != 0 or not shutil.which("mke2fs", path="/usr/sbin:/sbin"):
        return False
    return program.run(["losetup", "-f"])[0] == 0


needs_mounts = pytest.mark.skipif(not _can_mount(), reason="needs loop devices and root")


class Programs:
    """mount and umount as a list of what was run; the mount table is kept in a file."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.ran: list[list[str]] = []
        self.fails: set[str] = set()
        Path(paths.mountinfo).parent.mkdir(parents=True)
        self.table("")

    def table(self, text: str) -> None:
        Path(self.paths.mountinfo).write_text(text)

    def run(self, argv: list[str]) -> tuple[int, str]:
        self.ran.append(list(argv))
        return (32, "wrong fs type") if argv[0] in self.fails else (0, "")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs(Paths(str(tmp_path)))
    monkeypatch.setattr(program, "run", programs.run)
    return programs


def mount_line(point: str, shared: str = "rw") -> str:
    device = os.stat("/dev/null").st_rdev
    number = f"{os.major(device)}:{os.minor(device)}"
    return f"22 1 {number} / {point} rw - ext4 /dev/x {shared}\n"


def test_a_partition_is_mounted_while_it_is_used(programs: Programs) -> None:
    volumes = SystemVolumes(programs.paths)
    at = programs.paths.slot_mount
    with volumes.mounted("/dev/null", at, kind="ext4", writable=True) as directory:
        assert directory == at
        assert Path(at).is_dir()
    assert programs.ran == [
        ["mount", "-t", "ext4", "-o", "rw,noatime,nosuid,nodev,noexec", "/dev/null", at],
        ["umount", at],
    ]


def test_a_look_neither_waits_nor_replays_a_journal(programs: Programs) -> None:
    volumes = SystemVolumes(programs.paths)
    at = programs.paths.view_mounts["A"]
    with volumes.mounted("/dev/null", at, kind="ext4", wait=False):
        assert programs.ran[0][4] == "ro,nosuid,nodev,noexec,noload"
        busy: list[bool] = []

        def look() -> None:
            try:
                with volumes.mounted("/dev/null", at, kind="ext4", wait=False):
                    busy.append(False)
            except VolumeBusyError:
                busy.append(True)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert busy == [True]


def test_two_processes_may_look_at_two_slots(tmp_path: Path) -> None:
    mounts = Paths(str(tmp_path)).view_mounts
    assert len({mounts["A"], mounts["B"]}) == 2


def test_it_is_unmounted_after_an_error_too(programs: Programs) -> None:
    volumes = SystemVolumes(programs.paths)
    at = programs.paths.slot_mount
    with pytest.raises(KeyError), volumes.mounted("/dev/null", at, kind="ext4"):
        raise KeyError
    assert programs.ran[-1] == ["umount", at]


def test_what_a_killed_agent_left_is_unmounted_first(programs: Programs) -> None:
    left = programs.paths.slot_mount
    programs.table(mount_line(left) + mount_line("/somewhere\\040else"))
    volumes = SystemVolumes(programs.paths)
    with volumes.mounted("/dev/null", programs.paths.view_mounts["A"], kind="ext4"):
        assert programs.ran[0] == ["umount", left]
        assert programs.ran[1][0] == "mount"
    assert volumes.mounted_elsewhere("/dev/null", left) == "/somewhere else"
    programs.ran.clear()
    assert volumes.check("/dev/null")
    assert programs.ran == [["umount", left], ["e2fsck", "-p", "/dev/null"]]


def test_what_others_have_mounted_stays_theirs(programs: Programs) -> None:
    run, esp = programs.paths.run, programs.paths.esp_mount
    others = [f"{run}/repository/7.0", f"{run}/seed", "/media/esp"]
    programs.table("".join(mount_line(point) for point in others))
    volumes = SystemVolumes(programs.paths)
    with volumes.mounted("/dev/null", esp, kind="vfat", writable=True):
        pass
    assert volumes.check("/dev/null")
    assert [argv[-1] for argv in programs.ran if argv[0] == "umount"] == [esp]


def test_a_partition_is_mounted_beside_a_mount_of_the_other_kind(programs: Programs) -> None:
    volumes, at = SystemVolumes(programs.paths), programs.paths.esp_mount
    safe = "nosuid,nodev,noexec"
    for shared, writable, steps in (
        ("ro", False, [f"ro,{safe}"]),
        ("ro", True, [f"ro,noatime,{safe}", f"remount,rw,noatime,{safe}"]),
        ("rw,errors=remount-ro", True, [f"rw,noatime,{safe}"]),
        ("rw,errors=remount-ro", False, [f"rw,{safe}", f"remount,bind,ro,{safe}"]),
    ):
        programs.table(mount_line(f"{programs.paths.run}/seed", shared))
        programs.ran.clear()
        with volumes.mounted("/dev/null", at, kind="vfat", writable=writable):
            pass
        assert [argv[4] for argv in programs.ran[:-1]] == steps
        assert programs.ran[-1] == ["umount", at]


@needs_mounts
def test_a_real_file_system_is_read_and_written_by_several_at_once(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"")
    os.truncate(image, 4 * 1024 * 1024)
    program.require(["mke2fs", "-q", "-F", str(image)])
    device = program.run(["losetup", "-f", "--show", str(image)])[1]
    points = [tmp_path / name for name in "abc"]
    attached: list[Path] = []

    def attach(point: Path, *, writable: bool) -> None:
        point.mkdir(exist_ok=True)
        mounts.attach(
            device, str(point), kind="ext2", options="nosuid,nodev,noexec",
            mountinfo="/proc/self/mountinfo", writable=writable,
        )  # fmt: skip
        attached.append(point)

    def detach(point: Path) -> None:
        program.require(["umount", str(point)])
        attached.remove(point)

    try:
        attach(points[0], writable=False)
        attach(points[1], writable=True)
        (points[1] / "file").write_text("new")
        assert (points[0] / "file").read_text() == "new"
        detach(points[1])
        attach(points[2], writable=False)
        for reader in (points[0], points[2]):
            with pytest.raises(OSError, match="Read-only"):
                (reader / "other").write_text("")
    finally:
        for point in list(attached):
            detach(point)
        program.require(["losetup", "-d", device])


def test_a_partition_that_does_not_mount_is_an_error(programs: Programs) -> None:
    programs.fails.add("mount")
    volumes = SystemVolumes(programs.paths)
    with (
        pytest.raises(VolumeError, match="wrong fs type"),
        volumes.mounted("/dev/null", programs.paths.esp_mount, kind="vfat"),
    ):
        raise AssertionError("it was mounted")


def test_a_missing_device_is_an_error(programs: Programs) -> None:
    with pytest.raises(VolumeError, match="/dev/none"):
        SystemVolumes(programs.paths).mounted_elsewhere("/dev/none", "/x")


@needs_e2fsprogs
def test_make_and_check_a_real_file_system(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    Path(paths.mountinfo).parent.mkdir(parents=True)
    Path(paths.mountinfo).write_text("")
    volumes = SystemVolumes(paths)
    device = tmp_path / "slot.img"
    device.write_bytes(b"")
    os.truncate(device, 16 * 1024 * 1024)
    assert not volumes.check(str(device)), "there is no file system yet"
    volumes.make(str(device), "KSOLOB")
    assert volumes.check(str(device))
    data = device.read_bytes()
    assert b"KSOLOB" in data[1024:2048]
    assert volumes.size(str(device)) == 16 * 1024 * 1024
    with open(device, "r+b") as file:
        file.write(os.urandom(2 * 1024 * 1024))
    assert not volumes.check(str(device))
    volumes.make(str(device), "KSOLOB")
    assert volumes.check(str(device))


def test_programs_report_their_output_and_absence() -> None:
    assert program.run(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\nerr")
    assert program.run(["sh", "-c", "kill -9 $$"])[0] == -9
    with pytest.raises(program.ProgramError, match="no-such-program"):
        program.run(["no-such-program"])
    with pytest.raises(program.ProgramError, match=r"failed \(4\): a | b"):
        program.require(["sh", "-c", "echo a; echo b; exit 4"])
