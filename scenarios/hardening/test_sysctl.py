"""Kernel parameters: the table of the image, what they hold back, and the operator's own."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardening.node import SECURITY_CONF, STRANGER, restart_with

TABLE = "/usr/lib/kubesolo/sysctl.d/node.conf"
SETTINGS = "/proc/sys"
# Numbers of the system call.
KEXEC_LOAD = {"x86_64": 246, "aarch64": 104}
# Prints what became of a system call with five zeros, by its number.
CALL = """python3 -ISB -c 'import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(int(sys.argv[1]), 0, 0, 0, 0, 0)
print(os.strerror(ctypes.get_errno()))' """
REFUSED = "Operation not permitted"


def table(node: Node) -> dict[str, str]:
    """The settings of the image's table."""
    lines = (line.strip() for line in node.get(TABLE).decode().splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def live(node: Node, name: str) -> str:
    """What the kernel has."""
    return node.get(f"{SETTINGS}/{name.replace('.', '/')}").decode().strip()


@scenario()
def test_the_kernel_has_the_values_of_the_table(node: Node) -> None:
    node.at(State.READY, slot="A")
    wanted = table(node)
    assert len(wanted) > 40
    assert {name: live(node, name) for name in wanted} == wanted
    assert node.status().problems == []
    # A card that was there before the table, and interfaces that come later.
    node.succeed("ip link add link eth0 name later type vlan id 7")
    for name, value in wanted.items():
        if ".conf.default." in name:
            for interface in ("eth0", "later"):
                there = name.replace(".default.", f".{interface}.")
                assert (there, live(node, there)) == (there, value)


@scenario()
def test_programs_without_rights_are_held_back(node: Node) -> None:
    node.at(State.READY, slot="A")
    arch = node.spec.arch.value
    node.succeed("unshare -U true")
    for attempt in ("unshare -U true", "dmesg"):
        assert REFUSED in node.fail(f"{STRANGER} {attempt}").stderr.decode(), attempt
    assert node.succeed(f"{CALL}{KEXEC_LOAD[arch]}").text == REFUSED
    # A process of the same account, which is no child of who asks.
    node.start(f"{STRANGER} sh -c 'echo $$ > /tmp/stranger; exec sleep 300'")
    node.succeed("until [ -s /tmp/stranger ]; do sleep 0.2; done")
    node.fail(f"{STRANGER} sh -c 'exec 3< /proc/$(cat /tmp/stranger)/mem'")
    node.succeed("cd /tmp && sh -c 'ulimit -c unlimited; kill -SEGV $$' ; [ ! -e /tmp/core ]")


@scenario()
def test_the_operators_own_settings_count_last(node: Node) -> None:
    node.at(State.READY, slot="A")
    restart_with(
        node,
        "# of this site",
        "sysctl.kernel.yama.ptrace_scope=2\r",
        "  sysctl.net/ipv4/conf/all/rp_filter = 1",
        "sysctl.kernel.no_such_setting=1",
        "sysctl.vm.swappiness=much",
        "sysctl.net.ipv4.ip_local_port_range=30000 60999",
        "sysctl.kernel.unprivileged_userns_clone=1",
    )
    assert live(node, "kernel.yama.ptrace_scope") == "2"
    assert live(node, "net.ipv4.conf.all.rp_filter") == "1"
    assert live(node, "net.ipv4.ip_local_port_range").split() == ["30000", "60999"]
    node.succeed(f"{STRANGER} unshare -U true")
    [unknown, invalid] = node.status().problems
    assert unknown.startswith(f"{SECURITY_CONF}: sysctl kernel.no_such_setting=1 does not count: ")
    assert invalid.startswith(f"{SECURITY_CONF}: sysctl vm.swappiness=much does not count: ")
