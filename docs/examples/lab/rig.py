"""A board for a lab without one: QEMU that is reached only as a board is.

``rig.py FOLDER serve`` keeps the serial adapter (a pty that QEMU's serial line is plugged into, and
a raw TCP port as a console server has it) until it gets SIGTERM. ``on``, ``off`` and ``cycle`` are
the power switch, ``host`` and ``dut`` the SD mux: the card is one file, which lies either in
FOLDER/host or in FOLDER/dut.

``--board`` says what the board is: ``pc`` with the card as its disk, ``pc-usb`` with the card in a
USB reader, which alone it can start from, or ``raspi3b``.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path

from harness.qemu.arch import Arch
from harness.qemu.device_tree import DeviceTree
from harness.qemu.tools import HostTools
from product.image.disk import layout
from product.image.errors import ToolError
from product.image.tools import prepare_set

CARD = "card.img"
MEMORY_MIB = 512
END_SECONDS = 20.0
# A Pi's network card is plugged in when U-Boot is done: QEMU's USB controller tells of it once.
DECIDED = b"kubesolo: boot slot="
QMP_SECONDS = 30.0
MODEL = "bcm2837-rpi-3-b"


class Kind(enum.StrEnum):
    """What the board is."""

    PC = "pc"
    PC_USB = "pc-usb"
    RASPI3B = "raspi3b"

    @property
    def card_mib(self) -> int:
        """A card in a slot has a size that is a power of two."""
        return 2048 if self is Kind.RASPI3B else 2560


class Rig:
    """What lies in FOLDER: the card, the firmware's variables, QEMU's process id."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder = folder
        self.kind = kind
        self.pid = folder / "qemu.pid"
        self.serial = folder / "serial"
        self.qmp = folder / "qmp"

    def prepare(self) -> None:
        """An empty card, in the board."""
        for side in ("host", "dut"):
            (self.folder / side).mkdir(parents=True, exist_ok=True)
        if not any((self.folder / side / CARD).exists() for side in ("host", "dut")):
            with (self.folder / "dut" / CARD).open("wb") as stream:
                stream.truncate(self.kind.card_mib << 20)

    def mux(self, side: str) -> None:
        """Give the card to ``host`` or ``dut``; SystemExit while the board is on."""
        if self.running() is not None:
            raise SystemExit("the board is on: its card cannot be taken away")
        other = "dut" if side == "host" else "host"
        with contextlib.suppress(FileNotFoundError):
            (self.folder / other / CARD).rename(self.folder / side / CARD)

    def running(self) -> int | None:
        """QEMU's process id, while it runs."""
        try:
            pid = int(self.pid.read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if state != "Z" and b"qemu-system" in command else None

    def off(self) -> None:
        """Pull the plug."""
        pid = self.running()
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + END_SECONDS
        while self.running() is not None:
            if time.monotonic() > end:
                raise SystemExit(f"QEMU {pid} does not end")
            time.sleep(0.05)

    def on(self, ssh_port: int) -> None:
        """Plug it in; an empty slot starts no system."""
        if self.running() is not None:
            return
        tools = prepare_set("qemu")
        card = self.folder / "dut" / CARD
        if self.kind is Kind.RASPI3B:
            if not card.exists():
                return  # QEMU is this board's firmware, which finds no card
            arch, machine = Arch.AARCH64, self._pi(tools, card)
        else:
            arch, machine = Arch.X86_64, self._pc(tools, card)
        command = tools.argv(
            arch.qemu, "-no-user-config", "-nodefaults", "-display", "none", *machine,
            "-chardev", f"serial,id=line,path={self.serial}", "-serial", "chardev:line",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
            "-daemonize", "-pidfile", str(self.pid),
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"QEMU did not start: {done.stderr.strip()}")

    def _pc(self, tools: HostTools, card: Path) -> list[str]:
        arch = Arch.X86_64
        files = arch.firmware_files()
        variables = self.folder / "variables.fd"
        if not variables.exists():
            variables.write_bytes(tools.path(files.variables).read_bytes())
        usb = self.kind is Kind.PC_USB
        device = "usb-storage,removable=on" if usb else "virtio-blk-pci"
        return [
            "-machine", f"{arch.machine()},accel=tcg", "-cpu", arch.cpu("tcg"),
            "-m", str(MEMORY_MIB),
            "-drive", f"if=pflash,format=raw,readonly=on,file={tools.path(files.code)}",
            "-drive", f"if=pflash,format=raw,file={variables}",
            *(("-device", "qemu-xhci") if usb else ()),
            *(("-drive", f"if=none,id=card,format=raw,discard=unmap,file={card}",
               "-device", f"{device},drive=card,bootindex=0") if card.exists() else ()),
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset",
        ]  # fmt: skip

    def _pi(self, tools: HostTools, card: Path) -> list[str]:
        """The firmware's part: U-Boot and device tree from the card, changed as
        scenarios.hardware.raspberry says. The console is on the second serial line."""
        for name in ("u-boot.bin", f"{MODEL}.dtb"):
            source = f"{card}@@{layout()[0].offset}"
            try:
                tools.run("mcopy", "-o", "-i", source, f"::EFI/BOARD/{name}", self.folder / name)
            except ToolError as error:
                raise SystemExit(
                    f"the card has no {name} that starts this board: {error}"
                ) from None
        path = self.folder / f"{MODEL}.dtb"
        tree = DeviceTree(path, prepare_set("board"))
        tree.set("/chosen", {"kubesolo,ntp": "none"})
        tree.disable("/soc/serial@7e201000/bluetooth")
        tree.disable("/soc/watchdog@7e100000")
        for number in (1, 2, 3):
            tree.remove(f"/cpus/cpu@{number}")
        self.qmp.unlink(missing_ok=True)
        return [
            "-machine", "raspi3b", "-accel", "tcg,thread=single",
            "-kernel", str(self.folder / "u-boot.bin"), "-dtb", str(path),
            "-drive", f"if=sd,id=card,format=raw,file={card}",
            "-qmp", f"unix:{self.qmp},server=on,wait=off", "-serial", "null",
        ]  # fmt: skip

    def plug(self) -> None:
        """Plug a Pi's network card in anew."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(QMP_SECONDS)
            stream.connect(str(self.qmp))
            lines = stream.makefile("rw")
            lines.readline()  # the greeting
            for command, arguments in (
                ("qmp_capabilities", {}),
                ("device_del", {"id": "nic"}),  # an error at the first boot
                ("device_add", {"driver": "usb-net", "id": "nic", "netdev": "net", "port": "1"}),
            ):
                lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                lines.flush()
                while "event" in (answer := json.loads(lines.readline())):
                    pass
                if "error" in answer and command == "device_add":
                    sys.stderr.write(f"the network card: {answer['error']}\n")

    def serve(self, port: int) -> None:
        """The serial adapter: what is said while nobody listens is lost."""
        self.prepare()
        master, slave = os.openpty()
        tty.setraw(slave, termios.TCSANOW)
        self.serial.unlink(missing_ok=True)
        self.serial.symlink_to(os.ttyname(slave))
        os.set_blocking(master, False)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                # The slave stays open: an adapter outlives its board's power.
                _bridge(master, server, self.plug if self.kind is Kind.RASPI3B else None)
        finally:
            self.off()


def _bridge(master: int, server: socket.socket, decided: Callable[[], None] | None) -> None:
    """Pass bytes on in both ways; ``decided`` is called whenever a boot loader has decided."""
    listener: socket.socket | None = None
    tail = b""
    with selectors.DefaultSelector() as selector:
        selector.register(master, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is server:
                    if listener is not None:
                        selector.unregister(listener)
                        listener.close()
                    listener, _address = server.accept()
                    selector.register(listener, selectors.EVENT_READ)
                elif key.fileobj == master:
                    data = os.read(master, 65536)
                    tail += data
                    for _ in range(tail.count(DECIDED) if decided else 0):
                        with contextlib.suppress(OSError, ValueError):
                            decided()
                    # A part of the sign may be left, and the whole is counted once.
                    tail = b"" if DECIDED in tail else tail[1 - len(DECIDED) :]
                    if listener is not None:
                        with contextlib.suppress(OSError):
                            listener.sendall(data)
                elif listener is not None and key.fileobj is listener:
                    try:
                        data = listener.recv(4096)
                    except OSError:
                        data = b""
                    if data:
                        # Keys for a board that is off go nowhere, as the line's speed allows.
                        with contextlib.suppress(BlockingIOError):
                            os.write(master, data)
                    else:
                        selector.unregister(listener)
                        listener.close()
                        listener = None


def main() -> None:
    """One command on one rig."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", choices=["serve", "on", "off", "cycle", "host", "dut"])
    parser.add_argument("--serial-port", type=int, default=4001)
    parser.add_argument("--ssh-port", type=int, default=4022)
    parser.add_argument("--board", type=Kind, choices=list(Kind), default=Kind.PC)
    options = parser.parse_args()
    rig = Rig(options.folder.absolute(), options.board)
    match options.command:
        case "serve":
            rig.serve(options.serial_port)
        case "on":
            rig.on(options.ssh_port)
        case "off":
            rig.off()
        case "cycle":
            rig.off()
            rig.on(options.ssh_port)
        case side:
            rig.mux(side)


if __name__ == "__main__":
    main()
