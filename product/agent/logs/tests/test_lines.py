"""Logs are read as svlogd, the kernel and containerd leave them, whatever the clock did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from product.agent.logs import lines
from product.agent.logs.follow import Follower
from product.agent.tests.world import World

# A command's exit code, output and errors.
Run = Callable[..., tuple[int | None, str, str]]


def write_log(folder: Path, service: str, *texts: str, older: tuple[str, ...] = ()) -> None:
    place = folder / service
    place.mkdir(parents=True)
    (place / "config").write_text("s250000\n")
    (place / "lock").write_text("")
    for number, text in enumerate(older):
        (place / f"@40000000{number:08x}.s").write_text(text + "\n")
    (place / "current").write_text("".join(f"{text}\n" for text in texts))


def test_services_are_merged_by_time(tmp_path: Path) -> None:
    write_log(
        tmp_path,
        "kernel",
        "2026-12-01_10:00:01.00000 <6>[    0.000000] Linux version 6.12",
        "2026-12-01_10:00:01.00000 <15>[    1.500000] kubesolo: stage initramfs",
        "2026-12-01_10:00:04.00000 <4>[    9.000000] usb: gone",
    )
    write_log(
        tmp_path,
        "network",
        "2026-12-01_10:00:02.00000 lease of 10.0.2.15",
        older=("2026-12-01_10:00:00.00000 looking",),
    )
    (tmp_path / "boot").write_text("number=1\n")
    (tmp_path / "pods").mkdir()
    assert lines.services_of(str(tmp_path)) == ["kernel", "network"]
    found = [(line.service, line.text) for line in lines.boot_lines(str(tmp_path))]
    assert found == [
        ("network", "looking"),
        ("kernel", "[    0.000000] Linux version 6.12"),
        ("boot", "[    1.500000] kubesolo: stage initramfs"),
        ("network", "lease of 10.0.2.15"),
        ("kernel", "[    9.000000] usb: gone"),
    ]
    only = [line.text for line in lines.boot_lines(str(tmp_path), "boot")]
    assert only == ["[    1.500000] kubesolo: stage initramfs"]


def test_a_clock_that_is_set_back_keeps_a_services_order(tmp_path: Path) -> None:
    write_log(tmp_path, "a", "2030-01-01_00:00:00.00000 first", "2026-12-01_00:00:00.00000 second")
    write_log(tmp_path, "b", "2026-12-01_00:00:01.00000 other")
    found = [line.text for line in lines.boot_lines(str(tmp_path))]
    assert found == ["other", "first", "second"]


def test_garbage_is_shown_as_it_is(tmp_path: Path) -> None:
    write_log(tmp_path, "a", "no stamp")
    (tmp_path / "a" / "current").write_bytes(b"\xff\0torn\n" + b"x" * 40000)
    found = list(lines.boot_lines(str(tmp_path)))
    assert found[0].time == ""
    assert sum(len(line.text) for line in found) >= 40000


def test_containers_are_read_in_the_order_of_their_starts(tmp_path: Path) -> None:
    place = tmp_path / "default_web-1_0f-1" / "nginx"
    place.mkdir(parents=True)
    (place / "10.log").write_text("2026-12-01T10:00:05.5Z stdout F third\n")
    (place / "9.log").write_text("2026-12-01T10:00:02.5Z stderr F second\n")
    (place / "9.log.20261201-100001").write_text("2026-12-01T10:00:01.5Z stdout F first\n")
    found = [line.text for line in lines.pod_lines(str(tmp_path), "default/web-1")]
    assert found == ["first", "second", "third"]
    assert lines.pods_in(str(tmp_path)) == ["default/web-1"]


@pytest.fixture
def logged(world: World, capsys: pytest.CaptureFixture[str]) -> Run:
    """A node in its third boot, of which boot 2 was followed by a panic."""
    for number in (1, 2, 3):
        folder = Path(world.paths.logs, "boots", f"{number:08d}")
        folder.mkdir(parents=True)
        (folder / "boot").write_text(
            f"number={number}\nboot_id=id-{number}\nslot=A\nversion=0.1.0\nstarted=0\n"
        )
        write_log(folder, "network", f"2026-12-01_10:00:0{number}.00000 lease {number}")
    crash = Path(world.paths.logs, "crash/00000003-1.txt")
    crash.parent.mkdir()
    crash.write_text("# head\n<0>[ 1.0] Kernel panic - not syncing: x\n")

    def run(*argv: str) -> tuple[int | None, str, str]:
        code = world.run(*argv)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_boots_are_chosen_by_number_or_from_the_present_one(logged: Run) -> None:
    for flags, text in (
        ((), "lease 3"),
        (("--boot", "-1"), "lease 2"),
        (("--boot", "1"), "lease 1"),
    ):
        code, out, _ = logged("logs", *flags)
        assert code == 0
        assert text in out
    code, out, err = logged("logs", "--boot", "7")
    assert (code, out) == (1, "")
    assert "no logs of boot 7: those of 3 boots are kept, 1 to 3" in err
    assert logged("logs", "--boot", "-3")[0] == 1
    assert logged("logs", "--boot", "x")[0] == 2


def test_a_crash_follows_the_boot_before_it(logged: Run) -> None:
    _, out, _ = logged("logs", "--boot", "-1")
    assert "Kernel panic - not syncing: x" in out
    assert "Kernel panic" not in logged("logs")[1]
    _, out, _ = logged("logs", "--list")
    assert out.splitlines()[1].startswith("boot 2: 0.1.0 in slot A")
    assert out.splitlines()[2].endswith("00000003-1.txt: Kernel panic - not syncing: x")
    _, out, _ = logged("logs", "--boot", "-1", "--json", "--lines", "1")
    document = json.loads(out)
    assert document["boot"]["number"] == 2
    assert [line["text"] for line in document["lines"]] == ["lease 2"]
    assert "Kernel panic" in document["crashes"][0]["text"]
    _, out, _ = logged("status")
    assert "a failed boot before this one: " in out


def test_an_unknown_service_names_those_there_are(logged: Run) -> None:
    code, _, err = logged("logs", "--service", "nework")
    assert code == 1
    assert "boot 3 has no log of nework" in err
    assert "it has: boot, network" in err
    code, _, err = logged("logs", "--service", "default/web")
    assert code == 1
    assert "there is no log of a pod default/web" in err


def test_following_goes_on_over_rotations(tmp_path: Path) -> None:
    write_log(tmp_path, "a", "2026-12-01_10:00:00.00000 old")
    follower = Follower(str(tmp_path))
    current = tmp_path / "a/current"

    def say(text: str) -> None:
        with current.open("a") as file:
            file.write(text)

    def said() -> list[str]:
        return [line.text for line in follower.poll()]

    assert said() == []
    say("2026-12-01_10:00:01.00000 first\n2026-12-01_10:00:02.00000 hal")
    assert said() == ["first"]
    say("f\n2026-12-01_10:00:03.00000 last of it\n")
    current.rename(tmp_path / "a/@4000.s")
    current.write_text("2026-12-01_10:00:04.00000 new\n")
    write_log(tmp_path, "b", "2026-12-01_10:00:04.00000 of another")
    assert said() == ["half", "last of it", "new", "of another"]
    assert said() == []
    follower.close()


def test_following_is_of_this_boot(logged: Run) -> None:
    code, _, err = logged("logs", "--follow", "--boot", "-1")
    assert code == 2
    assert "--follow shows this boot's lines" in err
