"""Logs outlive the boot that they are of, and a failed boot leaves its last console."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import Update

Begin = Callable[..., Update]

PANIC = "Kernel panic - not syncing: Attempted to kill init"
# What the init of the broken release says.
LAST_WORDS = "init of a broken release ends now"


def _logs(node: Node, *arguments: str) -> str:
    return node.succeed(["kubesolo-update", "logs", *arguments], seconds=120).text


def _boots(node: Node) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_logs(node, "--list", "--json"))["boots"]
    return found


@scenario()
def test_logs_outlive_a_reboot_and_a_power_cut(node: Node) -> None:
    node.at(State.READY)
    first = _boots(node)[-1]
    own = _logs(node)
    # The initramfs, the stages, the kernel and the agent, each once.
    for said in (
        "kubesolo: stage initramfs",
        "kubesolo: stage switch_root",
        "kubesolo: stage 90-services",
        "kubesolo-update: ready",
    ):
        assert len(re.findall(rf" boot: \[ *[0-9.]+\] {said}", own)) == 1, said
    assert re.search(r"kernel: \[ +0\.000000\] Linux version", own)
    node.reboot()
    node.wait_ready()
    boots = _boots(node)
    assert [boot["number"] for boot in boots[-2:]] == [first["number"], first["number"] + 1]
    assert boots[-2]["boot_id"] == first["boot_id"]
    before = _logs(node, "--boot", "-1")
    # Also what it said after it was told to stop.
    assert "kubesolo: stage stop" in before
    assert before.startswith(own[: own.rindex("\n")])
    stages = _logs(node, "--boot", str(first["number"]), "--service", "boot").splitlines()
    assert stages == [line for line in before.splitlines() if line.split()[1] == "boot:"]
    node.succeed("sync")
    node.power_cut()
    node.boot()
    assert _boots(node)[-3:-1] == boots[-2:]
    assert "kubesolo-update: ready" in _logs(node, "--boot", "-1")
    assert node.status().logs.crashes == []
    node.fail(["kubesolo-update", "logs", "--boot", "99"], exit=1)


@scenario(tier="core", core_arch="x86_64", secure_boot=True)
def test_a_panic_on_trial_leaves_its_last_console(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    begin_after(Update.stage, releases.panicking_init)
    since = node.journal.cursor
    with node.expecting(Pattern.INIT_EXITED, times=3), node.expect_boots(4):
        node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    (file,) = node.wait_console("the last console of a failed boot: (.*)", since=since)
    assert file is not None
    crashes = node.status().logs.crashes
    assert len(crashes) == 3, crashes
    assert crashes[0].path == file
    for crash in crashes:
        assert PANIC in crash.reason
        text = node.get(crash.path).decode()
        assert PANIC in text
        assert "kubesolo: stage switch_root" in text
    said = _logs(node, "--boot", "-1")
    assert said.count(PANIC) >= 3
    entry = json.loads(node.succeed(["kubesolo-update", "history", "--json"]).text)[-1]
    assert (entry["outcome"], entry["evidence"]) == ("rolled_back", crashes[2].path)
    # The firmware has its room back.
    assert node.succeed("ls /sys/fs/pstore").text == ""


@scenario()
def test_a_boot_that_fails_early_leaves_its_reason(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    begin_after(Update.stage, releases.good)
    node.succeed(
        f"mkdir -p /run/look && mount -t ext4 {node.partition(3)} /run/look && "
        "dd if=/dev/urandom of=/run/look/root.squashfs bs=4096 seek=1000 count=1 conv=notrunc && "
        "umount /run/look && sync"
    )
    with node.tolerating(Pattern.SQUASHFS), node.expect_boots(4):
        node.reboot()
    node.wait_ready()
    reasons = [crash.reason for crash in node.status().logs.crashes]
    why = "boot failed: root.squashfs of slot B is corrupt"
    assert [why in reason for reason in reasons] == [True, True, True], reasons


@scenario()
def test_logs_are_bounded(node: Node) -> None:
    node.at(State.READY)
    # Twenty boots that have said a lot, and sixty that said little.
    node.succeed(
        "for number in $(seq 100 179); do "
        "folder=/mnt/data/log/boots/00000$number; mkdir -p $folder/noisy; "
        "echo number=$number > $folder/boot; "
        "if [ $number -ge 160 ]; then kilobytes=4000; else kilobytes=4; fi; "
        "dd if=/dev/zero of=$folder/noisy/current bs=1k count=$kilobytes; done; sync",
        seconds=120,
    )
    node.reboot()
    node.wait_ready()
    boots = [boot["number"] for boot in _boots(node)]
    assert boots[-1] == 180
    # Eight of the noisy ones fit, and so no older one does.
    assert boots[0] >= 171, boots
    assert boots[:-1] == list(range(boots[0], 180)), boots
    kilobytes = int(node.succeed("du -sk /mnt/data/log").text.split()[0])
    assert kilobytes <= 64 * 1024
    # A service that says a lot loses its oldest lines alone.
    size, last = node.succeed(
        "mkdir -p /run/sv/flood/log && cd /run/sv/flood/log && "
        "seq 1 600000 | /usr/lib/kubesolo/log-service; "
        "du -sk /var/log/flood | cut -f 1; tail -n 1 /var/log/flood/current | cut -d ' ' -f 2",
        seconds=240,
    ).text.split()
    assert last == "600000"
    assert 1000 < int(size) <= 2100
