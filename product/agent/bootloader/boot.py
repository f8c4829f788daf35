"""What this boot is: the reports of early boot and of the image."""

from __future__ import annotations

import json
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

SLOTS = ("A", "B")
SLOT_LABELS = {"A": "KSOLOA", "B": "KSOLOB"}
ESP_LABEL = "KSOLOEFI"
LIVE = "live"
MAX_BYTES = 64 * 1024


class BootInfoError(AgentError):
    """Early boot left no usable report, so the agent cannot know which slot is which."""

    code = "boot-unknown"


class Release(NamedTuple):
    """The image that runs."""

    version: str
    architecture: str


class BootInfo(NamedTuple):
    """Slot, partitions (label to device) and mode of this boot; ``data`` is persistent,
    nopersist (as the command line asked) or volatile; ``environment`` is what the boot loader found
    of its own: ok, missing, invalid, rescued, or unsaved where it could not write it; ``problems``
    are early boot's own; ``disk`` is the device that has the partitions, or the medium of a live
    system, which has none that it could update."""

    slot: str
    partitions: dict[str, str]
    boot_id: str
    mode: str
    data: str
    environment: str
    problems: tuple[str, ...]
    disk: str = ""

    @property
    def live(self) -> bool:
        """Whether the system runs from a medium that is no disk of its own."""
        return self.mode == LIVE

    @property
    def passive(self) -> str:
        """The slot that does not run."""
        return other_slot(self.slot)

    def device(self, label: str) -> str:
        """The partition called ``label`` on the disk that was booted. Raises BootInfoError."""
        try:
            return self.partitions[label]
        except KeyError:
            raise BootInfoError(
                f"the boot disk has no partition {label}",
                hint="the disk was not made by this system's image, or its partition table changed",
            ) from None

    def slot_device(self, slot: str) -> str:
        """The partition of ``slot``."""
        return self.device(SLOT_LABELS[slot])


def other_slot(slot: str) -> str:
    """A for B, B for A."""
    return "B" if slot == "A" else "A"


def read_boot(paths: Paths) -> BootInfo:
    """Raises BootInfoError."""
    document = _read(paths.boot, "early boot")
    slot, partitions = document.get("slot"), document.get("partitions")
    if slot not in SLOTS or not _is_text_map(partitions):
        raise BootInfoError(f"{paths.boot} names no slot or no partitions: {document!r:.200}")
    assert isinstance(partitions, dict)
    problems = document.get("problems")
    return BootInfo(
        slot,
        partitions,
        str(document.get("boot_id", "")),
        str(document.get("mode", "normal")),
        str(document.get("data", "persistent")),
        str(document.get("env", "ok")),
        tuple(str(problem) for problem in problems) if isinstance(problems, list) else (),
        str(document.get("disk", "")),
    )


def read_release(paths: Paths) -> Release:
    """Raises BootInfoError."""
    document = _read(paths.release, "the image")
    version, architecture = document.get("version"), document.get("architecture")
    if not isinstance(version, str) or not isinstance(architecture, str):
        raise BootInfoError(f"{paths.release} names no version or no architecture")
    return Release(version, architecture)


def _read(path: str, writer: str) -> dict[str, object]:
    hint = "kubesolo-update works on a booted appliance only"
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode())
    except OSError as error:
        message = f"cannot read {path}, which {writer} writes: {error.strerror}"
        raise BootInfoError(message, hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise BootInfoError(f"{path}, which {writer} writes, is garbage: {error}") from None
    if not isinstance(document, dict):
        raise BootInfoError(f"{path}, which {writer} writes, is not a JSON object")
    return document


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
