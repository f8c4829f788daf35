"""Data at rest: what a disk gives to who has it, and what opens it again."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.faults.http import WebServer
from harness.faults.stick import CONTROLLER, Stick
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from product.encryption import wish
from product.encryption.luks import MAGIC
from product.encryption.stick import LABEL
from product.encryption.wish import Kind
from product.image.cache import Cache
from product.image.flash import flash
from product.image.seed import seed_image
from product.image.tools import IMAGES, HostTools
from scenarios.releases import Releases
from scenarios.steps import Update, offer, read_data, write_data

if TYPE_CHECKING:
    from conftest import Images

# What the node writes to its data partition, and nobody shall find on the disk.
PLANTED = "a-tenant-s-secret-4711"
RECOVERY_KEY = r"recovery key of this node's data, shown this once: ([a-z-]{71})$"
ASKED = r"data partition: type the recovery key"

Flashed = Callable[..., Path]


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image with the extension."""
    from conftest import Images

    return Images(cache, host_tools, recipe=IMAGES / "appliance-encryption.toml")


@pytest.fixture
def flashed(
    images: Images, arch: Arch, cache: Cache, host_tools: HostTools, tmp_path: Path
) -> Flashed:
    """A disk image as ``flash --encrypt`` writes it, or with no wish."""

    def make(kind: Kind | None, image: Path | None = None) -> Path:
        target = tmp_path / f"flashed-{kind}.img"
        files = {} if kind is None else {wish.NAME: wish.write(kind)}
        with cache.scratch("flash") as work:
            flash(image or images[arch.value].disk, target, host_tools, work, files=files)
        return target

    return make


def _raw(node: Node, tools: HostTools, target: Path) -> Path:
    """What somebody reads who takes the disk of a node that is off."""
    disk = node.machine.storage.disk
    argv = tools.argv("qemu-img", "convert", "-O", "raw", str(disk), str(target))
    subprocess.run(argv, check=True)
    return target


def _holds(disk: Path, words: str) -> bool:
    """Whether the raw disk holds the words anywhere."""
    return subprocess.run(["grep", "-q", "-a", "-F", words, str(disk)], check=False).returncode == 0


def _plant(node: Node) -> None:
    write_data(node, PLANTED)
    node.succeed("sync")


def _early(node: Node) -> dict[str, str]:
    lines = node.succeed("cat /run/kubesolo/early").text.splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def _key_shown(node: Node, since: int = 0) -> str:
    (key,) = node.wait_console(RECOVERY_KEY, since=since)
    assert key is not None
    return key


@scenario(arch="x86_64", tpm=True)
def test_a_disk_in_other_hands_gives_nothing(
    machine_factory: Callable[..., Node],
    flashed: Flashed,
    host_tools: HostTools,
    tmp_path: Path,
) -> None:
    """The TPM opens it at each boot; in another machine the recovery key alone does."""
    node = machine_factory("node", image=flashed(Kind.TPM))
    node.boot()
    key = _key_shown(node)
    assert node.status().problems == []
    assert _early(node)["unlocked"] == "tpm"
    assert node.succeed("awk '$2 == \"/mnt/data\" {print $1}' /proc/mounts").text.strip() == (
        "/dev/mapper/kubesolo-data"
    )
    _plant(node)
    # No log keeps what was shown on the console.
    node.fail(["grep", "-r", key.partition("-")[0], "/var/log", "/run/kubesolo"])
    start = node.succeed("cat /sys/class/block/vda4/start").text
    since = node.journal.cursor
    node.reboot()
    node.wait_console("data partition: opened by the TPM", since=since)
    node.wait_ready()
    assert read_data(node) == PLANTED
    said = node.succeed("kubesolo-data status").text
    assert re.search(r"opened by: +tpm\nkeys: +tpm, recovery\nTPM: +present$", said), said
    node.target.quit()
    raw = _raw(node, host_tools, tmp_path / "stolen.img")
    with raw.open("rb") as stream:
        stream.seek(int(start) * 512)
        assert stream.read(len(MAGIC)) == MAGIC
    assert not _holds(raw, PLANTED), "the disk holds what the node wrote"

    # A TPM with another seed: to the disk that is another machine.
    shutil.rmtree(node.machine.tpm_state)
    since = node.journal.cursor
    position = node.target.console.position
    node.power_on()
    node.wait_console(
        "problem: data partition: the TPM does not open it: this TPM did not seal", since=since
    )
    terminal = node.expect(seconds=60, since=position)
    terminal.expect(ASKED)
    terminal.send("c" * 64 + "\r")
    terminal.expect("that is not its recovery key")
    terminal.send(key.replace("-", " ").upper() + "\r")
    node.wait_ready()
    assert read_data(node) == PLANTED
    assert _early(node)["unlocked"] == "recovery"
    # From now on this machine opens it by itself, with the key that the owner types once more.
    enrol = node.run(["kubesolo-data", "enroll", "tpm"], stdin=f"{key}\n".encode(), seconds=120)
    assert (enrol.exit, enrol.text) == (0, "enrolled: tpm"), enrol
    since = node.journal.cursor
    node.reboot()
    node.wait_console("data partition: opened by the TPM", since=since)
    node.wait_ready()
    assert node.status().problems == []
    assert read_data(node) == PLANTED


@scenario(arch="x86_64", tpm=True)
def test_a_disk_that_is_not_encrypted_gives_everything(
    machine_factory: Callable[..., Node],
    flashed: Flashed,
    host_tools: HostTools,
    tmp_path: Path,
) -> None:
    """The look at the disk finds what is there: without the wish nothing is encrypted."""
    node = machine_factory("node", image=flashed(None))
    node.boot()
    assert "not encrypted" in node.succeed("kubesolo-data status").text
    _plant(node)
    node.target.quit()
    assert _holds(_raw(node, host_tools, tmp_path / "stolen.img"), PLANTED)


@scenario(arch="x86_64", tpm=True)
def test_an_update_and_a_rollback_keep_the_data(
    machine_factory: Callable[..., Node],
    flashed: Flashed,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    """Another kernel, another root: PCR 7 has neither, so the TPM gives the key."""
    node = machine_factory("node", image=flashed(Kind.TPM))
    node.boot()
    _key_shown(node)
    _plant(node)
    server = webserver(releases.good.repository)
    offer(node, releases.good, server)
    ready = Update(node, releases.good, server).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert (_early(node)["unlocked"], read_data(node)) == ("tpm", PLANTED)
    since = node.journal.cursor
    node.succeed(["kubesolo-update", "rollback"])
    node.reboot()
    node.wait_console("data partition: opened by the TPM", since=since)
    ready = node.wait_ready()
    assert (ready.version, ready.slot) == ("0.1.0", "A")
    assert (node.status().problems, read_data(node)) == ([], PLANTED)


@scenario(arch="x86_64", tpm=True)
def test_power_cuts_while_the_disk_is_encrypted(
    machine_factory: Callable[..., Node], flashed: Flashed
) -> None:
    """Each next boot begins anew until the data is whole; a key that was cut off is made again."""
    node = machine_factory("node", image=flashed(Kind.TPM))
    for moment in (
        r"kubesolo: first boot: making",
        r"kubesolo: made the encrypted data file system",
        r"kubesolo: data partition: opened by the TPM",
    ):
        since = node.journal.cursor if node.started else 0
        node.power_on()
        node.wait_console(moment, since=since)
        node.power_cut()
    since = node.journal.cursor
    ready = node.boot()
    assert ready.confirmed
    status = node.status()
    assert (status.problems, status.boot.data) == ([], "persistent")
    assert "recovery" in node.succeed("kubesolo-data status").text


@scenario(arch="x86_64", extra=CONTROLLER)
def test_a_stick_with_the_key(
    machine_factory: Callable[..., Node],
    flashed: Flashed,
    host_tools: HostTools,
    tmp_path: Path,
) -> None:
    """It is there at the first boot, and comes late at the next one; then it may be pulled."""
    node = machine_factory("node", image=flashed(Kind.USB))
    image = seed_image(tmp_path / "key", {"README": b"keys"}, label=LABEL, tools=host_tools)
    node.power_on()
    stick = Stick(node.machine, image, writable=True)
    stick.plug()
    node.wait_ready()
    _key_shown(node)
    assert node.status().problems == []
    assert _early(node)["unlocked"] == "usb"
    _plant(node)
    stick.pull()
    assert read_data(node) == PLANTED
    since = node.journal.cursor
    node.reboot()
    node.wait_console("stage 20-data", since=since)
    stick.plug()
    node.wait_console("data partition: opened by the key on the stick", since=since)
    node.wait_ready()
    assert read_data(node) == PLANTED


@scenario(arch="x86_64", tpm=True)
def test_an_image_without_the_extension_leaves_it_alone(
    machine_factory: Callable[..., Node],
    flashed: Flashed,
    cache: Cache,
    host_tools: HostTools,
    releases_of: Callable[[Images], Releases],
    webserver: Callable[[Path], WebServer],
) -> None:
    """It says so, runs from memory, fails each health check, and the slot before has the data."""
    from conftest import Images

    plain = Images(cache, host_tools)
    node = machine_factory("node", image=flashed(Kind.TPM))
    node.boot()
    _plant(node)
    release = releases_of(plain).good
    server = webserver(release.repository)
    offer(node, release, server)
    update = Update(node, release, server)
    update.stage()
    since = node.journal.cursor
    with node.expect_boots(4) as boots:
        node.reboot()
        node.wait_console(
            f"problem: data partition: {node.partition(4)} is encrypted, "
            "and this image has no extension 'encryption'; running from memory",
            since=since,
        )
    assert boots.slots == ["B", "B", "B", "A"]
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert (_early(node)["unlocked"], read_data(node)) == ("tpm", PLANTED)


@scenario(arch="x86_64")
def test_a_wish_that_the_image_cannot_fulfil(
    machine_factory: Callable[..., Node], flashed: Flashed, cache: Cache, host_tools: HostTools
) -> None:
    """Nothing is kept that would lie on the disk in the clear."""
    from conftest import Images

    plain = Images(cache, host_tools)
    node = machine_factory("node", image=flashed(Kind.TPM, plain["x86_64"].disk))
    node.power_on()
    node.wait_console(
        "problem: data partition: it shall be encrypted, and this image has no extension "
        "'encryption'; running from memory, nothing will be kept",
        since=0,
    )
    node.wait_ready()
    assert node.status().boot.data == "volatile"


@scenario(arch="x86_64")
def test_a_wish_for_a_tpm_that_is_not_there(
    machine_factory: Callable[..., Node], flashed: Flashed
) -> None:
    """The same; the next boot of a machine that has one makes the data."""
    node = machine_factory("node", image=flashed(Kind.TPM))
    node.power_on()
    node.wait_console(
        "problem: data partition: it was not encrypted: this machine has no TPM 2.0", since=0
    )
    node.wait_ready()
    assert node.status().boot.data == "volatile"
    node.target.quit()
    node.machine.spec = node.machine.spec.model_copy(update={"tpm": True})
    node.boot()
    assert (node.status().boot.data, _early(node)["unlocked"]) == ("persistent", "tpm")
