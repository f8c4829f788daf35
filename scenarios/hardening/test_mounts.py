"""Nothing runs, opens devices or gains rights from where a node can be written to."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardening.node import EVERYWHERE, STRANGER, mount_faults

# Where somebody may leave a file: memory, the data partition, its folders in their places.
WRITABLE = (
    "/tmp", "/run", "/dev", "/dev/shm", "/var/tmp", "/var/lib/kubesolo", "/var/lib/kubelet",
    "/var/lib/containerd", "/var/log", "/etc/kubesolo", "/mnt/data",
)  # fmt: skip
HOOKS = "/etc/kubesolo/hooks.d"


@scenario(tier="core", core_arch="x86_64")
def test_mounts_are_those_of_the_document(node: Node) -> None:
    node.at(State.READY, slot="A")
    assert mount_faults(node.get("/proc/self/mounts").decode(), EVERYWHERE) == []


@scenario()
def test_a_program_that_is_left_on_a_node_does_not_run(node: Node) -> None:
    node.at(State.READY, slot="A")
    for folder in WRITABLE:
        done = node.fail(f"cp /usr/bin/busybox {folder}/busybox && {folder}/busybox true")
        assert b"Permission denied" in done.stderr, (folder, done)
    # The operator's own programs do, and none of them with its owner's rights.
    own = f"{HOOKS}/own"
    node.succeed(f"cp $(readlink -f /usr/bin/python3) {own} && chmod 4755 {own}")
    ask = f"{own} -ISB -c 'import os; print(os.geteuid())'"
    assert node.succeed(ask).text == "0"
    assert node.succeed(f"{STRANGER} {ask}").text != "0"


@scenario()
def test_a_service_sees_its_own_processes_alone(node: Node) -> None:
    node.at(State.READY, slot="A")
    assert node.succeed("ls -d /proc/1").text == "/proc/1"
    node.fail(f"{STRANGER} ls -d /proc/1")
    node.succeed(f"{STRANGER} ls -d /proc/self/")
