"""The byte stream's node end: a virtio-serial port by name, or a serial line."""

from __future__ import annotations

import os

from product.channel.framing import PORT_NAME
from product.errors import KubesoloError

_PORTS = "sys/class/virtio-ports"


class PortError(KubesoloError):
    """The channel's device is missing or cannot be used."""


def find(name: str = PORT_NAME, root: str = "/") -> str:
    """Device path of the virtio-serial port called ``name``.

    Looks in sysfs, because nothing makes /dev/virtio-ports links in a guest without udev.
    Raises PortError where there is none.
    """
    directory = f"{root}{_PORTS}"
    try:
        ports = sorted(os.listdir(directory))
    except OSError:
        ports = []
    for port in ports:
        try:
            with open(f"{directory}/{port}/name", encoding="utf-8") as file:
                found = file.read().strip()
        except OSError:
            continue  # Unplugged meanwhile, or a console, which has no name.
        if found == name:
            return f"{root}dev/{port}"
    raise PortError(
        f"no virtio-serial port is called {name}",
        hint="give the machine one (virtserialport,name=...), or name a serial line: --device",
    )


def open_port(path: str) -> int:
    """Open ``path`` non-blocking; a serial line is put into raw mode, with 115200 bits a second.

    Raises PortError.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise PortError(f"cannot open the channel {path}: {error.strerror}") from None
    if os.isatty(descriptor):
        _set_raw(descriptor)
    return descriptor


def _set_raw(descriptor: int) -> None:
    """Bytes as they come: no echo, no line ends, no hang-up where nobody holds the other end."""
    import termios  # Only a serial line needs it.
    import tty

    tty.setraw(descriptor)
    settings = termios.tcgetattr(descriptor)
    settings[2] = (settings[2] | termios.CLOCAL | termios.CREAD) & ~termios.CRTSCTS
    settings[4] = settings[5] = termios.B115200
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)
    # What came while the line still echoed and translated is no frame.
    termios.tcflush(descriptor, termios.TCIFLUSH)
