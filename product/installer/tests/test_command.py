"""The command as a person and as a boot meet it, on disks in files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from product.disk.pieces import DOCUMENT_NAME
from product.image.media.pieces_of import split
from product.image.tools import HostTools
from product.installer.tests.test_disks import fake
from product.installer.tests.test_write import partitioned
from product.manifest import ARTIFACT_NAMES, Artifact, Manifest

MIB = 1 << 20
COMMAND = [sys.executable, "-m", "product.installer.tests.fake_machine"]


@pytest.fixture
def root(tmp_path: Path, host_tools: HostTools) -> Path:
    """A machine with a medium of 8 MiB, and disks: blank, foreign, too small."""
    medium, image = tmp_path / "medium", tmp_path / "image"
    medium.mkdir()
    partitioned(image, 8 * MIB, host_tools, "KSOLOEFI")
    with image.open("r+b") as stream:
        stream.seek(2 * MIB)
        stream.write(b"x" * MIB)
    artifacts = tuple(Artifact(name, 1, "0" * 64) for name in ARTIFACT_NAMES)
    manifest = Manifest("0.4.0", "x86_64", artifacts)
    document = split(image, {}, medium / "rest.bin")
    (medium / DOCUMENT_NAME).write_bytes(document.to_bytes())
    (medium / "manifest.json").write_bytes(manifest.to_bytes())
    for name, size in (("vda", 12), ("vdb", 12), ("vdc", 2)):
        fake(tmp_path, name, size * MIB, serial=f"serial-{name}\n")
        (tmp_path / "dev" / name).write_bytes(bytes(size * MIB))
    partitioned(tmp_path / "dev/vdb", 12 * MIB, host_tools, "PHOTOS")
    return tmp_path


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, root, *words], capture_output=True, text=True, check=False)


def seed(root: Path, text: str) -> None:
    (root / "seed").mkdir(exist_ok=True)
    (root / "seed/user-data").write_text(f"#cloud-config\nhostname: edge-7\n{text}")


def holds_the_image(root: Path, name: str) -> bool:
    image = (root / "image").read_bytes()
    return (root / "dev" / name).read_bytes()[: len(image)] == image


def test_a_person_chooses_at_the_console(root: Path) -> None:
    before = (root / "dev/vdb").read_bytes()
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], str(root)], encoding="utf-8", timeout=30)
    child.expect(r"  1  /dev/vda .*serial serial-vda  \[empty\]")
    child.expect(r"  2  /dev/vdb .*\[partitions PHOTOS\]")
    child.expect(r"  -  /dev/vdc .*: it is smaller than the 0.0 GB that the system takes")
    child.expect("Number of the disk, or q to leave: ")
    child.sendline("3")
    child.expect("'3' is none of 1 to 2")
    child.sendline("2")
    child.expect("Everything on /dev/vdb will be lost: partitions PHOTOS")
    child.expect("Type /dev/vdb to go on: ")
    child.sendline("/dev/vda")
    child.expect("'/dev/vda' is not /dev/vdb; nothing was written")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 8
    assert (root / "dev/vdb").read_bytes() == before
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], str(root)], encoding="utf-8", timeout=30)
    child.expect("q to leave: ")
    child.sendline("2")
    child.expect("to go on: ")
    child.sendline("/dev/vdb")
    child.expect(r"read back: 100 % \([0-9]+ of [0-9]+ bytes\)")
    child.expect("done: /dev/vdb holds 0.4.0; remove the medium; the machine reboots")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert holds_the_image(root, "vdb")
    assert (root / "restarted").read_text() == "reboot"


def test_a_seed_orders_once(root: Path) -> None:
    seed(root, "install: {disk: {serial: serial-vda}, then: poweroff}\n")
    (root / "seed/encryption").write_text("key=tpm\n")
    assert run(root, "--auto").returncode == 0
    assert holds_the_image(root, "vda")
    assert json.loads((root / "esp").read_text())["encryption"] == "key=tpm\n"
    assert (root / "restarted").read_text() == "poweroff"
    kept = json.loads((root / "esp").read_text())
    assert "hostname: edge-7" in kept["user-data"]
    (root / "restarted").unlink()
    before = (root / "dev/vda").read_bytes()
    seed(root, "install: {disk: {serial: serial-vda}, then: poweroff}\n")
    assert run(root, "--auto").returncode == 5
    assert not (root / "restarted").exists()
    assert (root / "dev/vda").read_bytes() == before


@pytest.mark.parametrize(
    ("section", "code"),
    [
        ("", 7),
        ("install: {then: reboot}\n", 3),
        ("install: {disk: {serial: other}}\n", 3),
        ("install: {disk: {path: /dev/vdc}, wipe: yes}\n", 3),
        ("install: {disk: {path: /dev/vdb}}\n", 4),
        ("install: {disk: {size: 4}}\n", 1),
        ("install: {disk: {path: sda}}\n", 1),
        ("install: {disk: {min_size: many}}\n", 1),
    ],
)
def test_what_an_order_cannot_have_writes_nothing(root: Path, section: str, code: int) -> None:
    before = {path.name: path.read_bytes() for path in (root / "dev").iterdir()}
    seed(root, section)
    done = run(root, "--auto")
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in (root / "dev").iterdir()} == before
    assert not (root / "restarted").exists()


def test_a_disk_may_be_named(root: Path) -> None:
    refused = run(root, "--disk", "/dev/vdb")
    assert refused.returncode == 4
    assert "error: /dev/vdb is not empty: partitions PHOTOS; nothing was written" in refused.stdout
    assert run(root, "--disk", "/dev/vdb", "--wipe").returncode == 0
    assert holds_the_image(root, "vdb")


def test_a_damaged_medium(root: Path) -> None:
    rest = root / "medium/rest.bin"
    rest.write_bytes(rest.read_bytes()[:-MIB] + b"y" * MIB)
    done = run(root, "--disk", "/dev/vda")
    assert done.returncode == 6
    assert "/dev/vda was not written to its end" in done.stdout
    assert not any((root / "dev/vda").read_bytes()[:MIB])
    (root / "medium/disk.json").write_text("{}")
    assert run(root, "--disk", "/dev/vda").returncode == 1


def test_every_exit_code_is_in_the_help(root: Path) -> None:
    text = run(root, "--help").stdout
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130):
        assert f"\n  {code} " in text
