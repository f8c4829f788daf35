"""The audit log as auditd writes it, a line an event."""

from __future__ import annotations

from pathlib import Path

from product.agent.logs.audit import audit_lines

# As auditd 4.0 wrote it, with what it was told of an event by Linux 6.12.
MODULE = """\
type=SYSCALL msg=audit(1793491300.250:41): arch=c000003e syscall=313 success=yes exit=0 a0=3 a1=5 \
a2=0 a3=3 items=0 ppid=790 pid=812 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 \
fsgid=0 tty=(none) ses=4294967295 comm="modprobe" exe="/usr/bin/kmod" subj=unconfined key="modules"
type=KERN_MODULE msg=audit(1793491300.250:41): name="dummy"
type=PROCTITLE msg=audit(1793491300.250:41): proctitle=6D6F6470726F62650064756D6D79
"""
FILE = """\
type=SYSCALL msg=audit(1793491301.007:42): arch=c000003e syscall=257 success=no exit=-30 \
ppid=1 pid=9 auid=4294967295 uid=65534 comm="sh" exe="/usr/bin/busybox" key="identity"
type=CWD msg=audit(1793491301.007:42): cwd="/"
type=PATH msg=audit(1793491301.007:42): item=0 name="/etc/" inode=7 nametype=PARENT
type=PATH msg=audit(1793491301.007:42): item=1 name=2F6574632F70610A inode=8 nametype=NORMAL
type=PROCTITLE msg=audit(1793491301.007:42): proctitle="sh"
"""


def _lines(folder: Path) -> list[tuple[str, str]]:
    return [(line.time, line.text) for line in audit_lines(str(folder))]


def test_the_records_of_an_event_become_a_line(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text(MODULE + FILE)
    assert _lines(tmp_path) == [
        (
            "2026-11-01T00:01:40.250Z",
            'modules: yes uid=0 pid=812 parent=790 exe=/usr/bin/kmod command="modprobe dummy" '
            'name="dummy"',
        ),
        (
            "2026-11-01T00:01:41.007Z",
            'identity: no uid=65534 pid=9 parent=1 exe=/usr/bin/busybox command="sh" '
            "paths=/etc/,/etc/pa?",
        ),
    ]


def test_files_are_read_from_the_oldest_on(tmp_path: Path) -> None:
    for number, name in enumerate(("audit.log.10", "audit.log.2", "audit.log.1", "audit.log")):
        text = f"type=CONFIG_CHANGE msg=audit(1793491300.000:{number}): number={number}\n"
        (tmp_path / name).write_text(text)
    (tmp_path / "audit.log.bak").write_text(MODULE)
    said = [text for _, text in _lines(tmp_path)]
    assert said == [f"config_change: number={number}" for number in range(4)]


def test_records_of_events_may_lie_between_each_others(tmp_path: Path) -> None:
    one, two = MODULE.splitlines(), FILE.splitlines()
    mixed = [one[0], two[0], one[1], *two[1:], one[2]]
    (tmp_path / "audit.log").write_text("\n".join(mixed))
    (tmp_path / "straight").mkdir()
    (tmp_path / "straight/audit.log").write_text(MODULE + FILE)
    assert _lines(tmp_path) == _lines(tmp_path / "straight")


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    broken = "no record\ntype=X msg=audit(9.1:2): a\ntype=SYSCALL msg=audit(1.0"
    (tmp_path / "audit.log").write_text(f"{broken}\n{MODULE}")
    (tmp_path / "audit.log").write_bytes((tmp_path / "audit.log").read_bytes() + b"\xff\0\n")
    assert len(_lines(tmp_path)) == 1
    assert _lines(tmp_path / "nowhere") == []
