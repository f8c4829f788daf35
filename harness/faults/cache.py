"""A disk whose cache lies: it acknowledges flushes, and loses what it said to have kept."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from harness.abilities import Ability
from harness.errors import HarnessError
from harness.faults.disk import device_stats, present_node
from harness.faults.fault import Fault
from harness.qemu import storage
from harness.qemu.machine import Machine


class LyingCache(Fault):
    """What the guest writes until ``tell_truth`` is lost at the next power cut, flushed or not.

    What it writes afterwards is kept once it is flushed, as if the disk had written in another
    order than it was told to. The power has to be cut before the end of the context. It has fired
    if the guest had flushed, and bytes of what it wrote before are gone.
    """

    ability = Ability.LYING_CACHE
    _numbers = itertools.count(1)

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.journal, "flushes are acknowledged, and what they say is lost")
        self._machine = machine
        self._name = ""
        self._below: Path | None = None
        self._layer: Path | None = None
        self._flushes = self._lost = 0
        self._told = False

    def arm(self) -> None:
        """Lay a file over the disk that takes its writes."""
        self._name = f"lying{next(self._numbers)}"
        self._flushes, self._lost = self._flushed(), 0
        self._below = self._machine.storage.disk
        self._layer = self._lay_over(self._name)
        self._told = False

    def tell_truth(self) -> None:
        """From now on what is flushed is kept; at the latest just before the power cut."""
        if self._told:
            raise HarnessError("the cache tells the truth already")
        self._told = True
        self._flushes = self._flushed() - self._flushes
        self._lay_over(f"{self._name}-truth")

    def lift(self) -> None:
        """Lose it. Raises HarnessError where the power was not cut: then nothing can be lost."""
        machine, layer, below = self._machine, self._layer, self._below
        if layer is None or below is None:
            return
        if machine.running:
            raise HarnessError(f"{self} loses nothing without a power cut, and there was none")
        tools = machine.host.tools
        self._lost = storage.held_bytes(tools, layer)
        # What lies over it names it as its base: to that the disk is what it was before.
        layer.unlink()
        storage.overlay(tools, below, layer)
        self._layer = None

    def look(self) -> tuple[int, str]:
        """Bytes that are gone, and the flushes that had been acknowledged before."""
        if not self._told:
            return 0, "it told the truth at no time: what it had acknowledged is not known"
        text = f"{self._lost} bytes are lost after {self._flushes} acknowledged flushes"
        return (self._lost if self._flushes else 0), text

    def _flushed(self) -> int:
        return device_stats(self._machine)["flush_operations"]

    def _lay_over(self, name: str) -> Path:
        """Put another overlay on top, which the machine writes from now on."""
        machine, below = self._machine, self._machine.storage.disk
        if below is None:
            raise HarnessError(f"{machine.name} has no disk whose cache could lie")
        path = below.with_name(f"{name}.qcow2")
        storage.overlay(machine.host.tools, below, path)
        file = {"driver": "file", "filename": str(path)}
        machine.qmp("blockdev-add", driver="qcow2", node_name=name, file=file, backing=None)
        machine.qmp("blockdev-snapshot", node=present_node(machine), overlay=name)
        machine.storage = dataclasses.replace(machine.storage, disk=path)
        return path
