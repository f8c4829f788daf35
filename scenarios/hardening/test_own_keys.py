"""Whole chain with an owner's keys: the firmware trusts them alone, and nothing unsigned runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Images
from harness.faults.http import WebServer
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node, State
from product.disk.boot_files import kernel_arguments
from product.disk.loader import IN_ROOT
from product.image.cache import Cache
from product.image.secure_boot import authenticode
from product.image.secure_boot.keys import LoaderKind, Signing
from product.image.tools import HostTools
from product.manifest import ARGUMENTS_NAME, UNIFIED_NAME, UNIFIED_SIGNATURE_NAME
from scenarios.own_keys import SMBIOS, Owner, trusting, with_mok
from scenarios.releases import GOOD, Releases
from scenarios.steps import Update, failed_for, offer, on_slot

Begin = Callable[..., Update]
Serve = Callable[..., Update]
Factory = Callable[..., Node]

SHELL = "kubesolo.shell"
GRUB_CFG = "/run/look/EFI/debian/grub.cfg"


def _on_efi(command: str) -> str:
    """The command with the EFI partition at /run/look."""
    return (
        "mkdir -p /run/look && mount -t vfat /dev/vda1 /run/look && "
        f"{command} && umount /run/look && sync"
    )


def _edit(file: str, expression: str, word: str) -> str:
    """The command by which sed puts ``word`` into the file; it fails where it did not."""
    return f"sed -i '{expression}' {file} && grep -qa '{word}' {file}"


@pytest.fixture(scope="module")
def owner(harness_cache: Path) -> Owner:
    """Whose image it is."""
    return Owner(harness_cache / "own-keys", "owner")


@pytest.fixture(scope="module")
def successor(harness_cache: Path) -> Owner:
    """The owner's next keys."""
    return Owner(harness_cache / "own-keys", "successor")


@pytest.fixture(scope="module")
def stranger(harness_cache: Path) -> Owner:
    """Somebody whom no firmware here trusts."""
    return Owner(harness_cache / "own-keys", "stranger")


# The image under test and its releases are the owner's.
@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools, harness_cache: Path) -> Images:
    mine = Owner(harness_cache / "own-keys", "owner")
    return Images(cache, host_tools, signing=Signing((mine.signer,)))


@pytest.fixture
def node(
    machine_factory: Factory, arch: Arch, owner: Owner, cache: Cache, host_tools: HostTools
) -> Node:
    """A node whose firmware trusts the owner alone."""
    variables = trusting(arch, owner, cache, host_tools)
    return machine_factory("node", variables=variables, smbios=SMBIOS)


def _command_line(node: Node) -> str:
    return node.succeed("cat /proc/cmdline").text.strip()


def _expected(release_files: Path) -> str:
    line = kernel_arguments((release_files / ARGUMENTS_NAME).read_bytes(), "the release")
    return f"{line} no_timer_check"


@scenario(secure_boot=True)
def test_the_owners_key_alone_starts_it(node: Node, images: Images, arch: Arch) -> None:
    node.power_on()
    node.wait_console("kubesolo: boot slot=A", seconds=40, since=0)
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert node.status().secure_boot == "on"
    assert node.status().problems == []
    assert "Kernel is locked down from EFI Secure Boot" in node.succeed("dmesg").text
    # The signed one, to the letter; no word of GRUB's.
    assert _command_line(node) == _expected(images[arch].slot.folder)


@scenario(secure_boot=True)
def test_an_update_is_judged_and_confirmed(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with node.expect_boots(1) as boots:
        ready = update.install()
    assert boots.slots == ["B"]
    assert boots.counters == [2]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert node.status().environment.boot_success is True


@scenario(secure_boot=True)
def test_three_failed_boots_roll_back(node: Node, releases: Releases, begin_after: Begin) -> None:
    update = begin_after(Update.stage, releases.panicking_init)
    with node.expecting(Pattern.INIT_EXITED, times=3), node.expect_boots(4) as boots:
        node.reboot()
    ready = node.wait_ready()
    assert boots.slots == ["B", "B", "B", "A"]
    assert boots.counters[:3] == [2, 1, 0]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    said = node.status().update.last_error
    assert said == f"rolled back: 3 failed boots of {update.release.version}"


def _changed(releases: Releases, owner: Owner, stranger: Owner, what: str) -> dict[str, bytes]:
    """Files of the good release that somebody with the disk replaces: with a changed ``byte`` of
    the command line, signed by a ``stranger``, Debian's ``kernel``, or ``bare`` of the signature
    that the firmware looks at."""
    program = (releases.slot(GOOD).folder / UNIFIED_NAME).read_bytes()
    if what == "byte":
        changed = program.replace(b"panic=1", b"panic=2", 1)
        assert changed != program
        return {UNIFIED_NAME: changed}
    if what == "stranger":
        foreign = Signing((stranger.signer,))
        changed = foreign.program(program)
        return {UNIFIED_NAME: changed, UNIFIED_SIGNATURE_NAME: foreign.detached(changed, 0)}
    if what == "kernel":
        return {UNIFIED_NAME: releases.slot(GOOD).kernel.read_bytes()}
    # GRUB's own signature is there, the firmware's is not.
    bare = authenticode.strip(program)
    signature = Signing((owner.signer,)).detached(bare, 0)
    return {UNIFIED_NAME: bare, UNIFIED_SIGNATURE_NAME: signature}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        pytest.param("byte", "error: bad signature", id="byte"),
        pytest.param("stranger", r"error: public key \w+ not found", id="stranger"),
        pytest.param("kernel", "error: bad signature", id="kernel"),
        pytest.param("bare", "error: cannot load image", id="bare"),
    ],
)
@scenario(secure_boot=True)
def test_a_release_of_others_spends_its_tries(
    node: Node,
    releases: Releases,
    begin_after: Begin,
    owner: Owner,
    stranger: Owner,
    what: str,
    said: str,
) -> None:
    begin_after(Update.stage, releases.good)
    for name, content in _changed(releases, owner, stranger, what).items():
        node.put(content, f"/run/{name}")
        node.succeed(on_slot(node, "B", f"cp /run/{name} /run/look/{name}"), seconds=60)
    with node.expecting(Pattern.GRUB, times=3), node.expect_boots(4) as boots:
        node.reboot()
    ready = node.wait_ready()
    failed_for(boots, said, "kubesolo: boot failed slot=B: linux.efi does not start")
    assert boots.slots == ["B", "B", "B", "A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)


@scenario(secure_boot=True)
def test_what_the_disk_says_to_grub_has_no_effect(node: Node, images: Images, arch: Arch) -> None:
    node.at(State.READY, slot="A")
    local = f"echo 'set local_arguments={SHELL}' > /run/look/boot/local.cfg"
    changed = _edit(GRUB_CFG, f"s/^set local_arguments=$/&{SHELL}/", SHELL)
    node.succeed(_on_efi(f"{local} && {changed}"))
    # The command line of every other image.
    line = _edit("/run/look/kernel.env", f"s/panic=1/{SHELL}/", SHELL)
    node.succeed(on_slot(node, "A", line))
    node.reboot()
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert _command_line(node) == _expected(images[arch].slot.folder)


@scenario(secure_boot=True)
def test_debians_boot_loader_does_not_start(
    node: Node, cache: Cache, host_tools: HostTools, arch: Arch
) -> None:
    """It would start Debian's kernel with any initramfs; this firmware lacks Microsoft's key."""
    node.at(State.READY, slot="A")
    plain = Images(cache, host_tools).builder(arch.value).loader() / IN_ROOT / "EFI/BOOT"
    for path in plain.iterdir():
        node.put(path.read_bytes(), f"/run/{path.name}")
        node.succeed(_on_efi(f"cp /run/{path.name} /run/look/EFI/BOOT/{path.name}"))
    since = node.journal.cursor
    with node.tolerating(Pattern.FIRMWARE), node.expect_boots(0) as boots:
        node.reboot()
        node.wait_console("BdsDxe: failed to load .*: Access Denied", seconds=60, since=since)
    assert boots.slots == []


@scenario(secure_boot=True)
def test_a_key_is_replaced_by_updates(
    machine_factory: Factory,
    webserver: Callable[[Path], WebServer],
    releases_of: Callable[[Images], Releases],
    arch: Arch,
    owner: Owner,
    successor: Owner,
    cache: Cache,
    host_tools: HostTools,
) -> None:
    """By a release of both keys, whose boot loader then starts one of the new key alone."""
    firmware = trusting(arch, owner, cache, host_tools, successor)
    node = machine_factory("node", variables=firmware, smbios=SMBIOS)
    node.at(State.READY, slot="A")
    both, new = (
        releases_of(Images(cache, host_tools, signing=Signing(signers)))
        for signers in ((owner.signer, successor.signer), (successor.signer,))
    )
    first = both.sign("of-both-keys", both.good.slot)
    server = webserver(first.repository)
    offer(node, first, server)
    since = node.journal.cursor
    ready = Update(node, first, server).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    node.wait_console("kubesolo-update: boot loader of 0.2.0 installed", since=since)
    second = both.publish_next(first, new.newer.slot)
    since = node.journal.cursor
    ready = Update(node, second, server).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.3.0", "A", True)
    node.wait_console("kubesolo-update: boot loader of 0.3.0 installed", since=since)
    node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.3.0", "A", True)
    assert node.status().problems == []


@pytest.mark.parametrize("trusted", ["owner", "successor"])
@scenario(secure_boot=True)
def test_a_release_of_both_keys_starts_with_either(
    machine_factory: Factory,
    arch: Arch,
    owner: Owner,
    successor: Owner,
    cache: Cache,
    host_tools: HostTools,
    trusted: str,
) -> None:
    both = Images(cache, host_tools, signing=Signing((owner.signer, successor.signer)))
    firmware = trusting(arch, {"owner": owner, "successor": successor}[trusted], cache, host_tools)
    node = machine_factory(
        "node", image=both[arch].disk, variables=firmware, smbios=SMBIOS
    )  # fmt: skip
    node.power_on()
    node.wait_console("kubesolo: boot slot=A", seconds=40, since=0)
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert node.status().secure_boot == "on"


@scenario(secure_boot=True)
def test_after_the_change_a_release_of_the_old_key_is_refused(
    machine_factory: Factory,
    arch: Arch,
    successor: Owner,
    cache: Cache,
    host_tools: HostTools,
) -> None:
    """The image under test has the old key alone; the firmware has the new one."""
    firmware = trusting(arch, successor, cache, host_tools)
    node = machine_factory("node", variables=firmware, smbios=SMBIOS)
    node.power_on()
    with node.tolerating(Pattern.FIRMWARE), node.expect_boots(0) as boots:
        node.wait_console("BdsDxe: failed to load .*: Access Denied", seconds=60, since=0)
    assert boots.slots == []


@scenario(secure_boot=True)
def test_by_way_of_the_shim_the_command_line_is_the_signed_one(
    machine_factory: Factory, arch: Arch, owner: Owner, cache: Cache, host_tools: HostTools
) -> None:
    """MOK beside Microsoft's keys: the slot's file is judged; what GRUB reads is not."""
    signing = Signing((owner.signer,), LoaderKind.SHIM)
    image = Images(cache, host_tools, signing=signing)[arch]
    node = machine_factory(
        "node",
        image=image.disk,
        variables=with_mok(arch, owner, cache, host_tools),
        smbios=SMBIOS,
    )
    node.power_on()
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("A", True)
    words = f"{SHELL} kubesolo.slot=B"
    node.succeed(_on_efi(_edit(GRUB_CFG, f"s/chainloader .linux.efi/& {words}/", f"efi {words}")))
    node.reboot()
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert _command_line(node) == _expected(image.slot.folder)
