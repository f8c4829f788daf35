"""Sticks with releases: which is tried, when, and what whoever stands at the node reads."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.records.sticks import (
    DONE,
    FAILED,
    KEPT,
    TRYING,
    WAITING,
    Stick,
    note_stick,
    read_sticks,
)
from product.agent.services.stick import AGAIN, BOOT, PLUGGED, is_due, main
from product.agent.system import mounts, program
from product.agent.tests.world import FakeRelease, Rebooted, World
from product.image.seed import seed_image
from product.image.tools import HostTools


class Desk:
    """A node with USB ports; a stick's files are a folder that a mount shows."""

    def __init__(self, world: World, tools: HostTools, patch: pytest.MonkeyPatch) -> None:
        self.world, self._tools = world, tools
        self.root = Path(world.paths.root)
        self.shown = self.root.parent / "shown"
        (self.shown / "metadata").mkdir(parents=True)
        self.sign("one")
        self._sequence = 10
        (self.root / "dev").mkdir(exist_ok=True)
        self.disk("vda", usb=False)
        patch.setattr(mounts, "attach", self._attach)
        patch.setattr(program, "run", self._run)

    def _attach(self, device: str, at: str, **_: object) -> None:
        os.rmdir(at)
        os.symlink(self.shown, at)

    @staticmethod
    def _run(argv: list[str]) -> tuple[int, str]:
        if argv[0] == "umount":
            os.unlink(argv[-1])
        return 0, ""

    def sign(self, text: str) -> None:
        """Another timestamp on the stick."""
        (self.shown / "metadata/timestamp.json").write_text(text)

    def disk(self, name: str, *, usb: bool = True, partition: bool = False) -> None:
        self._sequence += 1
        block = self.root / "sys/class/block"
        place = self.root / "sys/devices" / ("usb1/1-1" if usb else "pci") / "block" / name
        place.mkdir(parents=True)
        (place / "diskseq").write_text(f"{self._sequence}\n")
        block.mkdir(parents=True, exist_ok=True)
        (block / name).symlink_to(place)
        if partition:
            (place / f"{name}1").mkdir()
            (place / f"{name}1/partition").write_text("1\n")
            (block / f"{name}1").symlink_to(place / f"{name}1")

    def plug(self, name: str = "sdb", label: str = "KSOLOUPD", *, partition: bool = False) -> None:
        self.disk(name, partition=partition)
        device = self.root / "dev" / (f"{name}1" if partition else name)
        seed_image(device, {"a": b""}, label=label, tools=self._tools)
        if partition:
            (self.root / "dev" / name).write_bytes(bytes(510) + b"\x55\xaa")

    def plug_image(self, name: str, image: bytes) -> None:
        self.disk(name)
        (self.root / "dev" / name).write_bytes(image)

    def pull(self, name: str = "sdb") -> None:
        shutil.rmtree(os.path.realpath(self.root / "sys/class/block" / name))
        for path in [*(self.root / "sys/class/block").iterdir()]:
            if path.name.startswith(name):
                path.unlink()
        for path in (self.root / "dev").glob(f"{name}*"):
            path.unlink()

    def ask(self, when: str = PLUGGED) -> list[str]:
        """What the console says."""
        before = len(self.world.console())
        with contextlib.suppress(Rebooted):
            assert main([when], self.world.node()) == 0
        said = self.world.console()[before:]
        return [line.removeprefix("kubesolo-update: usb: ") for line in said]

    def boot(self) -> list[str]:
        """The next boot, with whatever is plugged in."""
        self.world.power_on()
        self.world.boot_service()
        return self.ask(BOOT)

    @property
    def again(self) -> int | None:
        path = Path(self.world.paths.ask_again)
        return int(path.read_text()) if path.exists() else None

    def configure(self, line: str) -> None:
        with Path(self.world.paths.config).open("a") as file:
            file.write(f"{line}\n")


@pytest.fixture
def desk(world: World, host_tools: HostTools, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(world, host_tools, monkeypatch)


def known(outcome: str, tries: int = 1) -> Stick:
    return Stick("0" * 64, outcome, tries, "why", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("when", "tried", "before", "due"),
    [
        (PLUGGED, False, None, True),
        (PLUGGED, False, known(DONE), True),
        (PLUGGED, True, None, False),
        (PLUGGED, True, known(WAITING), False),
        (AGAIN, True, known(WAITING), True),
        (BOOT, False, None, True),
        (BOOT, False, known(DONE), False),
        (BOOT, False, known(WAITING), True),
        (BOOT, False, known(TRYING, 2), True),
        (BOOT, False, known(TRYING, 3), False),
        (BOOT, False, known(FAILED, 3), False),
    ],
)
def test_when_a_stick_is_tried(when: str, tried: bool, before: Stick | None, due: bool) -> None:
    assert is_due(when, tried, before) is due


@pytest.mark.parametrize("partition", [False, True])
def test_a_stick_is_installed_and_rebooted_into(desk: Desk, partition: bool) -> None:
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug(partition=partition)
    device = "/dev/sdb1" if partition else "/dev/sdb"
    assert desk.ask() == [
        f"{device} has releases; looking for this node's",
        "0.2.0 is staged in slot B: rebooting; remove the stick any time",
    ]
    assert desk.world.reboots == 1
    assert desk.world.env()["active_slot"] == "B"
    entries = map(json.loads, Path(desk.world.paths.history).read_text().splitlines())
    assert [entry.get("source") for entry in entries] == ["disk:KSOLOUPD", None]


def test_one_that_is_in_at_boot_is_installed(desk: Desk) -> None:
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert desk.ask(BOOT)[-1].startswith("0.2.0 is staged")


def test_one_that_is_left_in_is_not_tried_again(desk: Desk) -> None:
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    desk.ask()
    for _ in range(3):
        assert desk.boot() == []
    assert desk.world.reboots == 1
    # Another disk is plugged in beside it.
    desk.plug("sdc", "PHOTOS")
    assert desk.ask() == []
    # The publisher's next release, on the same stick.
    desk.sign("two")
    desk.world.offered = FakeRelease("0.3.0")
    assert desk.boot()[-1].startswith("0.3.0 is staged")


def test_no_loop_after_a_rollback(desk: Desk) -> None:
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    desk.ask()
    desk.world.break_disk()
    for _ in range(3):
        assert desk.world.power_on() == "B"
        desk.world.boot_service()
    desk.world.mend_disk()
    assert desk.boot() == []
    assert desk.world.decide() == "A"
    assert desk.world.history().count("apply staged") == 1
    # Plugged in once more, quarantine refuses.
    desk.pull()
    desk.plug()
    assert "rolled back" in desk.ask()[-1]
    assert desk.world.history().count("apply staged") == 1


def test_plugging_in_again_tries_again(desk: Desk) -> None:
    desk.plug()
    assert "0.1.0 is up to date; remove the stick any time" in desk.ask()
    assert desk.ask() == []
    desk.pull()
    assert desk.ask() == []
    desk.plug()
    assert len(desk.ask()) == 2


def test_a_stick_that_is_pulled_out_is_gone_on_with(desk: Desk) -> None:
    desk.world.offered = FakeRelease("0.2.0")
    error = AgentError(
        "disk:KSOLOUPD/artifacts/x cannot be read: Input/output error",
        code="server-unreachable",
        hint="plug the stick in again, the next try goes on from there",
    )
    desk.world.fetch_errors[3] = error
    desk.plug()
    said = desk.ask()
    assert said[-1].startswith("the stick is of no use: disk:KSOLOUPD/artifacts/x cannot be read")
    assert "plug the stick in again" in said[-1]
    assert desk.world.reboots == 0
    desk.pull()
    desk.plug("sdc")
    assert desk.ask()[-1].startswith("0.2.0 is staged")


def test_a_try_that_fails_is_repeated_at_two_boots(desk: Desk) -> None:
    desk.world.server_error = AgentError("bad medium", code="server-unreachable")
    desk.plug()
    assert len(desk.ask()) == 2
    assert [len(desk.boot()) for _ in range(4)] == [2, 2, 0, 0]


def test_a_power_cut_in_the_middle_is_gone_on_with(desk: Desk) -> None:
    class PowerCut(BaseException):
        pass

    desk.world.offered = FakeRelease("0.2.0")
    desk.world.fetch_errors[2] = PowerCut()  # type: ignore[assignment]
    desk.plug()
    with pytest.raises(PowerCut):
        desk.ask()
    desk.world.volumes.active.clear()
    assert desk.boot()[-1].startswith("0.2.0 is staged")


def test_a_strangers_stick_is_refused(desk: Desk) -> None:
    desk.world.server_error = AgentError(
        "the first root is signed by no pinned key", code="untrusted", hint="check pubkey="
    )
    desk.plug()
    assert desk.ask()[-1] == (
        "the stick is of no use: the first root is signed by no pinned key; check pubkey="
    )
    assert desk.world.reboots == 0


def test_the_window_is_waited_for(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.configure("maintenance_window=22:00-24:00")
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    (_, said) = desk.ask()
    assert "outside the maintenance window 22:00-24:00; leave the stick in" in said
    assert said.endswith(("it is tried again in 10 h", "in 11 h"))
    assert desk.again is not None
    assert 600 * 60 <= desk.again < 606 * 60
    # The same is said once.
    assert desk.ask(AGAIN) == []
    assert desk.world.fetched == []
    desk.world.clock.minute = 22 * 60 + 5
    assert desk.ask(AGAIN)[-1].startswith("0.2.0 is staged")
    assert desk.again is None


def test_an_inhibitor_is_waited_for(desk: Desk) -> None:
    desk.world.write_file(str(Path(desk.world.paths.inhibitors, "backup")), "owner=backup\n")
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert "backup of backup" in desk.ask()[-1]
    assert desk.again == 600


def test_an_unconfirmed_boot_is_waited_for(desk: Desk) -> None:
    desk.world.set_env(active_slot="A", boot_counter="2", boot_success="0")
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert "leave the stick in: it is tried again in 1 min" in desk.ask()[-1]
    assert desk.again == 60


def test_two_sticks_are_one_too_many(desk: Desk) -> None:
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug("sdb")
    desk.plug("sdc", partition=True)
    assert desk.ask() == [
        "/dev/sdb and /dev/sdc1 are both labelled KSOLOUPD; unplug one of them; none is taken"
    ]
    desk.pull("sdc")
    assert desk.ask()[-1].startswith("0.2.0 is staged")


def test_a_stick_without_a_repository(desk: Desk) -> None:
    (desk.shown / "metadata/timestamp.json").unlink()
    desk.plug()
    assert desk.ask() == [
        "/dev/sdb is labelled KSOLOUPD and has no release repository; copy the folders metadata, "
        "targets and artifacts of one to its top"
    ]


def test_a_repository_as_a_folder_of_the_stick(desk: Desk) -> None:
    desk.world.offered = FakeRelease("0.2.0")
    (desk.shown / "repository").mkdir()
    (desk.shown / "metadata").rename(desk.shown / "repository/metadata")
    desk.plug()
    assert desk.ask()[-1].startswith("0.2.0 is staged")
    entries = map(json.loads, Path(desk.world.paths.history).read_text().splitlines())
    assert next(entries)["source"] == "disk:KSOLOUPD/repository"


def test_a_timestamp_without_an_end_is_not_read_to_it(desk: Desk) -> None:
    with (desk.shown / "metadata/timestamp.json").open("wb") as file:
        file.truncate(1 << 32)
    desk.plug()
    assert "is no timestamp: too large" in desk.ask()[-1]


def test_checking_alone_says_what_there_is(desk: Desk) -> None:
    desk.configure("usb_updates=check")
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert desk.ask()[-1] == (
        "0.2.0 is available, 0.1.0 runs; install it: kubesolo-update apply --server disk:KSOLOUPD"
    )
    assert (desk.world.reboots, desk.world.fetched) == (0, [])
    assert desk.boot() == []


def test_no_is_no(desk: Desk) -> None:
    desk.configure("usb_updates=no")
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert desk.ask() == []
    assert desk.ask(BOOT) == []


def test_a_mistake_in_the_configuration_installs_nothing(desk: Desk) -> None:
    desk.configure("usb_updates=never")
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert "usb_updates is 'never'" in desk.ask()[-1]
    assert desk.world.fetched == []


def test_a_registry_in_the_file_is_not_in_the_way(desk: Desk) -> None:
    desk.world.write_file(
        desk.world.paths.config, "registry=r.example.com/os\ntag=x\npubkey=/etc/kubesolo/pub.pem\n"
    )
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert desk.ask()[-1].startswith("0.2.0 is staged")


def ext4(label: str) -> bytes:
    block = bytearray(1024)
    block[0x38:0x3A] = b"\x53\xef"
    block[0x78 : 0x78 + len(label)] = label.encode()
    return bytes(1024) + bytes(block)


def test_a_file_system_that_is_not_read_is_explained(desk: Desk) -> None:
    desk.plug_image("sdb", ext4("KSOLOUPD"))
    said = [
        "/dev/sdb is labelled KSOLOUPD, with ext4 labelled 'KSOLOUPD': releases need a stick with "
        "FAT32, labelled KSOLOUPD"
    ]
    assert desk.ask() == said
    assert desk.boot() == said


def test_another_label_is_explained_once(desk: Desk) -> None:
    desk.plug("sdb", "UPDATES")
    said = ["/dev/sdb has FAT labelled 'UPDATES': releases need a stick with FAT32, labelled "
            "KSOLOUPD"]  # fmt: skip
    assert desk.ask() == said
    assert desk.ask() == []
    # At a boot it is nobody's business.
    assert desk.boot() == []
    assert desk.ask() == []


@pytest.mark.parametrize("label", ["KSOLODATA", "cidata"])
def test_a_disk_for_something_else_is_passed_over(desk: Desk, label: str) -> None:
    desk.plug("sdb", label)
    assert desk.ask() == []


def test_disks_that_are_no_sticks_are_passed_over(desk: Desk) -> None:
    desk.disk("sdb", usb=False)
    seed_image(desk.root / "dev/sdb", {}, label="DATA", tools=desk._tools)
    desk.plug_image("sdc", bytes(4096))
    assert desk.ask() == []


def test_the_screen_says_it_too_where_the_console_is_a_serial_line(desk: Desk) -> None:
    paths = desk.world.paths
    desk.world.write_file(paths.consoles, "tty0 ttyS0\n")
    Path(paths.screen).touch()
    desk.plug()
    desk.ask()
    assert Path(paths.screen).read_text().splitlines() == desk.world.console()
    # Where the screen is the console, once is enough.
    desk.world.write_file(paths.consoles, "ttyS0 tty0\n")
    desk.pull()
    desk.plug()
    assert desk.ask()
    assert len(desk.world.console()) > len(Path(paths.screen).read_text().splitlines())


def test_the_record_keeps_the_latest(tmp_path: Path) -> None:
    path = str(tmp_path / "sticks.json")
    for number in range(KEPT + 2):
        note_stick(path, known(DONE)._replace(timestamp=str(number)))
    note_stick(path, known(FAILED)._replace(timestamp="5"))
    found = read_sticks(path)
    assert list(found) == ["2", "3", "4", "6", "7", "8", "9", "5"]
    assert found["5"].outcome == FAILED


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"sticks": 3}', '{"sticks": [{}]}', '{"sticks": [[1, 2]]}', "[" * 9999]
)
def test_a_record_that_is_none_is_one_of_no_sticks(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sticks.json"
    path.write_text(text)
    assert read_sticks(str(path)) == {}
    note_stick(str(path), known(DONE))
    assert list(read_sticks(str(path))) == ["0" * 64]


def test_a_disk_that_keeps_nothing_stops_no_update(desk: Desk) -> None:
    Path(desk.world.paths.sticks).mkdir(parents=True)
    desk.world.offered = FakeRelease("0.2.0")
    desk.plug()
    assert desk.ask()[-1].startswith("0.2.0 is staged")
