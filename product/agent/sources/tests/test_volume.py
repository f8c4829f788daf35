"""A repository on a disk of the node."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.sources import volume
from product.agent.sources.artifact import fetch_artifact
from product.agent.sources.configured import configured_source
from product.agent.sources.http import HttpSource
from product.agent.sources.volume import VolumeSource
from product.agent.system import program
from product.image.seed import seed_image
from product.image.tools import HostTools
from product.manifest import Artifact


class Computer:
    """Disks in files, and a mount(8) that shows a folder."""

    def __init__(self, root: Path, tools: HostTools, patch: pytest.MonkeyPatch) -> None:
        self.root, self._tools = root, tools
        self.calls: list[list[str]] = []
        self.shown = root / "shown"
        (self.shown / "artifacts").mkdir(parents=True)
        (root / "dev").mkdir()
        (root / "sys/class/block").mkdir(parents=True)
        patch.setattr(program, "require", self._require)
        patch.setattr(program, "run", self._run)

    def disk(self, name: str, label: str) -> None:
        seed_image(self.root / "dev" / name, {"a": b""}, label=label, tools=self._tools)
        (self.root / "sys/class/block" / name).mkdir()

    def _require(self, argv: list[str]) -> str:
        self.calls.append(argv)
        folder = Path(argv[-1])
        folder.rmdir()
        folder.symlink_to(self.shown)
        return ""

    def _run(self, argv: list[str]) -> tuple[int, str]:
        self.calls.append(argv)
        os.unlink(argv[-1])
        return 0, ""

    def source(self, server: str = "disk:RELEASES") -> VolumeSource:
        return VolumeSource(server, root=str(self.root))


@pytest.fixture
def computer(
    tmp_path: Path, host_tools: HostTools, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Computer]:
    made = Computer(tmp_path, host_tools, monkeypatch)
    made.disk("sda1", "KSOLOEFI")
    made.disk("sdb", "RELEASES")
    yield made
    folder = tmp_path / volume.MOUNTS
    assert not folder.exists() or not list(folder.iterdir()), "it is still mounted"


def test_it_is_mounted_once_and_read_only(computer: Computer) -> None:
    (computer.shown / "one").write_bytes(b"1")
    with computer.source("disk:releases") as source:
        for _ in range(2):
            answer = source.open("one")
            assert (answer.status, answer.read1(10), answer.read1(10)) == (200, b"1", b"")
            answer.close()
    assert len(computer.calls) == 2
    mount = computer.calls[0]
    assert mount[:5] == ["mount", "-t", "vfat", "-o", "ro,nosuid,nodev,noexec"]
    assert mount[5].endswith("/dev/sdb")


def test_each_source_has_a_mount_of_its_own(computer: Computer) -> None:
    with (
        computer.source() as one,
        computer.source() as other,
        computer.source("disk:KSOLOEFI/") as third,
    ):
        for source in (one, other, third):
            source.open("none")
        points = [call[-1] for call in computer.calls if call[0] == "mount"]
        assert len(set(points)) == 3
    assert sorted(call[-1] for call in computer.calls if call[0] == "umount") == sorted(points)


def test_what_a_killed_fetch_left_is_unmounted(computer: Computer) -> None:
    died = subprocess.Popen(["true"])
    died.wait()
    folder = computer.root / volume.MOUNTS
    for name in (f"{died.pid}.0", f"{os.getppid()}.0"):
        (folder / name).mkdir(parents=True)
        (folder / name).rmdir()
        (folder / name).symlink_to(computer.shown)
    with computer.source() as source:
        source.open("none")
    assert [path.name for path in folder.iterdir()] == [f"{os.getppid()}.0"]
    (folder / f"{os.getppid()}.0").unlink()


@pytest.mark.parametrize("path", ["none", "artifacts", "../../etc/passwd", "one/two"])
def test_what_is_no_file_of_it_is_not_there(computer: Computer, path: str) -> None:
    (computer.shown / "one").write_bytes(b"1")
    with computer.source() as source:
        assert source.open(path).status == 404


def test_an_artifact_is_fetched_and_gone_on_with(computer: Computer, tmp_path: Path) -> None:
    data = os.urandom(600_000)
    digest = hashlib.sha256(data).hexdigest()
    (computer.shown / "os/artifacts").mkdir(parents=True)
    (computer.shown / "os/artifacts" / digest).write_bytes(data)
    target = tmp_path / "target"
    for begun in (0, 1, 300_000, 600_000, 700_000):
        target.write_bytes((data + bytes(100_000))[:begun])
        artifact = Artifact("system.squashfs", len(data), digest)
        with computer.source("disk:RELEASES/os") as source:
            fetch_artifact(source, artifact, str(target))
        assert target.read_bytes() == data


@pytest.mark.parametrize(
    ("label", "reason"),
    [("NONE", "no disk has a file system labelled NONE"), ("TWICE", "sdc and /dev/sdd are both")],
)
def test_the_volume_must_be_one(computer: Computer, label: str, reason: str) -> None:
    for name in ("sdc", "sdd"):
        computer.disk(name, "TWICE")
    with (
        computer.source(f"disk:{label}") as source,
        pytest.raises(AgentError, match=reason) as raised,
    ):
        source.open("one")
    assert raised.value.code == "server-unreachable"


def test_the_configuration_names_the_kind_of_source() -> None:
    assert isinstance(configured_source(Config(server="disk:A/os/")), VolumeSource)
    assert configured_source(Config(server="disk:A/os/")).address == "disk:A/os"
    assert isinstance(configured_source(Config(server="http://me:word@h/os/")), HttpSource)
    assert configured_source(Config(server="http://me:word@h/os/")).address == "http://h/os"
