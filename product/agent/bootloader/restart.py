"""Restarts with the firmware's flag: what early boot and the end of a stop run on a Raspberry Pi.

The flag is the argument of reboot(2), ``0 tryboot``: Raspberry Pi's kernel hands it to the
firmware, a mainline kernel prints and drops it, and busybox's reboot cannot give one. Nothing of
the data partition is in use at either time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from product.agent.bootloader.boot import ESP_LABEL, SLOTS
from product.agent.bootloader.tryboot import Step, TrybootEnv
from product.agent.errors import AgentError
from product.agent.system import mounts, program
from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

FLAG = "0 tryboot"
# From linux/reboot.h and asm/unistd.h.
_MAGIC, _MAGIC_2, _RESTART, _RESTART_2 = 0xFEE1DEAD, 672274793, 0x01234567, 0xA1B2C3D4
_REBOOT = {"aarch64": 142, "x86_64": 169}
_MAX_EARLY = 64 * 1024


def restart(argument: str) -> None:
    """Reset the machine now, with an argument for the firmware unless it is empty.

    Raises OSError where the kernel refuses.
    """
    os.sync()
    libc = ctypes.CDLL(None, use_errno=True)
    command = _RESTART_2 if argument else _RESTART
    libc.syscall(
        ctypes.c_long(_REBOOT[os.uname().machine]),
        ctypes.c_uint(_MAGIC),
        ctypes.c_uint(_MAGIC_2),
        ctypes.c_uint(command),
        ctypes.c_char_p(argument.encode()),
    )
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(
    argv: Sequence[str],
    *,
    paths: Paths | None = None,
    restart: Callable[[str], None] = restart,
    environment: TrybootEnv | None = None,
) -> int:
    """``settle``: what a boot does first while a slot is on trial. ``stop``: the end of a planned
    restart. Each prints lines for the console, and does not return where it restarts the machine.

    1 where nothing can be counted: then nothing is tried, and the boot or the stop goes on.
    """
    paths = paths or Paths()
    try:
        early = _read_early(paths)
        env = environment or TrybootEnv(lambda writable: _esp(early, paths, writable))
        if argv == ["settle"]:
            return _settle(env, early["slot"], restart)
        if argv == ["stop"]:
            if env.spend_try():
                _say("restarting to try the slot that was armed")
                restart(FLAG)
            return 0
    except (AgentError, OSError) as error:
        _say(f"problem: no slot is tried: {error}")
        with suppress(OSError), open(paths.problems, "a", encoding="utf-8") as file:
            file.write(f"no slot is tried: {error}\n")
        return 1
    print("usage: settle | stop", file=sys.stderr)
    return 2


def _settle(env: TrybootEnv, slot: str, restart: Callable[[str], None]) -> int:
    before = env.read()
    step = env.settle(slot)
    if step is Step.TRY:
        left = env.read().boot_counter
        _say(f"trying slot={before.active_slot}, {left} tries left after this one")
        restart(FLAG)
    elif step is Step.LEAVE:
        _say(f"slot={slot} was not confirmed")
        restart("")
    elif before.active_slot != env.read().active_slot:
        # As GRUB says it.
        _say(f"rollback to slot={slot}")
    return 0


def _say(line: str) -> None:
    """For the console."""
    print(f"kubesolo: {line}", flush=True)


def _read_early(paths: Paths) -> dict[str, str]:
    """What the initramfs recorded. Raises OSError, AgentError."""
    try:
        lines = read_bounded(paths.early, _MAX_EARLY).decode().splitlines()
    except ValueError as error:
        raise AgentError(f"{paths.early} is garbage: {error}", code="boot-unknown") from None
    early = dict(line.split("=", 1) for line in lines if "=" in line)
    if early.get("slot") not in SLOTS or not early.get(ESP_LABEL):
        raise AgentError(f"{paths.early} names no slot or no {ESP_LABEL}", code="boot-unknown")
    return early


@contextmanager
def _esp(early: dict[str, str], paths: Paths, writable: bool) -> Iterator[str]:
    at = paths.esp_mount
    os.makedirs(at, exist_ok=True)
    mounts.attach(
        early[ESP_LABEL],
        at,
        kind="vfat",
        options="noatime,nosuid,nodev,noexec",
        mountinfo=paths.mountinfo,
        writable=writable,
    )
    try:
        yield at
    finally:
        program.run(["umount", at])
