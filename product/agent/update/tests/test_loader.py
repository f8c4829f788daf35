"""The boot loader of a confirmed release takes the place of the installed one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.status import collect
from product.agent.system.direct_io import from_disk
from product.agent.tests.world import DEVICES, World
from product.agent.update import loader, loader_trust
from product.agent.update.loader import follow_loader, read_installed
from product.disk import fat, pe
from product.disk.bios import PLACES, boot_code, is_installed, place_core
from product.disk.errors import DiskError
from product.disk.loader import RECORD, Loader, describe
from product.disk.prepare import open_disk

BOOT, CORE = b"\xeb\x63" + b"b" * 510, b"c" * 5000


class Killed(BaseException):
    """The process ends here; nothing of it handles that."""


class Esp:
    """The EFI partition of the world: its folder, the disk, and what is done to them."""

    def __init__(self, world: World, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.path = world.volumes.directories[DEVICES["KSOLOEFI"]]
        self.disk = disk
        self.exchanges = 0
        monkeypatch.setattr(fat, "exchange", self._exchange)

    def _exchange(self, device: str, pairs: Sequence[tuple[str, str]]) -> None:
        assert not self.world.volumes.active, "exchanged while it is mounted"
        for pair in pairs:
            active, spare, third = (self.path / name for name in (*pair, "third"))
            active.rename(third)
            spare.rename(active)
            third.rename(spare)
        self.exchanges += 1

    def bring(self, version: str, text: str, *, bios: bool = True) -> None:
        """The running release has a boot loader of ``text``."""
        files = {"EFI/BOOT/BOOTX64.EFI": text.encode() * 999, "EFI/debian/grub.cfg": text.encode()}
        if bios:
            files |= {"bios/boot.img": BOOT, "bios/core.img": CORE + text.encode()}
        _write(Path(self.world.paths.loader), files, version)

    def install(self, version: str, text: str) -> None:
        """KSOLOEFI has a boot loader of ``text``, the disk its core."""
        files = {"EFI/BOOT/BOOTX64.EFI": text.encode() * 999, "EFI/debian/grub.cfg": text.encode()}
        files |= {"bios/boot.img": BOOT, "bios/core.img": CORE + text.encode()}
        _write(self.path, files, version)
        for name in ("boot.img", "core.img"):
            (self.path / "bios" / name).unlink()
        with self.disk.open("r+b") as stream:
            stream.write(boot_code(BOOT, PLACES[0]))
            stream.seek(PLACES[0] * 512)
            stream.write(place_core(CORE + text.encode(), PLACES[0]))

    @property
    def text(self) -> str:
        """What the installed loader is."""
        text = (self.path / "EFI/debian/grub.cfg").read_text()
        assert (self.path / "EFI/BOOT/BOOTX64.EFI").read_text() == text * 999
        return text

    @property
    def bios(self) -> str:
        """What BIOS starts."""
        for text in ("old", "new"):
            with open_disk(str(self.disk)) as disk:
                if is_installed(disk, BOOT, CORE + text.encode()):
                    return text
        return "neither"


def _write(folder: Path, files: dict[str, bytes], version: str) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    record = folder / RECORD
    record.unlink(missing_ok=True)
    known = describe(str(folder), version)
    ours = {name: digest for name, digest in known.files.items() if name in files}
    record.write_bytes(known._replace(files=ours).to_bytes())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def esp(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Esp:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    boot = json.loads(Path(world.paths.boot).read_text())
    Path(world.paths.boot).write_text(json.dumps({**boot, "disk": str(disk)}))
    made = Esp(world, disk, monkeypatch)
    made.install("0.1.0", "old")
    return made


def test_a_newer_one_is_installed_and_the_environment_stays(world: World, esp: Esp) -> None:
    env = world.env_path.read_bytes()
    esp.bring("0.2.0", "new")
    assert follow_loader(world.node())
    assert (esp.text, esp.bios, esp.exchanges) == ("new", "new", 1)
    installed = read_installed(world.node())
    assert installed is not None
    assert installed.version == "0.2.0"
    assert collect(world.node(), Config()).boot_loader == "0.2.0"
    assert (esp.path / "SPARE/debian/grub.cfg").read_text() == "old"
    assert world.env_path.read_bytes() == env
    assert not follow_loader(world.node())
    assert esp.exchanges == 1


def test_the_same_files_of_another_release_are_left_alone(world: World, esp: Esp) -> None:
    esp.bring("0.2.0", "old")
    assert not follow_loader(world.node())
    assert (esp.text, esp.exchanges) == ("old", 0)


def test_an_older_release_leaves_a_newer_loader(world: World, esp: Esp) -> None:
    esp.bring("0.0.9", "new")
    assert not follow_loader(world.node())
    assert (esp.text, esp.bios, esp.exchanges) == ("old", "old", 0)


@pytest.mark.parametrize("damage", ["missing", "garbage", "list"])
def test_an_unknown_loader_is_replaced(world: World, esp: Esp, damage: str) -> None:
    record = esp.path / RECORD
    if damage == "missing":
        record.unlink()
    else:
        record.write_text("[]" if damage == "list" else "{")
    esp.bring("0.2.0", "new")
    assert follow_loader(world.node())
    assert (esp.text, esp.bios) == ("new", "new")


def test_what_reads_back_otherwise_is_not_switched_to(
    world: World, esp: Esp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "from_disk", lambda path: iter([memoryview(b"rot")]))
    esp.bring("0.2.0", "new")
    with pytest.raises(AgentError, match="reads back as"):
        follow_loader(world.node())
    assert (esp.text, esp.exchanges) == ("old", 0)


def test_a_core_that_is_too_long_is_refused_before_anything_is_written(
    world: World, esp: Esp
) -> None:
    esp.bring("0.2.0", "new" * 200_000)
    with pytest.raises(DiskError, match="are its room"):
        follow_loader(world.node())
    assert (esp.text, esp.bios, esp.exchanges) == ("old", "old", 0)


@pytest.mark.parametrize("signed", [False, True])
def test_where_secure_boot_is_on_only_a_signed_one_is_installed(
    world: World, esp: Esp, monkeypatch: pytest.MonkeyPatch, signed: bool
) -> None:
    monkeypatch.setattr(loader, "secure_boot", lambda paths: "on")
    monkeypatch.setattr(pe, "is_signed", lambda content: signed and content.startswith(b"new"))
    # Who has signed it is judged in test_loader_trust.py.
    monkeypatch.setattr(loader_trust, "require_trusted", lambda *arguments: None)
    esp.bring("0.2.0", "new")
    if signed:
        assert follow_loader(world.node())
        assert esp.text == "new"
    else:
        with pytest.raises(AgentError, match=r"BOOTX64\.EFI of .* carries no signature"):
            follow_loader(world.node())
        assert (esp.text, esp.bios, esp.exchanges) == ("old", "old", 0)


def test_where_the_firmware_would_not_start_it_the_old_one_stays(
    world: World, esp: Esp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "secure_boot", lambda paths: "on")
    monkeypatch.setattr(pe, "is_signed", lambda content: True)
    esp.bring("0.2.0", "new")
    with pytest.raises(AgentError, match=r"BOOTX64\.EFI of .* no signature that this firmware"):
        follow_loader(world.node())
    assert (esp.text, esp.bios, esp.exchanges) == ("old", "old", 0)


def test_an_image_without_one_changes_nothing(world: World, esp: Esp) -> None:
    assert not follow_loader(world.node())
    assert (esp.text, esp.exchanges) == ("old", 0)


def test_only_a_confirmed_boot_installs_it(world: World, esp: Esp) -> None:
    world.set_env(active_slot="A", boot_counter="2", boot_success="0")
    world.break_disk()
    esp.bring("0.2.0", "new")
    world.run("healthcheck", "--boot")
    assert (esp.text, esp.bios) == ("old", "old")
    world.mend_disk()
    world.set_env(active_slot="A", boot_counter="2", boot_success="0")
    assert world.run("healthcheck", "--boot") == 0
    assert (esp.text, esp.bios) == ("new", "new")
    assert any("boot loader of 0.1.0 installed" in line for line in world.console())


def test_one_that_cannot_be_installed_is_a_problem_and_no_failed_boot(
    world: World, esp: Esp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(node: object, wanted: Loader) -> None:
        raise DiskError("the entries lie in two sectors")

    monkeypatch.setattr(loader, "_exchange", fail)
    world.set_env(active_slot="A", boot_counter="2", boot_success="0")
    esp.bring("0.2.0", "new")
    assert world.run("healthcheck", "--boot") == 0
    report = json.loads(Path(world.paths.report).read_text())
    assert any("boot loader stays as it was" in problem for problem in report["problems"])
    assert esp.text == "old"


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_a_crash_anywhere_leaves_one_or_the_other_and_can_be_repeated(
    world: World, esp: Esp, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Process crashes; what a power cut leaves is a scenario's."""
    crashes = 0
    while True:
        esp.install("0.1.0", "old")
        esp.bring("0.2.0", "new")
        with monkeypatch.context() as patch:
            _crash_at(patch, call, crashes)
            try:
                follow_loader(world.node())
                break
            except Killed:
                crashes += 1
        world.volumes.active.clear()
        assert esp.text in ("old", "new")
        assert esp.bios in ("old", "new")
        assert follow_loader(world.node()) or crashes
        assert (esp.text, esp.bios) == ("new", "new")
    assert crashes > {"fsync": 5, "pwrite": 1}[call]


def _crash_at(patch: pytest.MonkeyPatch, call: str, count: int) -> None:
    left = [count]
    real: Callable[..., object] = getattr(os, call)

    def crash(*args: object, **kwargs: object) -> object:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return real(*args, **kwargs)

    patch.setattr(os, call, crash)


BOARD_FILES = ("CONFIG.TXT", "START.ELF")


def _give_board(esp: Esp, version: str, text: str, *, installed: bool) -> None:
    """A loader of ``text`` for a board, in the release or on KSOLOEFI."""
    below = {"EFI/BOOT/BOOTX64.EFI": text.encode() * 999, "EFI/debian/grub.cfg": text.encode()}
    below["EFI/BOARD/u-boot.bin"] = b"u-boot " + text.encode()
    top = {name: f"{name} {text}".encode() for name in BOARD_FILES}
    folder = esp.path if installed else Path(esp.world.paths.loader)
    _write(folder, below | {f"board/{name}": data for name, data in top.items()}, version)
    if installed:
        for name, data in top.items():
            (folder / "board" / name).unlink()
            (folder / name).write_bytes(data)
            (folder / f"{name.partition('.')[0]}.NEW").write_bytes(b"")


@pytest.mark.parametrize("call", ["none", "fsync"])
def test_the_files_of_a_board_follow_at_once_or_not_at_all(
    world: World, esp: Esp, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What the firmware finds is all of one release, wherever the agent ends."""
    crashes = 0
    while True:
        _give_board(esp, "0.1.0", "old", installed=True)
        _give_board(esp, "0.2.0", "new", installed=False)
        with monkeypatch.context() as patch:
            if call != "none":
                _crash_at(patch, call, crashes)
            try:
                assert follow_loader(world.node())
                break
            except Killed:
                crashes += 1
        world.volumes.active.clear()
        assert _board(esp) == "old"
        assert follow_loader(world.node())
        assert _board(esp) == "new"
    assert _board(esp) == "new"
    assert not follow_loader(world.node())
    assert crashes > 5 or call == "none"


def _board(esp: Esp) -> str:
    """Whose files the firmware finds; there must be no mixture."""
    said = {(esp.path / name).read_text().removeprefix(f"{name} ") for name in BOARD_FILES}
    said |= {esp.text, (esp.path / "EFI/BOARD/u-boot.bin").read_text().removeprefix("u-boot ")}
    (text,) = said
    return text


def test_a_file_of_the_board_that_reads_back_otherwise_is_not_switched_to(
    world: World, esp: Esp, monkeypatch: pytest.MonkeyPatch
) -> None:
    _give_board(esp, "0.1.0", "old", installed=True)
    _give_board(esp, "0.2.0", "new", installed=False)
    read = from_disk

    def rotten(path: str) -> Iterable[memoryview]:
        return iter([memoryview(b"rot")]) if path.endswith("START.NEW") else read(path)

    monkeypatch.setattr(loader, "from_disk", rotten)
    with pytest.raises(AgentError, match=r"board/START\.ELF of the boot loader reads back as"):
        follow_loader(world.node())
    assert _board(esp) == "old"
