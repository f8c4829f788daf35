"""No module is loaded once a node has what it needs."""

from __future__ import annotations

from harness.faults.stick import CONTROLLER
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardening.node import SECURITY_CONF, refused, restart_with, wait_locked

# Of the image, for hardware that no machine here has.
ABSENT = "mpt3sas"
INSERT = f"insmod $(find /lib/modules -name {ABSENT}.ko)"


@scenario()
def test_a_module_is_refused_and_named_once_they_are_locked(node: Node) -> None:
    node.at(State.READY, slot="A")
    wait_locked(node)
    since = node.journal.cursor
    node.fail(f"/usr/sbin/modprobe {ABSENT}")
    node.fail(INSERT)
    node.fail(f"grep -q '^{ABSENT} ' /proc/modules")
    node.fail("echo 0 > /proc/sys/kernel/modules_disabled")
    # What the kernel asks for by itself is said, each module once; what no image has is not.
    for name in (ABSENT, ABSENT, "no_such_module"):
        node.fail(f"ip link set {name} up")
    node.wait_console(f"kubesolo: module {ABSENT} is refused: modules are locked", since=since)
    assert refused(node) == [ABSENT]
    assert node.status().problems == []


@scenario(extra=CONTROLLER)
def test_what_is_plugged_in_later_has_its_driver(node: Node) -> None:
    node.at(State.READY, slot="A")
    wait_locked(node)
    machine, since = node.machine, node.journal.cursor
    machine.qmp("device_add", driver="usb-kbd", id="keys", bus="sticks.0")
    node.succeed("until grep -q QEMU.*Keyboard /proc/bus/input/devices; do sleep 0.2; done")
    machine.qmp("netdev_add", type="user", id="late")
    machine.qmp("device_add", driver="usb-net", id="late", netdev="late", bus="sticks.0")
    node.wait_console("kubesolo: network usb0 10.0.2.15", since=since)
    assert refused(node) == []


@scenario()
def test_an_operator_names_modules_or_leaves_them_open(node: Node) -> None:
    node.at(State.READY, slot="A")
    restart_with(node, f"allow_modules={ABSENT} no_such_module")
    wait_locked(node)
    node.succeed(f"grep -q '^{ABSENT} ' /proc/modules")
    [problem] = node.status().problems
    assert problem == f"{SECURITY_CONF}: allow_modules: this image has no module no_such_module"
    restart_with(node, "modules=open")
    node.wait_console("kubesolo: modules stay open, as security.conf says", since=0)
    node.succeed(f"/usr/sbin/modprobe {ABSENT} && grep -q '^{ABSENT} ' /proc/modules")
