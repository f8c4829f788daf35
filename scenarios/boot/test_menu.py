"""What a person at the console gets, and what nobody gets without asking."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Firmware
from harness.target.node import Node, State
from scenarios.steps import boot_menu


@scenario(tier="core", core_arch="aarch64")
def test_the_emergency_shell_is_a_shell_on_the_console(node: Node) -> None:
    node.at(State.READY, slot="A")
    boot_menu(node, "KubeSolo OS, emergency shell")
    terminal = node.expect(seconds=200, since=0)
    terminal.expect(r"emergency shell; exit goes on with the boot")
    # A person may take longer than the watchdog's minute.
    terminal.sendline("sleep 75; echo answer-$((40 + 2))")
    terminal.expect("answer-42")
    terminal.sendline("exit")
    assert node.wait_ready().slot == "A"
    assert node.status().boot.mode == "shell"


@scenario()
def test_the_debug_entry_gives_a_root_shell_that_reboots_in_good_order(node: Node) -> None:
    node.at(State.READY, slot="A")
    boot_menu(node, "KubeSolo OS, debug")
    ready = node.wait_ready()
    assert ready.confirmed
    assert node.status().boot.mode == "debug"
    since = node.journal.cursor
    terminal = node.expect(seconds=60)
    terminal.sendline("")
    terminal.expect(r"root@[^ ]+:~# ")
    terminal.sendline("echo answer-$((40 + 2))")
    terminal.expect("answer-42")
    terminal.sendline("reboot")
    node.wait_console("kubesolo: stage stopped", since=since)
    node.target.wait_reset("reboot", node.deadline(30), since)
    assert node.wait_ready().slot == "A"


# The names of processes that have a terminal, as whoever may log in does.
ON_A_TERMINAL = """
import glob
for path in glob.glob("/proc/[0-9]*/stat"):
    try:
        name, _, fields = open(path).read().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        continue  # It has ended meanwhile.
    if fields.split()[4] != "0":
        print(name.partition("(")[2])
"""

# Ends when so many typed bytes (argv[2]) wait on the terminal argv[1] and nobody has read them.
UNREAD = """
import fcntl, os, struct, sys, termios, time
terminal = os.open(sys.argv[1], os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
while struct.unpack("i", fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)))[0] < int(sys.argv[2]):
    time.sleep(0.1)
"""


@scenario(tier="core", core_arch="x86_64")
def test_the_default_entry_offers_no_login(node: Node) -> None:
    node.at(State.READY, slot="A")
    assert node.succeed(["python3", "-c", ON_A_TERMINAL]).text == ""
    # What is typed lies there unread. Twice: a reader would take the first line before the second.
    since = node.journal.cursor
    typed = b"\recho answer-$((40 + 2))\r"
    for times in (1, 2):
        node.target.type_in(typed)
        unread = str(times * len(typed))
        node.succeed(["python3", "-c", UNREAD, f"/dev/{node.spec.arch.serial}", unread])
    assert not any("answer-42" in event.text for event in node.journal.events(since))
    assert node.succeed("mount").text.count(" / type squashfs (ro") == 1
    # Nor can what lies below it be written past the file system.
    assert node.succeed("blockdev --getro /dev/ram0").text == "1"
    node.fail("touch /usr/bin/x")
    node.fail("touch /etc/x")


@scenario(arch="x86_64", firmware=Firmware.BIOS, tier="core")
def test_a_bios_boots_it_too(node: Node) -> None:
    ready = node.boot()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    node.fail("test -d /sys/firmware/efi")
