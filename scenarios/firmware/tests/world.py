"""The agent's world on a Raspberry Pi: the model of its firmware decides what boots."""

from __future__ import annotations

import io
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from product.agent.bootloader.boot import BootInfo
from product.agent.bootloader.restart import main as restart_command
from product.agent.bootloader.tests.loaders import Tryboot
from product.agent.bootloader.tryboot import TrybootEnv
from product.agent.slots.boot_partition import BootPartition
from product.agent.tests import world
from product.agent.tests.world import DEVICES, FakeRelease, World
from scenarios.firmware.raspberry import RaspberryFirmware, Volume

BOOT_DEVICES = {"KSOLOBOOTA": "/dev/vda5", "KSOLOBOOTB": "/dev/vda6"}
BOARD = {"config.txt": b"kernel=vmlinuz\n", "start4.elf": b"firmware", "overlays/a.dtbo": b"tree"}


class _Restarted(BaseException):
    """Early boot restarted the machine."""


def board_archive(files: dict[str, bytes]) -> bytes:
    """``board.tar``."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


class TrybootWorld(World):
    """Slots that the firmware starts. ``firmware`` may be replaced by one with other traits."""

    def __init__(
        self, base: Path, monkeypatch: pytest.MonkeyPatch, *, real_server: bool = False
    ) -> None:
        monkeypatch.setattr(world, "DEVICES", {**DEVICES, **BOOT_DEVICES})
        self.firmware = RaspberryFirmware()
        # The slots whose kernel fails before early boot.
        self.dead: set[str] = set()
        self.restarts: list[str] = []
        super().__init__(base, monkeypatch, real_server=real_server)

    @property
    def env_path(self) -> Path:
        return self.esp / "autoboot.txt"

    @property
    def esp(self) -> Path:
        return self.volumes.directories[DEVICES["KSOLOEFI"]]

    def boot_directory(self, slot: str) -> Path:
        """What the firmware reads of a slot."""
        return self.volumes.directories[BOOT_DEVICES[f"KSOLOBOOT{slot}"]]

    def fill(self, slot: str, release: FakeRelease) -> None:
        """As the factory does: the boot partition with the slot."""
        add_board(release)
        super().fill(slot, release)
        devices = {**DEVICES, **BOOT_DEVICES}
        other = "B" if slot == "A" else "A"
        boot = BootInfo(other, devices, "", "normal", "persistent", "ok", (), loader="tryboot")
        BootPartition(self.paths, self.volumes, boot).follow(slot)

    def set_env(self, **variables: str) -> None:
        more = dict(variables)
        slot, counter, success = (
            more.pop(name) for name in ("active_slot", "boot_counter", "boot_success")
        )
        Tryboot(self.esp).put(slot, counter, success, **more)

    def env(self) -> dict[str, str]:
        lines = self.env_path.read_text("latin-1").splitlines()
        words = [word for line in lines if line.startswith("# kubesolo ") for word in line.split()]
        return dict(word.split("=", 1) for word in words if "=" in word)

    def decide(self) -> str:
        """Boots until a system runs: the firmware's choice, then what early boot does."""
        for _ in range(8):
            slot = self._firmware_boot()
            self.volumes.active.clear()
            if slot in self.dead or not self._starts(slot):
                self.firmware.watchdog_reset()
                return slot
            self.write_file(self.paths.early, f"slot={slot}\nKSOLOEFI={DEVICES['KSOLOEFI']}\n")
            self._mark(slot)
            try:
                restart_command(
                    ["settle"], paths=self.paths, restart=self._restart, environment=self._env()
                )
            except _Restarted:
                continue
            return slot
        raise AssertionError("the machine restarts for ever")

    def _firmware_boot(self) -> str:
        card = {1: Volume({p.name: p.read_bytes() for p in self.esp.iterdir() if p.is_file()})}
        for slot, number in (("A", 5), ("B", 6)):
            files = [path.name for path in self.boot_directory(slot).iterdir()]
            card[number] = Volume(dict.fromkeys(files))
        return {5: "A", 6: "B"}[self.firmware.boot(card).partition]

    def _starts(self, slot: str) -> bool:
        """The kernel is there, and the slot's own: else early boot would find another root."""
        kernel = self.boot_directory(slot) / "vmlinuz"
        return (
            kernel.exists()
            and kernel.read_bytes() == (self.directory(slot) / "vmlinuz").read_bytes()
        )

    def _mark(self, slot: str) -> None:
        """What images/boot/init does on a slot that is on trial."""
        data = self.env_path.read_bytes() if self.env_path.exists() else b""
        if f"active_slot={slot}".encode() in data and b"boot_success=0" in data:
            self.env_path.write_bytes(data.replace(b"tried=0", b"tried=1"))

    def _env(self) -> TrybootEnv:
        return TrybootEnv(
            lambda writable: self.volumes.mounted(
                DEVICES["KSOLOEFI"], "", kind="vfat", writable=writable
            )
        )

    def _restart(self, argument: str) -> None:
        self.restarts.append(argument)
        self.firmware.restart(argument)
        raise _Restarted

    def power_on(self, *, slot: str | None = None) -> str:
        found = super().power_on(slot=slot)
        text = Path(self.paths.boot).read_text()
        self.write_file(self.paths.boot, text.replace('"disk"', '"loader": "tryboot", "disk"'))
        return found

    def pull_the_plug(self) -> None:
        """The flag is gone."""
        self.firmware.power_cut()

    def _reboot(self) -> None:
        """Stage 3 of runit, after the services have stopped."""
        self.write_file(self.paths.early, f"slot={self.node().boot.slot}\nKSOLOEFI=/dev/vda1\n")
        with suppress(_Restarted):
            restart_command(
                ["stop"], paths=self.paths, restart=self._restart, environment=self._env()
            )
        super()._reboot()

    def update(self, release: FakeRelease) -> None:
        add_board(release)
        super().update(release)

    def run(self, *argv: str) -> int | None:
        if self.offered is not None:
            add_board(self.offered)
        return super().run(*argv)


def add_board(release: FakeRelease) -> None:
    """Make it a release for this hardware."""
    block = b"# GRUB Environment Block\nkernel_arguments=panic=1\n".ljust(1024, b"#")
    release.content["kernel.env"] = block
    release.content.setdefault("board.tar", board_archive(BOARD))
