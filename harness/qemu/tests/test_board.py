"""An emulated board: what it may be, QEMU's command line, the network card at each boot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.deadline import Deadline
from harness.errors import HarnessError, ObserverError, QmpError
from harness.journal.journal import Journal
from harness.qemu.argv import Storage, Streams, build
from harness.qemu.plug import UsbCard
from harness.qemu.spec import MachineSpec
from harness.qemu.tests.test_argv import Tools, values

FIELDS: dict[str, Any] = {
    "arch": "aarch64", "board": "raspi3b", "image": "/disk.img", "kernel": "/u-boot.bin",
    "device_tree": "/board.dtb", "memory_mib": 1024, "cpus": 4, "disk_bus": "sd",
    "disk_size_mib": 2048, "network_card": "usb-net", "watchdog": False,
}  # fmt: skip


def spec(**fields: Any) -> MachineSpec:
    return MachineSpec.model_validate({**FIELDS, **fields})


def test_the_command_has_the_channel_first_and_the_console_second() -> None:
    storage = Storage(Path("/run/disk,1.qcow2"), None)
    argv = build(spec(), Tools(), "kvm", storage, Streams(qmp=10, console=11, channel=12))
    assert values(argv, "-machine") == ["raspi3b"]
    assert values(argv, "-accel") == ["tcg,thread=single"]
    assert values(argv, "-serial") == ["chardev:channel", "chardev:console"]
    assert values(argv, "-kernel") == ["/u-boot.bin"]
    assert values(argv, "-dtb") == ["/board.dtb"]
    assert values(argv, "-drive") == ["if=sd,id=disk,format=qcow2,file=/run/disk,,1.qcow2"]
    assert values(argv, "-netdev") == ["user,id=net0"]
    text = " ".join(argv)
    for word in ("virtio", "smbios", "pflash", "i6300esb", "-device"):
        assert word not in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"memory_mib": 512}, "memory_mib=1024, not 512"),
        ({"cpus": 1}, "cpus=4, not 1"),
        ({"watchdog": True}, "watchdog=False, not True"),
        ({"disk_bus": "virtio"}, "disk_bus"),
        ({"disk_size_mib": 2000}, "power of two"),
        ({"device_tree": None}, "a kernel to start and a device_tree"),
        ({"network_card": "e1000"}, "network on USB"),
        ({"board": "virtual"}, "device_tree is for a board"),
        ({"arch": "x86_64"}, "arch"),
    ],
)
def test_what_the_board_does_not_have_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(**fields)


def test_one_thread_has_all_processors() -> None:
    assert (spec().threads, spec().nice) == (1, 10)


class Qmp:
    """Takes commands, and refuses some."""

    def __init__(self, *refused: str) -> None:
        self.done: list[str] = []
        self._refused = refused

    def __call__(self, command: str, /, **arguments: object) -> object:
        self.done.append(command)
        if command in self._refused:
            raise QmpError(f"QEMU refused {command}")
        return {}


SIGN = "kubesolo: boot slot="


def test_the_card_needs_to_know_when_it_is_plugged_in() -> None:
    with pytest.raises(HarnessError, match="does not say what the console shows"):
        UsbCard(Qmp(), Journal(), "")


def test_the_card_is_plugged_in_anew_at_each_boot() -> None:
    qmp, journal = Qmp(), Journal()
    card = UsbCard(qmp, journal, SIGN)
    for piece in (b"noise kubesolo: boot sl", b"ot=A counter=3\r\nkubesolo: bo", b"ot failed"):
        card.feed(piece)
    card.feed(b"kubesolo: boot slot=")
    card.feed(b"B counter=2")
    card.close()
    assert qmp.done == ["device_add", "device_del", "device_add"]


def test_a_card_that_cannot_be_plugged_in_fails_the_next_wait() -> None:
    journal = Journal()
    card = UsbCard(Qmp("device_add"), journal, SIGN)
    card.feed(b"kubesolo: boot slot=A")
    card.close()
    with pytest.raises(ObserverError, match="refused device_add"):
        journal.wait(lambda event: False, "something", Deadline.after(1.0))
