"""The targets of a run in a lab: one board."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import paramiko

from harness.errors import UnsupportedError
from harness.lab.board import Board
from harness.lab.target import LabTarget
from harness.profile import Profile
from harness.qemu.arch import Arch, Firmware
from harness.qemu.spec import MachineSpec


class LabBench:
    """Makes the board a fresh node for each scenario. Close it at the end of the run."""

    accelerator = "lab"

    def __init__(self, board: Board, profile: Profile) -> None:
        """Raises UnsupportedError where the profile cannot prepare an image for a board."""
        self.board = board
        self.profile = profile
        if profile.provision is None:
            raise UnsupportedError(
                f"the profile {profile.name} does not say how a board is given its image",
                hint="set provision of the profile (docs/harness/lab.md)",
            )
        self._provision = profile.provision
        self._key = paramiko.ECDSAKey.generate()
        self._target: LabTarget | None = None

    @property
    def name(self) -> str:
        """What the lab's file calls the board."""
        return self.board.settings.name

    @property
    def arch(self) -> Arch:
        """The board's."""
        return self.board.settings.arch

    @property
    def firmware(self) -> Firmware:
        """The board's."""
        return self.board.settings.firmware

    @property
    def scale(self) -> float:
        """As the lab's file says."""
        return self.board.settings.scale

    @property
    def abilities(self) -> frozenset[str]:
        """Those of the rig's drivers."""
        return self.board.abilities

    @property
    def host_address(self) -> str:
        """As the lab's file says."""
        return self.board.settings.host_address

    def refused(self, fields: Mapping[str, object]) -> list[str]:
        """What of a scenario's fields of MachineSpec the board does not have."""
        return self.board.settings.refused(fields)

    def target(self, spec: MachineSpec, artefacts: Path, name: str) -> LabTarget:
        """The board, off, about to be flashed. Raises UnsupportedError for a machine that it cannot
        be and for a second one."""
        name_of = self.board.settings.name
        if lacking := self.board.settings.lacking(spec):
            raise UnsupportedError(f"{name_of} has no {', '.join(lacking)}")
        if spec.image is None:
            raise UnsupportedError(f"{name_of} starts from an image alone")
        if self._target is not None and not self._target.closed:
            raise UnsupportedError(f"{name_of} is one board: it cannot be {name}, too")
        public = f"{self._key.get_name()} {self._key.get_base64()}"
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            made = self._provision(spec.image, Path(folder), public)
            target = LabTarget(self.board, self.profile, self._key, artefacts, name=name)
            self._target = target
            try:
                target.flash(made)
            except BaseException:
                target.close()
                raise
        return target

    def close(self) -> None:
        """Give the board back."""
        self.board.close()
