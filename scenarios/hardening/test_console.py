"""A person at the console gets what the configuration allows."""

from __future__ import annotations

from harness.console.expect import ConsoleExpect
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.cloudinit.boot_password import hashed
from scenarios.profile import MENU
from scenarios.steps import boot_menu

PASSWORD = "Four-Words-And-7"
_DOWN = "\x1b[B"


def configure(node: Node, *lines: str) -> None:
    """Restart with these lines of security.conf, which the next boot hands to GRUB."""
    text = "".join(f"{line}\n" for line in lines)
    node.put(text, "/etc/kubesolo/security.conf", mode=0o600)
    since = node.journal.cursor
    node.reboot()
    node.wait_console("kubesolo: boot menu: ", since=since)
    node.wait_ready()


def log_in(terminal: ConsoleExpect, name: str, password: str) -> None:
    terminal.expect("Enter username:")
    terminal.send(f"{name}\r")
    terminal.expect("Enter password:")
    terminal.send(f"{password}\r")


def is_refused(terminal: ConsoleExpect, name: str, password: str) -> None:
    log_in(terminal, name, password)
    terminal.expect("access denied")
    # It returns to the menu, whose last line this is.
    terminal.expect(MENU.entries[-1])


@scenario()
def test_a_closed_menu_starts_the_first_entry_and_nothing_else(node: Node) -> None:
    node.at(State.READY, slot="A")
    configure(node, "boot_menu=closed")
    boot_menu(node, "KubeSolo OS, debug")
    terminal = node.expect(seconds=120)
    is_refused(terminal, "nobody", "")
    # An entry's text and a command line would do as well.
    for key in ("e", "c"):
        terminal.send(key)
        is_refused(terminal, "root", "root")
    # The menu is back at its first entry, which anybody may choose.
    terminal.send("\r")
    assert node.wait_ready().slot == "A"
    assert node.status().boot.mode == "normal"


@scenario(arch="x86_64")
def test_a_menu_with_a_password_opens_for_who_has_it(node: Node) -> None:
    node.at(State.READY, slot="A")
    configure(node, "boot_menu=password", f"boot_password={hashed(PASSWORD)}")
    boot_menu(node, "KubeSolo OS, debug")
    terminal = node.expect(seconds=120)
    is_refused(terminal, "admin", "Four-Words-And-8")
    # The menu is back at its first entry.
    terminal.send(_DOWN)
    terminal.send("\r")
    log_in(terminal, "admin", PASSWORD)
    assert node.wait_ready().slot == "A"
    assert node.status().boot.mode == "debug"
    # What is taken back is gone from the boot partition as well.
    configure(node, "boot_menu=open")
    boot_menu(node, "KubeSolo OS, debug")
    assert node.wait_ready().slot == "A"
    assert node.status().boot.mode == "debug"
