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
    """Open ``path`` non-blocking; a terminal is put into raw mode. Raises PortError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise PortError(f"cannot open the channel {path}: {error.strerror}") from None
    if os.isatty(descriptor):
        import tty  # Only a serial line needs it.

        tty.setraw(descriptor)
    return descriptor
