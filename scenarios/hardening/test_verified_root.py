"""A root that rotted or was tampered with ends its boot by name, of a confirmed slot too.

One byte is changed each time. The release has a file that nothing reads, of bytes that do not
compress: they lie in the image as they are, so that its place there is known.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable

import pytest

from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.manifest import ARGUMENTS_NAME, MANIFEST_NAME, ROOT_NAME
from scenarios.releases import GOOD, Release, Releases
from scenarios.steps import Update, failed_for, on_slot, read_data, write_data

Begin = Callable[..., Update]
Serve = Callable[..., Update]

UNREAD = "usr/share/unread"
# Of the file system's block: it lies in the image without its neighbours.
UNREAD_SIZE = 4 * 64 * 1024
# Of a squashfs's first block: when it was made, which nothing asks for.
MADE_AT = 8
BLOCK = 4096
CORRUPT = "boot failed: root.squashfs of slot B is corrupt: it does not match its root hash"
NOT_VERIFIED = "the root is not verified: the command line gives no root hash"


@pytest.fixture(scope="module")
def release(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The good release with the file that nothing reads."""
    overlay = tmp_path_factory.mktemp("overlay")
    file = overlay / UNREAD
    file.parent.mkdir(parents=True)
    file.write_bytes(random.Random(UNREAD).randbytes(UNREAD_SIZE))
    return releases.with_overlay("with-an-unread-file", GOOD, overlay)


def _root(release: Release) -> bytes:
    return (release.slot.folder / ROOT_NAME).read_bytes()


def _unread_at(data: bytes) -> int:
    """Where the third block of the unread file lies in the image."""
    content = random.Random(UNREAD).randbytes(UNREAD_SIZE)
    return data.index(content[2 * 64 * 1024 : 3 * 64 * 1024])


PLACES: dict[str, Callable[[bytes], int]] = {
    "read": lambda data: MADE_AT,
    "unread": _unread_at,
    # The last byte of the tree: below the last hash.
    "tree": lambda data: len(data) - 1,
}


def _write_byte(file: str, at: int, value: int) -> str:
    return f"printf '\\{value:03o}' | dd of={file} bs=1 seek={at} count=1 conv=notrunc"


def _change(node: Node, release: Release, at: int) -> bytes:
    """Change one byte of slot B's root: the root as it is then."""
    data = bytearray(_root(release))
    data[at] ^= 1
    node.succeed(on_slot(node, "B", _write_byte(f"/run/look/{ROOT_NAME}", at, data[at])))
    return bytes(data)


@scenario(tier="core", core_arch="aarch64")
def test_the_root_is_checked_as_it_is_read(node: Node, releases: Releases) -> None:
    node.at(State.READY, slot="A")
    mounted = node.succeed("grep ' / ' /proc/mounts").text.split()
    assert (mounted[0], mounted[2]) == ("/dev/dm-0", "squashfs")
    arguments = (releases.slot("0.1.0").folder / ARGUMENTS_NAME).read_text().split()
    (word,) = (word for word in arguments if word.startswith("kubesolo.roothash="))
    assert word in node.succeed("cat /proc/cmdline").text.split()
    table = node.succeed("dmsetup table root").text.split()
    assert table[2] == "verity"
    assert word.partition("=")[2] in table
    assert table[-1] == "panic_on_corruption"
    assert node.succeed("dmsetup status root").text.split()[-1] == "V"
    for device in ("/dev/dm-0", "/dev/ram0"):
        assert node.succeed(f"blockdev --getro {device}").text == "1"
    assert node.status().problems == []


@scenario()
@pytest.mark.parametrize("place", list(PLACES))
def test_a_confirmed_slot_with_one_changed_byte_yields_to_the_other(
    node: Node, release: Release, begin_after: Begin, place: str
) -> None:
    begin_after(Update.install, release)
    assert node.status().boot.slot == "B"
    write_data(node, "kept")
    _change(node, release, PLACES[place](_root(release)))
    with node.expect_boots(2) as boots:
        node.reboot()
    ready = node.wait_ready()
    failed_for(boots, CORRUPT, times=1)
    assert boots.slots == ["B", "A"]
    assert boots.successes == [True, False]
    assert boots.saying("slot B yields to slot A") == [True, False]
    # Nothing of the changed root has run.
    assert boots.saying("stage switch_root") == [False, True]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert read_data(node) == "kept"
    problems = node.status().problems
    assert any("slot B could not be started" in problem for problem in problems), problems


@scenario()
def test_a_slot_on_trial_with_a_manifest_that_was_made_to_fit_rolls_back(
    node: Node, release: Release, begin_after: Begin
) -> None:
    update = begin_after(Update.stage, release)
    write_data(node, "kept")
    changed = _change(node, release, MADE_AT)
    manifest = json.loads((release.slot.folder / MANIFEST_NAME).read_bytes())
    for artifact in manifest["artifacts"]:
        if artifact["name"] == ROOT_NAME:
            artifact["sha256"] = hashlib.sha256(changed).hexdigest()
    node.put(json.dumps(manifest), "/run/manifest.json")
    node.succeed(on_slot(node, "B", f"cat /run/manifest.json > /run/look/{MANIFEST_NAME}"))
    said = node.succeed(on_slot(node, "B", f"sha256sum /run/look/{ROOT_NAME}")).text
    assert said.split()[0] == hashlib.sha256(changed).hexdigest()
    with node.expect_boots(4) as boots:
        node.reboot()
    ready = node.wait_ready()
    failed_for(boots, CORRUPT)
    assert boots.slots == ["B", "B", "B", "A"]
    assert boots.counters[:3] == [2, 1, 0]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    said = node.status().update.last_error
    assert said == f"rolled back: 3 failed boots of {update.release.version}"
    assert read_data(node) == "kept"


@scenario()
def test_a_root_that_is_changed_in_memory_ends_the_system(
    node: Node, release: Release, begin_after: Begin
) -> None:
    """By somebody who is root on the node; the next start has what was released."""
    begin_after(Update.install, release)
    data = _root(release)
    at = _unread_at(data)
    change = _write_byte("/dev/ram0", at, data[at] ^ 1)
    node.succeed(f"blockdev --setrw /dev/ram0 && {change} && sync")
    with node.expecting(Pattern.PANIC, times=1), node.expect_boots(1) as boots:
        since = node.journal.cursor
        # In the background: no answer would come.
        drop = "echo 3 > /proc/sys/vm/drop_caches"
        node.succeed(f"{{ sleep 1; {drop}; cat /{UNREAD}; }} > /dev/null 2>&1 &")
        node.wait_console("dm-verity device corrupted", seconds=60, since=since)
    ready = node.wait_ready()
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == (GOOD, "B", True)
    node.succeed(f"cat /{UNREAD} > /dev/null")


@scenario()
def test_a_release_from_before_root_hashes_starts_and_is_reported(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.at(State.READY, slot="A")
    text = (releases.slot(GOOD).folder / ARGUMENTS_NAME).read_text()
    words = [word for word in text.rstrip("#").split(" ") if not word.startswith("kubesolo.root")]
    block = (" ".join(words).rstrip() + "\n").encode().ljust(1024, b"#")
    older = releases.with_file("no-root-hash", GOOD, ARGUMENTS_NAME, block)
    with node.expect_boots(1) as boots:
        ready = serve(older).install()
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == (GOOD, "B", True)
    assert node.succeed("grep -c '^/dev/ram0 / ' /proc/mounts").text == "1"
    assert NOT_VERIFIED in node.status().problems
