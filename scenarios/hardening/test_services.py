"""Each service of a running machine has the rights of its row in docs/security.md, and no other."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardening.services import differences, settled

# Run by everybody's boots: what must be there for the comparison to say something.
APPLIANCE = {
    "audit", "dhcp", "health", "kernel", "kernel/log", "metrics", "metrics-server", "network",
    "time", "timekeeper", "updates", "usb", "watchdog",
}  # fmt: skip
# A confined program says what it can do.
TRY = """. /usr/lib/kubesolo/confine
confine --caps sys_time --write /run/kubesolo/time -- sh -c '
    can() { if "$@" > /dev/null 2>&1; then echo "can: $*"; else echo "cannot: $*"; fi; }
    can touch /run/kubesolo/time/own
    can touch /tmp/other
    can touch /run/kubesolo/other
    can touch /etc/kubesolo/other
    can dd if=/dev/zero of=/dev/null count=1
    can dd if=/dev/zero of=/dev/vda bs=1 count=0 conv=notrunc
    can mount -t tmpfs tmpfs /mnt
    can ip link add other type dummy
    can chroot /
'"""
MAY = ("touch /run/kubesolo/time/own", "dd if=/dev/zero of=/dev/null count=1")


@scenario(tier="core", core_arch="x86_64")
def test_services_have_the_rights_of_their_rows(node: Node) -> None:
    node.at(State.READY)
    found = settled(node)
    assert found.keys() >= APPLIANCE, sorted(APPLIANCE - found.keys())
    assert differences(found) == []
    # And they work with them.
    status = node.status()
    assert status.problems == []
    assert node.succeed("cat /var/log/kernel/current | wc -l").text.strip() != "0"


@scenario()
def test_a_confined_program_writes_nowhere_else(node: Node) -> None:
    node.at(State.READY)
    said = node.succeed(TRY).text.splitlines()
    assert len(said) == 9
    assert {line.partition(": ")[2] for line in said if line.startswith("can: ")} == set(MAY)
