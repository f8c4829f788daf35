"""A board for a lab without one: QEMU that is reached only as a board is.

``rig.py FOLDER serve`` keeps the serial adapter (a pty that QEMU's serial line is plugged into, and
a raw TCP port as a console server has it) until it gets SIGTERM. ``on``, ``off`` and ``cycle`` are
the power switch, ``host`` and ``dut`` the SD mux: the card is one file, which lies either in
FOLDER/host or in FOLDER/dut.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
from pathlib import Path

from harness.qemu.arch import Arch
from product.image.tools import prepare_set

CARD = "card.img"
CARD_MIB = 2560
MEMORY_MIB = 512
END_SECONDS = 20.0


class Rig:
    """What lies in FOLDER: the card, the firmware's variables, QEMU's process id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = folder / "qemu.pid"
        self.serial = folder / "serial"

    def prepare(self) -> None:
        """An empty card, in the board."""
        for side in ("host", "dut"):
            (self.folder / side).mkdir(parents=True, exist_ok=True)
        if not any((self.folder / side / CARD).exists() for side in ("host", "dut")):
            with (self.folder / "dut" / CARD).open("wb") as stream:
                stream.truncate(CARD_MIB << 20)

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
        arch = Arch.X86_64
        files = arch.firmware_files()
        variables = self.folder / "variables.fd"
        if not variables.exists():
            variables.write_bytes(tools.path(files.variables).read_bytes())
        card = self.folder / "dut" / CARD
        command = tools.argv(
            arch.qemu, "-no-user-config", "-nodefaults", "-display", "none",
            "-machine", f"{arch.machine()},accel=tcg", "-cpu", arch.cpu("tcg"),
            "-m", str(MEMORY_MIB),
            "-drive", f"if=pflash,format=raw,readonly=on,file={tools.path(files.code)}",
            "-drive", f"if=pflash,format=raw,file={variables}",
            *(("-drive", f"if=none,id=card,format=raw,discard=unmap,file={card}",
               "-device", "virtio-blk-pci,drive=card,bootindex=0") if card.exists() else ()),
            "-chardev", f"serial,id=line,path={self.serial}", "-serial", "chardev:line",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset",
            "-daemonize", "-pidfile", str(self.pid),
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"QEMU did not start: {done.stderr.strip()}")

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
                _bridge(master, server)
        finally:
            self.off()


def _bridge(master: int, server: socket.socket) -> None:
    listener: socket.socket | None = None
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
    options = parser.parse_args()
    rig = Rig(options.folder.absolute())
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
