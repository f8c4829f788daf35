"""What the audit watches is written down, can be read by an operator, and outlives a reboot."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardening.services import PAGE, ROOT

RULES = ROOT / "images/overlay/usr/lib/kubesolo/audit/rules"
STAGE = ROOT / "images/overlay/usr/lib/kubesolo/stages/89-audit"
_SYSCALL = (
    "python3 -c 'import ctypes, os, sys; libc = ctypes.CDLL(None); "
    "libc.syscall(dict(x86_64={0}, aarch64={1})[os.uname().machine], {2})'"
)
# An act for each key, with what its event says beside the key. None does harm.
ACTS = {
    "modules": ("rmmod dummy", "rmmod dummy"),
    "kexec": (_SYSCALL.format(246, 104, "0, 0, None, 0"), "exe=/usr/bin/python3"),
    "mounts": ("mount -t tmpfs intruder /mnt && umount /mnt", "intruder"),
    "time": ('date -s "@$(date +%s)"', "date -s"),
    "ptrace": (
        "sleep 60 & victim=$!; " + _SYSCALL.format(101, 117, "0x4206, int(sys.argv[1]), 0, 0")
        + " $victim; kill $victim",
        "exe=/usr/bin/python3",
    ),
    "identity": ("echo intruder:x:0:0::/:/bin/sh >> /etc/passwd", "paths=/etc/passwd"),
    "configuration": ("echo x > /etc/kubesolo/intruder", "/etc/kubesolo/intruder"),
    "secrets": ("cat /etc/kubesolo/update-client.key", "/etc/kubesolo/update-client.key"),
    "update-state": (
        "touch /var/lib/kubesolo/update/state.json", "/var/lib/kubesolo/update/state.json",
    ),
    "boot": (": >> /dev/vda1", "paths=/dev/vda1"),
    "slots": (": >> /dev/vda2", "paths=/dev/vda2"),
    "audit-log": ("touch /var/log/audit/intruder", "/var/log/audit/intruder"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """A line of ``kubesolo-update logs --service audit``."""

    key: str
    text: str


def _events(node: Node) -> list[Event]:
    said = node.succeed("kubesolo-update logs --service audit", seconds=120).text
    lines = (line.partition(" audit: ")[2] for line in said.splitlines())
    return [Event(line.partition(":")[0], line) for line in lines]


def _missing(events: list[Event]) -> list[str]:
    return [
        key for key, (_, said) in ACTS.items()
        if not any(event.key == key and said in event.text for event in events)
    ]  # fmt: skip


def test_each_key_has_a_row_and_an_act() -> None:
    """Keys of the rules, of the documents, and of this scenario are the same."""
    rules = set(re.findall(r"-F key=([\w-]+)$", RULES.read_text(), re.MULTILINE))
    rules |= set(re.findall(r" (?:r|w|wa) ([\w-]+)(?:;|$)", STAGE.read_text(), re.MULTILINE))
    section = PAGE.read_text().partition("\n## Audit\n")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE))
    assert rules == rows == ACTS.keys()


@scenario(tier="core", core_arch="x86_64")
def test_each_act_is_written_down_and_outlives_a_reboot(node: Node) -> None:
    node.at(State.READY)
    assert node.status().problems == []
    assert "enabled 2\n" in node.succeed("auditctl -s").text
    node.succeed("echo key > /etc/kubesolo/update-client.key")
    for act, _ in ACTS.values():
        node.run(f"{act} || true", seconds=60)
    events = _events(node)
    assert _missing(events) == []
    # An attempt that failed as well, and whose it was.
    assert any(e.text.startswith("identity: no uid=0 ") for e in events)
    node.reboot()
    node.wait_ready()
    assert _missing(_events(node)) == []


@scenario()
def test_nobody_switches_it_off(node: Node) -> None:
    """Neither the rules nor the daemon, with rights or without."""
    node.at(State.READY)
    rules = node.succeed("auditctl -l").text
    assert len(rules.splitlines()) > 20
    for change in ("auditctl -e 0", "auditctl -D", "auditctl -b 1"):
        node.run(change)
        node.run(f"/usr/bin/setpriv --reuid nobody --clear-groups {change}")
    assert node.succeed("auditctl -l").text == rules
    assert "enabled 2\n" in node.succeed("auditctl -s").text
    node.run("/usr/bin/setpriv --reuid nobody --clear-groups rm -f /var/log/audit/audit.log")
    # Its supervisor starts it again, and the kernel keeps what comes meanwhile.
    node.succeed(
        "read -r before < /run/service/audit/supervise/pid; kill -9 $before; "
        'until read -r now < /run/service/audit/supervise/pid && [ "$now" != $before ] && '
        'auditctl -s | grep -q "^pid $now\\$"; do sleep 1; done',
        seconds=60,
    )
    act, said = ACTS["mounts"]
    node.succeed(act)
    assert any(said in event.text for event in _events(node) if event.key == "mounts")


@scenario()
def test_the_log_is_bounded(node: Node) -> None:
    """Many events push out the oldest, and the node goes on."""
    node.at(State.READY)
    node.succeed(
        "for round in $(seq 40000); do : > /etc/kubesolo/flood; done; "
        "rm /etc/kubesolo/flood; sleep 3",
        seconds=900,
    )
    names = node.succeed("ls /var/log/audit").text.split()
    assert {"audit.log", "audit.log.1", "audit.log.7"} <= set(names), names
    assert len(names) == 8, names
    # Eight files of 2 MB, each over by a record at most.
    assert int(node.succeed("du -sk /var/log/audit").text.split()[0]) <= 8 * 2048 + 256
    assert node.succeed("sv status /run/service/audit").text.startswith("run:")
    assert node.status().problems == []


@scenario()
def test_it_is_off_where_the_configuration_says_so(node: Node) -> None:
    node.at(State.READY)
    node.succeed("echo audit=off >> /etc/kubesolo/security.conf && sync")
    node.reboot()
    node.wait_ready()
    assert "enabled 0\n" in node.succeed("auditctl -s").text
    node.fail("test -e /run/service/audit")
