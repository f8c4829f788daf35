"""What a boot applies, what counts again, and what never stops it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from product.cloudinit.boot import main
from product.cloudinit.sources import RESULT_NAME
from product.cloudinit.tests.support_node import FakeNode, fat, iso, write

HOSTNAME, CONF = "/etc/kubesolo/hostname", "/etc/kubesolo/update.conf"
NETWORK_JSON, NOTE = "/etc/kubesolo/network.json", "/etc/kubesolo/site/note"
RECORD = "/var/lib/kubesolo/config/applied.json"
STATIC = "version: 2\nethernets: {eth0: {addresses: [192.0.2.7/24]}}\n"
BAD = "#cloud-config\nhostname: edge\nhostnam: x\n"


def data(name: str = "edge-07", more: str = "") -> str:
    return f"#cloud-config\nhostname: {name}\n{more}"


def meta(instance: str) -> str:
    return f"instance-id: {instance}\n"


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


@pytest.fixture
def seed(node: FakeNode) -> Path:
    """The folder of a seed disk."""
    return node.disk("sdb", fat("cidata"))


def test_nothing_configured(node: FakeNode) -> None:
    found = node.boot()
    assert (found.outcome, found.source, found.problems, found.lines) == ("none", None, (), ())
    assert not node.file(RECORD).exists()


def test_a_seed_is_applied(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": data(), "meta-data": meta("a"), "network-config": STATIC})
    found = node.boot()
    assert (found.outcome, found.instance_id, found.problems) == ("applied", "a", ())
    assert node.file(HOSTNAME).read_text() == "edge-07\n"
    (card,) = json.loads(node.file(NETWORK_JSON).read_text())["interfaces"]
    assert card["addresses"] == ["192.0.2.7/24"]
    published = json.loads(node.file("/run/kubesolo/config.json").read_text())
    assert published["files"]["user-data"] == [HOSTNAME]
    assert node.file(RECORD).stat().st_mode & 0o777 == 0o600
    assert "outcome: applied" in (seed / RESULT_NAME).read_text()


def test_a_second_boot_changes_nothing_and_imports_neither_yaml_nor_pydantic(
    node: FakeNode, seed: Path
) -> None:
    write(seed, {"user-data": data(), "meta-data": meta("a")})
    node.boot()
    node.file(HOSTNAME).write_text("by-hand\n")
    before = node.file(RECORD).read_bytes()
    script = (
        "import sys; from pathlib import Path\n"
        "from product.cloudinit.tests.support_node import FakeNode, DISK, ESP\n"
        "from product.cloudinit.boot import Boot\n"
        "node = FakeNode.__new__(FakeNode); node.__dict__ = eval(sys.argv[1], {'Path': Path})\n"
        "print(Boot(node, DISK, ESP).run().outcome)\n"
        "print([name for name in ('yaml', 'pydantic', 'hashlib') if name in sys.modules])\n"
    )
    state = repr(vars(node)).replace("PosixPath(", "Path(")
    done = subprocess.run(
        [sys.executable, "-c", script, state], capture_output=True, text=True, check=True
    )
    outcome, imported = done.stdout.splitlines()
    assert outcome == "unchanged"
    # Python 3.11 has no _sha2.
    assert imported == ("[]" if sys.version_info >= (3, 12) else "['hashlib']")
    assert node.file(HOSTNAME).read_text() == "by-hand\n"
    assert node.file(RECORD).read_bytes() == before


def test_a_bad_file_applies_nothing_of_itself(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": BAD, "meta-data": meta("a"), "network-config": STATIC})
    found = node.boot()
    assert found.outcome == "partly"
    (problem,) = found.problems
    assert problem.startswith("user-data of the seed disk /dev/sdb, line 3, column 1: hostnam")
    assert not node.file(HOSTNAME).exists()
    assert node.file(NETWORK_JSON).exists()
    assert problem in (seed / RESULT_NAME).read_text()
    # The next boot says the same.
    assert node.boot().problems == (problem,)
    write(seed, {"user-data": data()})
    assert node.boot().outcome == "applied"
    assert node.file(HOSTNAME).read_text() == "edge-07\n"


def test_a_bad_seed_leaves_what_was_applied(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": data(), "meta-data": meta("a")})
    node.boot()
    write(seed, {"user-data": BAD, "meta-data": meta("b")})
    found = node.boot()
    assert (found.outcome, found.instance_id) == ("refused", "a")
    assert node.file(HOSTNAME).read_text() == "edge-07\n"


def test_a_changed_file_under_the_same_instance_is_said_and_not_applied(
    node: FakeNode, seed: Path
) -> None:
    write(seed, {"user-data": data(), "meta-data": meta("a")})
    node.boot()
    write(seed, {"user-data": data("edge-08")})
    for _ in range(2):
        found = node.boot()
        (problem,) = found.problems
        assert "has changed, and instance-id is a" in problem
        assert node.file(HOSTNAME).read_text() == "edge-07\n"


def test_another_instance_applies_everything_and_forgets_what_only_the_last_one_wanted(
    node: FakeNode, seed: Path
) -> None:
    note = "write_files: [{path: /etc/kubesolo/site/note, content: rack 3}]\n"
    write(seed, {"user-data": data("edge-07", note), "meta-data": meta("a")})
    node.boot()
    assert node.file(NOTE).read_text() == "rack 3"
    write(seed, {"user-data": data("edge-08"), "meta-data": meta("b")})
    assert node.boot().outcome == "applied"
    assert node.file(HOSTNAME).read_text() == "edge-08\n"
    assert not node.file(NOTE).exists()


def test_what_was_edited_is_not_removed_with_its_instance(node: FakeNode, seed: Path) -> None:
    note = "write_files: [{path: /etc/kubesolo/site/note, content: rack 3}]\n"
    write(seed, {"user-data": data("edge-07", note), "meta-data": meta("a")})
    node.boot()
    node.file(NOTE).write_text("rack 4")
    write(seed, {"user-data": data("edge-08"), "meta-data": meta("b")})
    node.boot()
    assert node.file(NOTE).read_text() == "rack 4"


def test_without_an_instance_id_a_changed_file_is_a_new_instance(
    node: FakeNode, seed: Path
) -> None:
    write(seed, {"user-data": data()})
    assert (node.boot().instance_id or "").startswith("sha256:")
    write(seed, {"user-data": data("edge-08")})
    assert node.boot().outcome == "applied"
    assert node.file(HOSTNAME).read_text() == "edge-08\n"


def test_an_empty_updates_block_leaves_update_conf_alone(node: FakeNode, seed: Path) -> None:
    write(node.file("/etc/kubesolo"), {"update.conf": "server=http://by-hand.example\n"})
    write(seed, {"user-data": data("edge-07", "updates: {}\n")})
    node.boot()
    assert node.file(CONF).read_text() == "server=http://by-hand.example\n"


def test_a_pulled_seed_leaves_what_was_applied_also_before_one_that_stood_behind_it(
    node: FakeNode, seed: Path
) -> None:
    write(node.esp / "kubesolo", {"user-data": data("by-flash")})
    write(seed, {"user-data": data(), "meta-data": meta("a")})
    node.boot()
    node.unplug("sdb")
    found = node.boot()
    assert (found.outcome, found.instance_id, found.problems) == ("unchanged", "a", ())
    assert node.file(HOSTNAME).read_text() == "edge-07\n"
    # Once it changes, it counts.
    write(node.esp / "kubesolo", {"user-data": data("by-flash-2")})
    assert node.boot().outcome == "applied"
    assert "outcome: applied" in (node.esp / "kubesolo" / RESULT_NAME).read_text()


def test_the_images_default_gives_way_and_spares_what_was_edited(node: FakeNode) -> None:
    default = node.file("/usr/lib/kubesolo/config")
    write(default, {"user-data": data("factory", "final_message: one\n")})
    assert node.boot().outcome == "applied"
    node.file(HOSTNAME).write_text("by-hand\n")
    write(default, {"user-data": data("factory-2", "final_message: two\n")})
    assert node.boot().outcome == "applied"
    assert node.file(HOSTNAME).read_text() == "by-hand\n"
    assert node.file("/etc/kubesolo/final_message").read_text() == "two\n"
    write(node.disk("sdb", fat("cidata")), {"user-data": data(), "meta-data": meta("a")})
    node.boot()
    node.unplug("sdb")
    write(default, {"user-data": data("factory-3")})
    assert node.boot().outcome == "unchanged"
    assert node.file(HOSTNAME).read_text() == "edge-07\n"


def test_two_seeds_apply_nothing_and_are_named_at_every_boot(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": data()})
    write(node.disk("sdc", iso("cidata")), {"user-data": data("other")})
    for _ in range(2):
        found = node.boot()
        assert found.outcome == "refused"
        assert "/dev/sdb (vfat) and /dev/sdc (iso9660)" in found.problems[0]
    assert not node.file(HOSTNAME).exists()


def test_the_name_of_meta_data_counts_where_user_data_has_none(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": "#cloud-config\n", "meta-data": "local-hostname: edge-09\n"})
    assert node.boot().outcome == "applied"
    assert node.file(HOSTNAME).read_text() == "edge-09\n"


def test_the_network_of_user_data_counts_where_the_file_of_its_own_is_bad(
    node: FakeNode, seed: Path
) -> None:
    own = "network:\n  " + STATIC.replace("\n", "\n  ")
    write(seed, {"user-data": data("edge-07", own), "network-config": "version: 1\n"})
    assert node.boot().outcome == "partly"
    assert "192.0.2.7/24" in node.file(NETWORK_JSON).read_text()
    other = STATIC.replace("192.0.2.7", "192.0.2.8")
    write(seed, {"network-config": other, "meta-data": meta("b")})
    assert node.boot().outcome == "applied"
    assert "192.0.2.8/24" in node.file(NETWORK_JSON).read_text()


def test_a_file_is_appended_to_once(node: FakeNode, seed: Path) -> None:
    node.file(NOTE).parent.mkdir(parents=True)
    node.file(NOTE).write_text("one\n")
    more = "write_files: [{path: /etc/kubesolo/site/note, content: two, append: true}]\n"
    write(seed, {"user-data": data("edge-07", more), "meta-data": meta("a")})
    node.boot()
    node.boot()
    assert node.file(NOTE).read_text() == "one\ntwo"


def test_appending_destroys_and_repeats_nothing(
    node: FakeNode, seed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.file(NOTE).parent.mkdir(parents=True)
    node.file(NOTE).write_text("mine\n")
    more = "write_files: [{path: /etc/kubesolo/site/note, content: two, append: true}]\n"
    write(seed, {"user-data": data("edge-07", more), "meta-data": meta("a")})
    real = os.chmod
    # The power fails, or the disk is full, in the middle of the plan.
    with monkeypatch.context() as patched:
        patched.setattr("product.cloudinit.boot.os.chmod", no_space)
        assert node.boot().outcome == "refused"
    assert real is os.chmod
    assert node.boot().outcome == "applied"
    assert node.file(NOTE).read_text() == "mine\ntwo"
    write(seed, {"user-data": data("edge-08"), "meta-data": meta("b")})
    assert node.boot().outcome == "applied"
    assert node.file(NOTE).read_text() == "mine\ntwo"


def no_space(path: str, *_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", path)


def test_a_file_that_is_too_large_to_append_to_leaves_all_as_it_was_and_is_tried_again(
    node: FakeNode, seed: Path
) -> None:
    node.file(NOTE).parent.mkdir(parents=True)
    with node.file(NOTE).open("wb") as stream:
        stream.truncate((1 << 24) + 1)
    more = "write_files: [{path: /etc/kubesolo/site/note, content: two, append: true}]\n"
    write(seed, {"user-data": data("edge-07", more), "meta-data": meta("a")})
    assert node.boot().outcome == "refused"
    assert not node.file(HOSTNAME).exists()
    node.file(NOTE).write_text("")
    assert node.boot().outcome == "applied"


def test_what_an_instance_does_not_want_any_more_goes_once_all_of_it_is_applied(
    node: FakeNode, seed: Path
) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmP2fJCRCYxLPb2pvBYJBwhuY2TF7Zb4gZFfIWKCQ/H a\n"
    keys = node.file("/etc/kubesolo/authorized_keys")
    write(
        seed,
        {
            "user-data": data("edge-07", f"ssh_authorized_keys: [{key.strip()}]\n"),
            "meta-data": meta("a"),
        },
    )
    node.boot()
    assert keys.exists()
    write(seed, {"user-data": data(), "meta-data": meta("b"), "network-config": "version: 1\n"})
    assert node.boot().outcome == "partly"
    assert keys.exists()
    write(seed, {"network-config": STATIC})
    assert node.boot().outcome == "applied"
    assert not keys.exists()


def test_another_instance_leaves_what_the_node_follows_updates_by(
    node: FakeNode, seed: Path
) -> None:
    write(
        seed,
        {
            "user-data": data("edge-07", "updates: {server: http://updates.example}\n"),
            "meta-data": meta("a"),
        },
    )
    node.boot()
    write(seed, {"user-data": data("edge-08", "updates: {}\n"), "meta-data": meta("b")})
    assert node.boot().outcome == "applied"
    assert "updates.example" in node.file(CONF).read_text()


def test_an_older_seed_disk_counts_again(node: FakeNode, seed: Path) -> None:
    files = {"user-data": data("one"), "meta-data": meta("1")}
    write(node.esp / "kubesolo", files)
    node.unplug("sdb")
    node.boot()
    write(node.disk("sdc", fat("cidata")), {"user-data": data("two"), "meta-data": meta("2")})
    node.boot()
    node.unplug("sdc")
    write(node.disk("sdd", fat("cidata")), files)
    assert node.boot().outcome == "applied"
    assert node.file(HOSTNAME).read_text() == "one\n"


def test_what_nobody_thought_of_does_not_stop_a_boot(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr("product.cloudinit.sources.settle", broken)
    lines: list[str] = []
    assert main(["/dev/vda", "/dev/vda1"], lines.append, node) == 0
    assert lines == ["problem configuration: it failed: RuntimeError: no such thing"]
    published = json.loads(node.file("/run/kubesolo/config.json").read_text())
    assert published["outcome"] == "refused"


def test_a_locked_stick_is_applied_all_the_same(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": data()})
    node.locked.add("/dev/sdb")
    assert node.boot().outcome == "applied"
    assert not (seed / RESULT_NAME).exists()


def test_meta_data_that_cannot_be_read_applies_nothing(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": data(), "meta-data": "instance-id: [\n"})
    found = node.boot()
    assert found.outcome == "refused"
    assert "meta-data of the seed disk /dev/sdb, line" in found.problems[0]
    assert not node.file(HOSTNAME).exists()


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"schema": 2}', b"\xff", b"null"])
def test_a_record_that_is_garbage_is_put_aside_and_said(
    node: FakeNode, seed: Path, garbage: bytes
) -> None:
    write(seed, {"user-data": data(), "meta-data": meta("a")})
    node.file(RECORD).parent.mkdir(parents=True)
    node.file(RECORD).write_bytes(garbage)
    found = node.boot()
    assert (found.outcome, len(found.problems)) == ("applied", 1)
    assert "garbage" in found.problems[0]
    assert node.file(f"{RECORD}.bad").read_bytes() == garbage
    assert node.file(HOSTNAME).read_text() == "edge-07\n"
    assert node.boot().problems == ()


def test_what_cannot_be_written_is_tried_again(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": data(), "meta-data": meta("a")})
    blocker = node.file("/etc/kubesolo")
    blocker.parent.mkdir(parents=True)
    blocker.write_text("")
    found = node.boot()
    assert found.outcome == "refused"
    assert "cannot write" in found.problems[0]
    blocker.unlink()
    assert node.boot().outcome == "applied"


def test_a_server_is_waited_for(node: FakeNode) -> None:
    node.serial("ds=nocloud;s=http://192.0.2.1/seed/")
    assert node.boot().outcome == "waiting"
    assert node.file("/run/kubesolo/seed-url").read_text() == "http://192.0.2.1/seed/\n"


def test_main_marks_what_is_a_problem(node: FakeNode, seed: Path) -> None:
    write(seed, {"user-data": BAD})
    lines: list[str] = []
    assert main(["/dev/vda", "/dev/vda1"], lines.append, node) == 0
    assert [line.partition(" ")[0] for line in lines] == ["problem"]
