"""labgrid's QEMU driver on a given kernel and disk: ``python -m scenarios.bench_labgrid SETTINGS``.

Runs in the environment that has labgrid. ``SETTINGS`` is JSON: qemu, machine, kernel, initrd,
append, disk, memory (MiB), runs, commands. Prints JSON: a list of runs, each with the seconds from
power on to the first command's reply, and those of ``commands`` commands after it.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from labgrid import Environment

# What the shell of the boot entry for debugging prints; it asks for no login.
PROMPT = r"root@[^:]*:[^$#]*[$#] "


def main() -> None:
    """Boot, run the commands, switch off; as often as asked."""
    settings = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-") as folder:
        path = Path(folder) / "environment.yaml"
        path.write_text(yaml.safe_dump(_environment(settings)))
        print(json.dumps([_run(path, settings["commands"]) for _ in range(settings["runs"])]))


def _environment(settings: dict[str, Any]) -> dict[str, Any]:
    disk = f"file={settings['disk']},if=virtio,snapshot=on"
    drivers = {
        "QEMUDriver": {
            "qemu_bin": "qemu",
            # Named with its accelerator, so that labgrid adds no arguments of its own.
            "machine": settings["machine"],
            "cpu": "max",
            "memory": f"{settings['memory']}M",
            "kernel": "kernel",
            "boot_args": settings["append"],
            "extra_args": shlex.join(["-initrd", settings["initrd"], "-drive", disk]),
            "nic": "user",
        },
        "ShellDriver": {
            "prompt": PROMPT, "login_prompt": "login: ", "username": "root", "login_timeout": 300,
        },
    }  # fmt: skip
    return {
        "targets": {"main": {"drivers": drivers}},
        "tools": {"qemu": settings["qemu"]},
        "images": {"kernel": settings["kernel"]},
    }


def _run(path: Path, commands: int) -> dict[str, float]:
    target = Environment(str(path)).get_target("main")
    qemu = target.get_driver("QEMUDriver", activate=False)
    begun = time.monotonic()
    target.activate(qemu)
    qemu.on()
    try:
        shell = target.get_driver("ShellDriver")
        shell.run_check("true")
        first = time.monotonic()
        for _ in range(commands):
            shell.run_check("true")
        last = time.monotonic()
    finally:
        qemu.off()
        target.cleanup()
    return {"first": first - begun, "commands": last - first}


if __name__ == "__main__":
    main()
