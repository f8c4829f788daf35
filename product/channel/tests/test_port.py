"""The channel's device is found by the port's name, never by its number."""

from __future__ import annotations

import os
import pty
import termios
from pathlib import Path

import pytest

from product.channel.port import PortError, find, open_port


def test_the_port_is_found_by_name(tmp_path: Path) -> None:
    for number, name in enumerate(["org.qemu.guest_agent.0", "io.kubesolo.channel"]):
        directory = tmp_path / f"sys/class/virtio-ports/vport2p{number}"
        directory.mkdir(parents=True)
        (directory / "name").write_text(f"{name}\n")
    (tmp_path / "sys/class/virtio-ports/vport0p0").mkdir()
    assert find(root=f"{tmp_path}/") == f"{tmp_path}/dev/vport2p1"


def test_a_missing_port_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PortError, match=r"io\.kubesolo\.channel"):
        find(root=f"{tmp_path}/")


def test_a_missing_device_says_which(tmp_path: Path) -> None:
    with pytest.raises(PortError, match="vport9: No such file"):
        open_port(str(tmp_path / "vport9"))


def test_a_serial_line_is_made_raw_and_non_blocking() -> None:
    ours, theirs = pty.openpty()
    try:
        descriptor = open_port(os.ttyname(theirs))
        try:
            assert not termios.tcgetattr(descriptor)[3] & (termios.ECHO | termios.ICANON)
            assert not os.get_blocking(descriptor)
            settings = termios.tcgetattr(descriptor)
            assert settings[4] == settings[5] == termios.B115200
            assert settings[2] & termios.CLOCAL
        finally:
            os.close(descriptor)
    finally:
        os.close(ours)
        os.close(theirs)
