"""What labgrid's environment file says to the harness, below ``options: harness:``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError
from harness.qemu.arch import Arch, Firmware
from harness.qemu.devices import Watchdog
from harness.qemu.spec import MachineSpec

# What a scenario's machine may have that a board has anyway, or as much of.
_OWN = frozenset({"arch", "image", "firmware", "watchdog_device"})
_AT_MOST = ("memory_mib", "cpus", "disk_size_mib")


class LabError(HarnessError):
    """The lab cannot be used: its file, its coordinator or one of its drivers says why."""


class LabSettings(BaseModel):
    """A board as scenarios see it.

    ``target`` is its role among the environment's targets. ``memory_mib``, ``cpus`` and
    ``disk_size_mib`` are what it has. ``disk`` is the device of the boot disk in the running
    system, ``host_address`` the address at which the board finds this host, ``own_address`` the
    board's own; ``user`` logs in over SSH. ``scale`` multiplies every deadline. ``hardware`` is
    what the project's fixtures build the image for, where that is not their usual one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arch: Arch
    host_address: str
    own_address: str
    target: str = "main"
    firmware: Firmware = Firmware.UEFI
    watchdog: Watchdog | None = None
    disk: str = "/dev/mmcblk0"
    memory_mib: Annotated[int, Field(ge=128)] = 1024
    cpus: Annotated[int, Field(ge=1)] = 1
    disk_size_mib: Annotated[int, Field(ge=64)] = 8192
    user: str = "root"
    scale: Annotated[float, Field(gt=0)] = 1.0
    hardware: str | None = None

    @classmethod
    def parse(cls, document: object, file: str) -> LabSettings:
        """Read it. Raises LabError with every fault."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'harness'}: {fault['msg']}"
                for fault in error.errors()
            )
            raise LabError(
                f"the section options.harness of {file} cannot be used: {faults}",
                hint="docs/harness/lab.md lists its keys",
            ) from None

    def lacking(self, spec: MachineSpec) -> list[str]:
        """What ``spec`` asks for and the board does not have, in words, sorted by field."""
        plain = MachineSpec(arch=self.arch, image=spec.image or spec.cdrom or spec.kernel)
        return sorted(self._lacking(spec, plain))

    def _lacking(self, spec: MachineSpec, plain: MachineSpec) -> Iterator[str]:
        if spec.arch is not self.arch:
            yield f"arch {spec.arch}"
        if spec.firmware is not self.firmware:
            yield f"firmware {spec.firmware}"
        for name in MachineSpec.model_fields:
            value = getattr(spec, name)
            if name in _AT_MOST:
                # What a machine has by default is no demand.
                default = MachineSpec.model_fields[name].default
                if value != default and value > getattr(self, name):
                    yield f"{name} {value}"
            elif name not in _OWN and value != getattr(plain, name):
                yield name

    def refused(self, fields: Mapping[str, object]) -> list[str]:
        """What of a scenario's own fields of MachineSpec the board does not have."""
        present = {name: value for name, value in fields.items() if value is not None}
        wanted = {**present, "arch": self.arch, "firmware": present.get("firmware", self.firmware)}
        if "image" not in wanted and "kernel" not in wanted and "cdrom" not in wanted:
            wanted["image"] = "image"
        try:
            spec = MachineSpec.model_validate(wanted)
        except ValidationError:
            return sorted(present)
        return self.lacking(spec)
