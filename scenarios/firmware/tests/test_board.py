"""A reset ends QEMU and the model's next choice starts another: QEMU is real, its guest is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.deadline import Deadline
from harness.errors import MachineExitedError
from harness.journal.journal import Event, Source
from harness.qemu.devices import Raspberry
from harness.qemu.machine import Host
from harness.qemu.spec import MachineSpec
from product.image.build import DEFAULT_RECIPE, Builder, Image
from product.image.cache import Cache
from product.image.recipe import Arch
from product.image.tools import HostTools
from scenarios.firmware.board import BoardMachine
from scenarios.profile import KUBESOLO


@pytest.fixture(scope="module")
def image(cache: Cache, host_tools: HostTools) -> Image:
    """The appliance for this hardware."""
    builder = Builder(
        Arch.AARCH64, cache=cache, tools=host_tools, recipe=DEFAULT_RECIPE, hardware="rpi-tryboot"
    )
    return builder.image("0.1.0")


@pytest.fixture
def host(host_tools: HostTools, tmp_path: Path) -> Host:
    """TCG, slow."""
    return Host(host_tools, "tcg", 5.0, tmp_path / "runs", profile=KUBESOLO)


def spec(image: Image) -> MachineSpec:
    return MachineSpec.model_validate(
        {"arch": "aarch64", "image": image.disk, "raspberry": Raspberry.CURRENT}
    )


def decision(event: Event) -> bool:
    """The model's line on the console."""
    return event.source is Source.CONSOLE and event.text.startswith("kubesolo: boot slot=")


def test_a_reset_boots_anew_and_a_power_cut_does_not(
    image: Image, host: Host, tmp_path: Path
) -> None:
    with BoardMachine(spec(image), host, tmp_path / "artefacts") as machine:
        machine.power_on()
        assert [boot.partition for boot in machine.boots] == [5]
        assert machine.boots[0].nodes == {"partition": 5, "tryboot": 0}
        since = machine.journal.cursor
        machine.reset()
        event = machine.journal.wait(decision, "the next boot", machine.deadline(60), since=since)
        assert "slot=A counter=3 success=1 partition=5 tryboot=0" in event.text
        machine.journal.wait(
            lambda e: e.source is Source.HARNESS and e.kind == "start",
            "QEMU", machine.deadline(60), since=event.index,
        )  # fmt: skip
        machine.firmware.restart("0 tryboot")
        machine.power_cut()
        assert not machine.firmware.flag
        with pytest.raises(MachineExitedError):
            machine.journal.wait(decision, "no boot", Deadline.after(5))
        assert not machine.running


def test_what_a_raspberry_pi_cannot_be(image: Image) -> None:
    for fields in ({"arch": "x86_64"}, {"image": None, "kernel": image.kernel}):
        with pytest.raises(ValidationError, match="Raspberry Pi"):
            MachineSpec.model_validate({**spec(image).model_dump(), **fields})
