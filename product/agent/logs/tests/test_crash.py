"""What the firmware kept becomes files on the disk, whole and in order, and only then goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from product.agent.logs import crash
from product.agent.logs.boots import crashes_of, latest_crash, list_boots, list_crashes
from product.agent.system.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    for folder in ("mnt/data/log/crash", "mnt/data/log/boots", "sys/fs/pstore"):
        (tmp_path / folder).mkdir(parents=True)
    return Paths(str(tmp_path))


def add_boot(paths: Paths, number: int, version: str = "0.1.0") -> None:
    folder = Path(paths.logs, "boots", f"{number:08d}")
    folder.mkdir()
    (folder / "boot").write_text(f"number={number}\nboot_id=b{number}\nslot=A\nversion={version}\n")


def add_record(
    paths: Paths, second: int, part: int, text: str, *, count: int = 1, reason: str = "Panic"
) -> Path:
    identity = (second * 100 + part) * 1000 + count
    path = Path(paths.pstore, f"dmesg-efi_pstore-{identity}")
    path.write_text(f"{reason}#{count} Part{part}\n{text}")
    return path


def test_each_dump_becomes_one_file_in_order(paths: Paths) -> None:
    add_boot(paths, 6)
    panic = "<0>[    9.0] Kernel panic - not syncing: Attempted to kill init!\n"
    add_record(paths, 1700000020, 1, "<7>[    3.0] kubesolo: boot failed: no disk\n<6>[ 3.1] late")
    add_record(paths, 1700000001, 1, panic)
    add_record(paths, 1700000001, 2, "<6>[    8.0] second\n")
    # It takes its time.
    add_record(paths, 1700000002, 3, "<6>[    7.0] first\n")
    files = crash.collect(paths)
    assert [Path(file).name for file in files] == ["00000006-1.txt", "00000006-2.txt"]
    first, second = list_crashes(paths)
    assert first.reason == "Kernel panic - not syncing: Attempted to kill init!"
    assert second.reason == "kubesolo: boot failed: no disk"
    text = Path(paths.logs, "crash/00000006-1.txt").read_text()
    assert text.splitlines()[1:] == ["<6>[    7.0] first", "<6>[    8.0] second", panic.strip()]
    assert list(Path(paths.pstore).iterdir()) == []
    assert latest_crash(paths) == second


def test_records_stay_where_nothing_keeps_them(paths: Paths) -> None:
    record = add_record(paths, 1700000001, 1, "Kernel panic\n")
    Path(paths.logs, "crash").rmdir()
    assert crash.collect(paths) == []
    assert record.exists()


def test_a_disk_that_takes_nothing_keeps_the_records(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_boot(paths, 2)
    record = add_record(paths, 1700000001, 1, "Kernel panic\n")

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(crash, "write_atomic", full)
    assert crash.main(paths) == 1
    assert "No space left on device" in capsys.readouterr().out
    assert record.exists()


def test_odd_records_are_kept_as_they_are(paths: Paths) -> None:
    add_boot(paths, 2)
    Path(paths.pstore, "dmesg-erst-77").write_text("no head at all\n")
    Path(paths.pstore, "dmesg-efi_pstore-170000000101001.enc.z").write_bytes(b"\xff\0")
    other = Path(paths.pstore, "pmsg-ramoops-0")
    other.write_text("not a dump")
    assert len(crash.collect(paths)) == 2
    texts = [Path(paths.logs, "crash", f"00000002-{n}.txt").read_text() for n in (1, 2)]
    assert "no head at all" in texts[0]
    assert "cannot be unpacked" in texts[1]
    assert other.exists()


def test_the_oldest_make_room(paths: Paths) -> None:
    for number in range(1, 30):
        Path(paths.logs, f"crash/{number:08d}-1.txt").write_text("x\n")
    add_boot(paths, 30)
    add_record(paths, 1700000001, 1, "Kernel panic\n")
    crash.collect(paths)
    kept = sorted(path.name for path in Path(paths.logs, "crash").iterdir())
    assert len(kept) == crash.KEPT
    assert kept[-1] == "00000030-1.txt"


def test_a_crash_belongs_between_two_boots_that_have_logs(paths: Paths) -> None:
    for number in (3, 4, 7):
        add_boot(paths, number)
    for found_by in (4, 6, 7):
        Path(paths.logs, f"crash/{found_by:08d}-1.txt").write_text("x\n")
    boots, crashes = list_boots(paths), list_crashes(paths)
    found = [[c.found_by for c in crashes_of(crashes, boots, boot)] for boot in boots]
    assert found == [[4], [6, 7], []]


def test_a_record_that_cannot_be_read_costs_itself_alone(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    add_boot(paths, 2)
    Path(paths.pstore, "dmesg-efi_pstore-170000000001001").mkdir()
    Path(paths.pstore, "console-ramoops-0").mkdir()
    good = add_record(paths, 1700000009, 1, "Kernel panic\n")
    assert crash.main(paths) == 1
    said = capsys.readouterr().out
    assert "dmesg-efi_pstore-170000000001001 cannot be read: Is a directory" in said
    assert "console-ramoops-0 cannot be read" in said
    assert "the last console of a failed boot: " in said
    assert not good.exists()
    assert len(list_crashes(paths)) == 1


def test_a_record_that_cannot_be_removed_keeps_no_other(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_boot(paths, 2)
    stays = add_record(paths, 1700000001, 1, "Kernel panic\n")
    goes = add_record(paths, 1700000090, 1, "Kernel panic\n", count=2)
    unlink = os.unlink

    def refuse(path: str) -> None:
        if path == str(stays):
            raise OSError(5, "Input/output error", path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert crash.main(paths) == 1
    assert "cannot be removed: Input/output error" in capsys.readouterr().out
    assert (stays.exists(), goes.exists()) == (True, False)


def test_the_console_of_the_boot_before_is_kept_and_no_crash(paths: Paths) -> None:
    for number in range(2, 8):
        add_boot(paths, number)
        record = Path(paths.pstore, "console-ramoops-0")
        record.write_text(f"[    1.0] boot {number - 1}\n")
        assert crash.collect(paths) == []
        assert not record.exists()
    assert list_crashes(paths) == []
    kept = sorted(Path(paths.logs, "crash").iterdir())
    assert [path.name for path in kept] == [f"0000000{n}-console-0.txt" for n in (5, 6, 7)]
    assert kept[-1].read_text() == "[    1.0] boot 6\n"
