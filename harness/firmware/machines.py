"""The machine that a specification asks for."""

from __future__ import annotations

from pathlib import Path

from harness.qemu.machine import Host, Machine
from harness.qemu.spec import MachineSpec


def machine_of(spec: MachineSpec, host: Host, artefacts: Path, *, name: str) -> Machine:
    """One that is off, with a fresh disk."""
    if spec.raspberry is not None:
        from harness.firmware.board import BoardMachine

        return BoardMachine(spec, host, artefacts, name=name)
    return Machine(spec, host, artefacts, name=name)
