"""What a failed scenario leaves of a machine besides its logs and its disk: what starts it again.

Beside ``disk.qcow2`` a node's folder gets ``machine.json`` (``schema``, ``spec``, ``qemu``: its
version, ``accelerator``, ``scale``, ``profile``), ``variables.fd`` (UEFI's), ``seed.img``, ``tpm``
(the software TPM's folder) and, where it was asked for, ``memory``: QEMU's migration stream.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path

from harness.errors import HarnessError, LaunchError
from harness.qemu.arch import Arch
from harness.qemu.machine import Machine
from harness.qemu.storage import flatten
from harness.qemu.tools import HostTools

MACHINE, MEMORY = "machine.json", "memory"
DISK, VARIABLES, SEED, TPM = "disk.qcow2", "variables.fd", "seed.img", "tpm"
SCHEMA = 1


def save_memory(machine: Machine) -> str | None:
    """Write a running machine's memory and devices beside its evidence, and end QEMU: its disk is
    what belongs to them. Returns why there is none where it cannot be."""
    path = machine.artefacts / MEMORY
    # What the console has shown has failed the scenario; it must not end the wait for QEMU.
    with contextlib.suppress(HarnessError):
        machine.journal.check("the failure's evidence")
    try:
        machine.save_memory(path)
    except HarnessError as error:
        path.unlink(missing_ok=True)
        return error.message
    return None


def keep(machine: Machine) -> None:
    """Keep of a machine that is off what its next start needs. Raises LaunchError."""
    folder, tools = machine.artefacts, machine.host.tools
    storage = machine.storage
    if storage.variables is not None:
        flatten(storage.variables, folder / VARIABLES, "raw", tools)
    if storage.disk is not None and machine.spec.image is None:
        # Nothing but a CD was given: no image lies below.
        flatten(storage.disk, folder / DISK, "qcow2", tools)
    if storage.seed is not None:
        shutil.copyfile(storage.seed, folder / SEED)
    if machine.tpm_state.is_dir():
        shutil.copytree(machine.tpm_state, folder / TPM, dirs_exist_ok=True)
    document = {
        "schema": SCHEMA,
        "spec": machine.spec.model_dump(mode="json"),
        "qemu": qemu_version(machine.spec.arch, tools),
        "accelerator": machine.host.accelerator,
        "scale": machine.host.scale,
        "profile": machine.host.profile.name,
    }
    (folder / MACHINE).write_text(json.dumps(document, indent=1) + "\n")


def qemu_version(arch: Arch, tools: HostTools) -> str:
    """What QEMU calls its version, such as 10.0.13. Raises LaunchError."""
    argv = tools.argv(arch.qemu, "--version")
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if (match := re.search(r"version (\S+)", done.stdout)) is None:
        raise LaunchError(f"{arch.qemu} does not say its version: {done.stderr.strip()}")
    return match[1]


def nodes(folder: Path) -> list[Path]:
    """Folders of nodes in a scenario's evidence that a machine can be started from."""
    return sorted(path.parent for path in folder.glob(f"*/{MACHINE}"))
