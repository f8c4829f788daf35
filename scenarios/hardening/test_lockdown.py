"""Root of a node cannot change the kernel that runs; nothing that a node needs is lost by it."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardening.node import SECURITY_CONF, restart_with, wait_locked

LOCKDOWN = "/sys/kernel/security/lockdown"
# Of the image, and needed by nothing that is in these machines.
MODULE = "mdio"
VARIABLES = "/sys/firmware/efi/efivars"


@scenario()
def test_the_memory_of_the_kernel_is_out_of_reach(node: Node) -> None:
    node.at(State.READY, slot="A")
    assert "[integrity]" in node.get(LOCKDOWN).decode()
    node.fail(f"echo none > {LOCKDOWN}")
    node.fail("exec 3< /dev/mem")
    # What a node needs works: its firmware's variables, the evidence of failed boots, the watchdog.
    node.succeed(f"mount -o remount,rw {VARIABLES}")
    node.succeed(f"ls {VARIABLES} | grep -q . && mount -o remount,ro {VARIABLES}")
    node.succeed("grep -q ' /sys/fs/pstore ' /proc/mounts")
    assert "active" in node.succeed("cat /sys/class/watchdog/*/state").text.split()
    assert node.status().problems == []


@scenario()
def test_a_module_that_nobody_signed_is_refused(node: Node) -> None:
    """Without its last byte a signature is none."""
    node.at(State.READY, slot="A")
    unsigned = "/run/unsigned.ko"
    make = f"head -c -1 $(find /lib/modules -name {MODULE}.ko) > {unsigned}"
    restart_with(node, "modules=open")
    node.succeed(make)
    node.fail(f"insmod {unsigned}")
    assert "unsigned module loading is restricted" in node.succeed("dmesg").text
    restart_with(node, "modules=open", "lockdown=none")
    node.succeed(f"{make} && insmod {unsigned}")


@scenario()
def test_an_operator_may_leave_it_and_a_mistake_counts_for_nothing(node: Node) -> None:
    node.at(State.READY, slot="A")
    restart_with(node, "lockdown=none")
    assert "[none]" in node.get(LOCKDOWN).decode()
    assert node.status().problems == []
    restart_with(node, "lockdown=whole", "modules=shut")
    assert "[integrity]" in node.get(LOCKDOWN).decode()
    wait_locked(node)
    assert node.status().problems == [
        f"{SECURITY_CONF}: modules=shut is neither locked nor open: they will be locked",
        f"{SECURITY_CONF}: lockdown=whole is neither integrity nor none: integrity counts",
    ]
