"""A virtual machine that boots as a Raspberry Pi does: the model of its firmware chooses.

At each start and each reset the model reads the card, chooses the partition and hands its kernel,
initramfs and command line to QEMU. A reset by the guest ends QEMU; the next one is started as the
firmware would go on. Whether the guest set the firmware's flag is what its kernel says when it
restarts, as the only one that QEMU's machine has no mailbox for.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError, WaitError
from harness.journal.journal import Event, Source
from harness.profile import facts
from harness.qemu.argv import Storage
from harness.qemu.device_tree import DeviceTree
from harness.qemu.devices import Raspberry
from harness.qemu.machine import Host, Machine, Saved
from harness.qemu.spec import MachineSpec
from product.disk.autoboot import NAME
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from scenarios.firmware.card import Card
from scenarios.firmware.raspberry import Boot, RaspberryFirmware, Traits, UnbootableError

TRAITS = {
    Raspberry.CURRENT: Traits(),
    Raspberry.IGNORES_FLAG: Traits(knows_tryboot=False),
    Raspberry.SILENT: Traits(tells=False),
}
# What the kernel prints at its restart.
_COMMAND = re.compile(r"reboot: Restarting system with command '([^']*)'")
_WORD = re.compile(rb"(active_slot|boot_counter|boot_success)=(\w)")
# Seconds in which QEMU's last event is known once it has ended.
_LAST_EVENT = 10.0
# Why QEMU ends where the firmware goes on.
_RESETS = ("guest-reset", "host-qmp-system-reset")


class BoardMachine(Machine):
    """A machine whose ``spec.raspberry`` says which firmware it plays."""

    def __init__(
        self,
        spec: MachineSpec,
        host: Host,
        artefacts: Path,
        *,
        name: str = "node",
        base: Storage | None = None,
        own_disk: Path | None = None,
    ) -> None:
        assert spec.raspberry is not None
        self.firmware = RaspberryFirmware(TRAITS[spec.raspberry])
        self.boots: list[Boot] = []
        self._power = threading.RLock()
        self._closing = False
        super().__init__(spec, host, artefacts, name=name, base=base, own_disk=own_disk)
        self.process.restarts = self._restarts

    def power_on(self, saved: Saved | None = None) -> None:
        """As Machine, after the firmware's choice. Raises UnbootableError."""
        with self._power:
            super().power_on(saved)

    def power_cut(self) -> None:
        """As Machine; the firmware's registers lose what they held."""
        with self._power:
            super().power_cut()
            self.firmware.power_cut()

    def quit(self) -> None:
        """As Machine."""
        with self._power:
            super().quit()

    def close(self) -> None:
        """As Machine."""
        self._closing = True
        with self._power:
            super().close()

    def _booting(self) -> MachineSpec:
        disk = self.storage.disk
        if disk is None:
            raise HarnessError(f"{self.name} has no card that it could boot from")
        folder = self.process.directory / "card"
        card = Card(disk, self.spec.disk_size_mib << 20, self.host.tools, folder)
        boot = self.firmware.boot(card.volumes)
        self.boots.append(boot)
        loaded = card.load(boot)
        self._say(boot, card.volumes[min(card.volumes)].files.get(NAME) or b"", loaded.append)
        booting = self.spec.model_copy(
            update={
                "kernel": loaded.kernel,
                "initrd": loaded.initrd,
                "append": loaded.append,
                # A device tree in place of ACPI, which no Pi has.
                "extra": (
                    *self.spec.extra, "-machine", "acpi=off", "-action", "reboot=shutdown",
                ),
            }
        )  # fmt: skip
        tree = self._device_tree(booting, boot)
        return booting.model_copy(update={"extra": (*booting.extra, "-dtb", str(tree))})

    def _device_tree(self, booting: MachineSpec, boot: Boot) -> Path:
        """That of QEMU's machine, with what the firmware tells of the boot."""
        path = self.process.directory / "card" / "tree.dtb"
        path.unlink(missing_ok=True)
        arch, accelerator = booting.arch, self.host.accelerator
        command = self.host.tools.argv(
            arch.qemu, "-nodefaults", "-display", "none",
            "-machine", f"{arch.machine()},accel={accelerator},acpi=off,dumpdtb={path}",
            "-cpu", arch.cpu(accelerator), "-m", str(booting.memory_mib),
            "-smp", str(booting.cpus),
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not path.exists():
            raise HarnessError(f"QEMU wrote no device tree: {done.stderr.strip()}")
        if boot.nodes:
            tools = HostTools.prepare(Cache(), IMAGES / "board-tools.toml")
            numbers = {name: (number,) for name, number in boot.nodes.items()}
            DeviceTree(path, tools).set("/chosen/bootloader", numbers, create=True)
        return path

    def _say(self, boot: Boot, autoboot: bytes, append: str) -> None:
        """The line that GRUB prints elsewhere, with the slot as it is and the counter as it was."""
        values = {name.decode(): value.decode() for name, value in _WORD.findall(autoboot)}
        slot = facts(self.host.profile.slot_parameter, append)
        name = slot["slot"] if slot else "?"
        tries = values.get("active_slot") == name and values.get("boot_success") == "0"
        text = (
            f"kubesolo: boot slot={name} counter={values.get('boot_counter', 0)} "
            f"success={0 if tries else 1} partition={boot.partition} tryboot={int(boot.tryboot)}"
        )
        self.console.feed(f"{text}\n".encode())

    def _restarts(self, status: int) -> bool:
        """Whether QEMU ended because the guest was reset; another one then follows."""
        started = self.journal.last(lambda e: e.source is Source.HARNESS and e.kind == "start")
        if status != 0 or started is None or self._closing:
            return False
        try:
            ended = self.journal.wait(
                lambda e: e.source is Source.QMP and e.text == "SHUTDOWN",
                "QEMU's reason",
                Deadline.after(_LAST_EVENT),
                since=started.index,
                survive_exit=True,
            )
        except WaitError:
            return False
        if ended.data.get("reason") not in _RESETS:
            return False
        self._note_reset(started)
        threading.Thread(target=self._go_on, name="firmware", daemon=True).start()
        return True

    def _note_reset(self, started: Event) -> None:
        """What the guest left in the firmware's registers."""
        lines = [e for e in self.journal.events(started.index) if e.source is Source.CONSOLE]
        said = [m[1] for e in lines if e.kind == "line" and (m := _COMMAND.search(e.text))]
        if said:
            self.firmware.restart(said[-1])
        else:
            self.firmware.restart("")
        self.journal.append(Source.QMP, "event", "RESET", guest=True, argument="".join(said[-1:]))

    def _go_on(self) -> None:
        """The next boot; one that cannot begin leaves the machine off, as the Pi would stay."""
        with contextlib.suppress(HarnessError):
            # Its end is still being noted.
            self.process.wait(Deadline.after(_LAST_EVENT))
        with self._power:
            if self._closing or self.running:
                return
            with contextlib.suppress(HarnessError):
                self._disconnect()
            try:
                super().power_on()
            except UnbootableError as error:
                self.journal.append(Source.HARNESS, "note", f"the firmware stops: {error}")
                self.journal.append(Source.HARNESS, "exit", str(error), status=0, cpu_seconds=0.0)
            except HarnessError as error:
                self.journal.broken("the firmware's next boot", error)
