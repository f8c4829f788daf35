"""Steps that scenarios are made of."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from harness.commands.channel import CompletedCommand
from harness.console.menu import choose
from harness.faults.http import WebServer
from harness.journal.boots import Boots, Ready
from harness.qemu.arch import Arch
from harness.target.node import Node
from scenarios.profile import MENU
from scenarios.releases import Release
from scenarios.set_up import set_up

KEY_PATH = "/etc/kubesolo/update.pem"
CONF_PATH = "/etc/kubesolo/update.conf"
# Exit codes of kubesolo-update.
UP_TO_DATE, FAILED, AVAILABLE, REFUSED, BUSY = 0, 1, 10, 11, 12
# Generous: a slow emulated node writes and reads back some 60 MB.
APPLY_SECONDS = 180.0

_PARTITIONS = {"A": 2, "B": 3}


@set_up
def offer(node: Node, release: Release, server: WebServer, **settings: str) -> None:
    """Write the node's configuration, as an operator does."""
    node.put(release.pubkey, KEY_PATH)
    values = {"server": server.url, "channel": "stable", "pubkey": KEY_PATH, **settings}
    node.put(_lines(values), CONF_PATH)
    node.succeed("sync")


@set_up
def configure(node: Node, **settings: str) -> None:
    """Replace settings of the node's configuration, or add them, from now on."""
    keys = "|".join(settings)
    kept = node.succeed(f"grep -Ev '^({keys})=' {CONF_PATH} || true").text
    node.put(f"{kept}\n{_lines(settings)}", CONF_PATH)


def _lines(settings: dict[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())


@dataclass(frozen=True, slots=True)
class Update:
    """One release on offer to one node."""

    node: Node
    release: Release
    server: WebServer

    def check(self, *, exit: int) -> CompletedCommand:
        """Look for the release; exit status as given."""
        done = self.node.run(["kubesolo-update", "check"])
        assert done.exit == exit, done
        return done

    def apply(self) -> CompletedCommand:
        """Write it into the passive slot."""
        return self.node.succeed(["kubesolo-update", "apply"], seconds=APPLY_SECONDS)

    def refused(self, code: str, *, exit: int) -> CompletedCommand:
        """Applying fails with this exit status, and state and output name ``code``."""
        before = _sectors_written(self.node)
        done = self.node.fail(["kubesolo-update", "apply"], exit=exit, seconds=APPLY_SECONDS)
        status = self.node.status()
        assert status.update.last_error.startswith(f"{code}: "), status.update.last_error
        assert status.update.phase == "failed", status.update
        active = status.boot.slot
        after = _sectors_written(self.node)
        assert after[active] == before[active], "the active slot was touched"
        return done

    def activate(self) -> None:
        """Arm the boot loader for it."""
        self.node.succeed(["kubesolo-update", "activate"])

    def stage(self) -> None:
        """Write and arm it."""
        self.apply()
        self.activate()

    def install(self) -> Ready:
        """The whole way of a good release: write, arm, reboot, wait until it has been judged."""
        self.stage()
        self.node.reboot()
        return self.node.wait_ready()


def failed_for(boots: Boots, *causes: str, times: int = 3) -> None:
    """The first boots failed, each for all of ``causes`` and for nothing else; no later one did.

    ``causes`` are regular expressions of what Boots.causes holds.
    """
    found = boots.causes
    assert len(found) >= times, f"{len(found)} boots of {times} that should have failed"
    for number, said in enumerate(found, 1):
        expected = causes if number <= times else ()
        for cause in expected:
            assert any(re.search(cause, text) for text in said), (
                f"boot {number} did not fail for {cause!r}, but for {said or 'nothing'}"
            )
        others = [text for text in said if not any(re.search(cause, text) for cause in expected)]
        assert not others, f"boot {number} failed also for {others}"


def slot_digests(node: Node) -> dict[str, str]:
    """A digest over the content of each slot's files, read past the agent; unreadable is ''."""
    script = """
    mkdir -p /run/look
    for device in $1 $2; do
        blockdev --flushbufs $device
        if mount -t ext4 -o ro,noload $device /run/look 2> /dev/null; then
            (cd /run/look && find . -type f | sort | xargs sha256sum | sha256sum)
            umount /run/look
        else echo unreadable; fi
    done
    """
    devices = [node.partition(number) for number in _PARTITIONS.values()]
    done = node.succeed(["/bin/sh", "-c", script, "sh", *devices], seconds=120)
    first, second = done.text.split("\n")
    return {"A": first, "B": second}


def _sectors_written(node: Node) -> dict[str, tuple[str, str]]:
    """Sectors of each slot that this boot has written, and those it has discarded.

    A write of the same bytes counts, too.
    """
    names = (node.partition(number).removeprefix("/dev/") for number in _PARTITIONS.values())
    files = (f"/sys/class/block/{name}/stat" for name in names)
    lines = node.succeed(f"sync; cat {' '.join(files)}").text.splitlines()
    # The seventh number and the fourteenth, says the kernel's Documentation/block/stat.rst.
    numbers = [line.split() for line in lines]
    return {slot: (row[6], row[13]) for slot, row in zip(_PARTITIONS, numbers, strict=True)}


@set_up
def write_data(node: Node, text: str, name: str = "proof") -> None:
    """Put something on the data partition that must survive, and flush it."""
    node.put(text, f"/var/lib/kubesolo/{name}")
    node.succeed(f"sync /var/lib/kubesolo/{name} && sync")


def read_data(node: Node, name: str = "proof") -> str:
    """What is there now."""
    return node.get(f"/var/lib/kubesolo/{name}").decode()


def _look_at(options: str, device: str) -> str:
    """A shell command that mounts ``device`` at /run/look.

    While the agent has it mounted in the other way, to read or to write, it is busy: this waits.
    """
    return (
        f"mkdir -p /run/look && tries=100 && until mount {options} {device} /run/look; do "
        "tries=$((tries - 1)); [ $tries -gt 0 ] || exit; sleep 0.1; done"
    )


def on_slot(node: Node, slot: str, command: str) -> str:
    """A shell command on the files of a slot, mounted at /run/look for it."""
    return (
        f"{_look_at('-t ext4', node.partition(_PARTITIONS[slot]))} && "
        f"{{ {command}; }}; status=$?; umount /run/look && sync; exit $status"
    )


def boot_environment(node: Node) -> bytes:
    """The block as it lies on the disk."""
    script = (
        f"{_look_at('-t vfat -o ro', node.partition(1))} && "
        "base64 /run/look/boot/grub/grubenv; umount /run/look"
    )
    return base64.b64decode(node.succeed(script).stdout)


@set_up
def write_boot_environment(node: Node, shell: str) -> None:
    """Run a shell command that damages ``$env``, the block's file, then unmount cleanly."""
    node.succeed(
        f"{_look_at('-t vfat', node.partition(1))} && "
        f"env=/run/look/boot/grub/grubenv && {{ {shell}; }} && umount /run/look && sync"
    )


@set_up
def put_boot_environment(node: Node, data: bytes) -> None:
    """Make ``data`` the block, byte for byte."""
    node.put(data, "/run/new-environment")
    write_boot_environment(node, "cat /run/new-environment > $env")


# From the reset to the menu on the slowest host.
MENU_SECONDS = 120.0
# What the firmware's terminal takes for F4: OVMF's is an xterm, AAVMF's a VT100.
_F4 = {Arch.X86_64: "\x1bOS", Arch.AARCH64: "\x1bOx"}


def boot_menu(node: Node, entry: str) -> None:
    """Reboot and choose an entry as a person at the serial console does, holding F4.

    Raises DeadlineError with what the console showed where the menu does not appear.
    """
    position = node.target.console.position
    since = node.journal.cursor
    node.reboot()
    # Where nobody reads them, keys pile up until no more are taken.
    node.target.wait_reset("the reboot", node.deadline(60), since)
    terminal = node.expect(seconds=60, since=position)
    # Escape would open the firmware's own menu.
    key = _F4[node.spec.arch]
    choose(terminal, MENU, entry, key, seconds=MENU_SECONDS)
