"""An image onto a disk: what is refused, what is written, and that it was read back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.disk.block import write_all
from product.disk.gpt import UNMADE, read_table
from product.disk.prepare import open_disk
from product.disk.uses import in_use
from product.encryption import wish
from product.image import cli, target
from product.image import flash as flashing
from product.image.errors import ImageError
from product.image.flash import flash
from product.image.inject import Places
from product.image.tools import HostTools

MIB = 1 << 20
ESP_AT, ESP_MIB = 1, 40
CONFIG = b"#cloud-config\nhostname: edge-07\n"
# From linux/loop.h.
LOOP_CTL_GET_FREE, LOOP_SET_FD, LOOP_CLR_FD = 0x4C82, 0x4C00, 0x4C01


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, host_tools: HostTools) -> Path:
    """A small image: an EFI partition, a slot with something in it, data that is not made yet."""
    path = tmp_path_factory.mktemp("image") / "disk,1.img"
    with path.open("wb") as stream:
        stream.truncate(82 * MIB)
    script = "label: gpt\nlabel-id: 11111111-0000-0000-0000-000000000000\nfirst-lba: 2048\n"
    for name, start, length in (("KSOLOEFI", ESP_AT, ESP_MIB), ("KSOLOA", 41, 8)):
        script += f"start={start * 2048}, size={length * 2048}, name={name}\n"
    script += f"start={49 * 2048}, size={32 * 2048}, name=KSOLODATA, attrs=GUID:59\n"
    host_tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=script.encode())
    esp = f"{path}@@{ESP_AT * MIB}"
    sectors = str(ESP_MIB * 2048)
    host_tools.run("mformat", "-i", esp, "-F", "-T", sectors, "-v", "KSOLOEFI", "::")
    host_tools.run("mmd", "-i", esp, "::EFI")
    with path.open("r+b") as stream:
        stream.seek(440)
        stream.write(b"boot code")
        stream.seek(42 * MIB)
        stream.write(b"slot A" * 100_000)
    return path


def config_of(disk: Path, tools: HostTools, name: str = "kubesolo/user-data") -> bytes:
    return tools.run("mtype", "-i", f"{disk}@@{ESP_AT * MIB}", f"::{name}")


def test_a_file_gets_the_image_and_the_configuration(
    image: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    disk, work = tmp_path / "disk", tmp_path / "work"
    work.mkdir()
    seen: list[tuple[str, int, int]] = []
    done = flash(
        image, disk, host_tools, work, files={"user-data": CONFIG},
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    assert config_of(disk, host_tools) == CONFIG
    host_tools.run("fsck.fat", "-n", work / "esp")
    before, after = image.read_bytes(), disk.read_bytes()
    end = (ESP_AT + ESP_MIB) * MIB
    assert after[: ESP_AT * MIB] == before[: ESP_AT * MIB]
    assert after[end:] == before[end:]
    with open_disk(str(disk), writable=False) as opened:
        assert read_table(opened).partitions[3].attributes & UNMADE
    assert {what for what, _, _ in seen} == {"write", "verify"}
    assert all(0 < count <= total == done.written for _, count, total in seen)
    # Holes stay holes.
    assert disk.stat().st_blocks * 512 < 8 * MIB
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "work"]


def test_a_file_with_configuration_is_its_owners_alone(
    image: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    # What an earlier, interrupted run may have left.
    (tmp_path / "one.part").write_bytes(b"")
    (tmp_path / "one.part").chmod(0o644)
    for source, disk, files in (
        (image, one, {"user-data": CONFIG}),
        (one, two, {}),
        (image, three, {}),
    ):
        (work := tmp_path / f"{disk.name}-work").mkdir()
        flash(source, disk, host_tools, work, files=files)
    assert [disk.stat().st_mode & 0o777 for disk in (one, two)] == [0o600, 0o600]
    assert three.stat().st_mode & 0o077 != 0


def test_without_configuration_it_is_the_image(
    image: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    flash(image, disk, host_tools, tmp_path)
    assert disk.read_bytes() == image.read_bytes()


def test_configuration_of_an_earlier_flash_is_replaced(
    image: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    for number, files in enumerate(({"user-data": b"a", "meta-data": b"b"}, {"user-data": b"c"})):
        work = tmp_path / str(number)
        work.mkdir()
        source = image if number == 0 else tmp_path / "first"
        name = ("first", "second")[number]
        flash(source, tmp_path / name, host_tools, work, files=files)
    assert config_of(tmp_path / "second", host_tools) == b"c"
    listed = host_tools.run("mdir", "-b", "-i", f"{tmp_path}/second@@{MIB}", "::kubesolo").decode()
    assert listed.split() == ["::/kubesolo/user-data"]


def repository(folder: Path, size: int) -> Path:
    (folder / "metadata").mkdir(parents=True)
    (folder / "artifacts").mkdir()
    (folder / "metadata/1.root.json").write_text("{}")
    (folder / "artifacts/abc").write_bytes(b"x" * size)
    return folder


def test_a_repository_goes_along(image: Path, host_tools: HostTools, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    flash(image, disk, host_tools, tmp_path, repository=repository(tmp_path / "repo", 300_000))
    assert config_of(disk, host_tools, "updates/artifacts/abc") == b"x" * 300_000
    assert config_of(disk, host_tools, "updates/metadata/1.root.json") == b"{}"


@pytest.mark.parametrize("what", ["file", "link", "folder", "queue"])
def test_a_repository_of_which_something_cannot_be_read_is_refused(
    image: Path,
    host_tools: HostTools,
    tmp_path: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = repository(tmp_path / "repo", 10)
    bad = source / "artifacts/bad"
    if what == "link":
        bad.symlink_to("nowhere")
    elif what == "queue":
        os.mkfifo(bad)
    elif what == "folder":
        bad.mkdir()
    else:
        bad.write_bytes(b"x")
    if what in ("file", "folder"):
        # Root may read everything; so the system's answer is made.
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != bad and real(path, mode))
    with pytest.raises(ImageError, match=r"artifacts/bad of the repository .*cannot be read"):
        flash(image, tmp_path / "disk", host_tools, tmp_path, repository=source)
    assert not (tmp_path / "disk").exists()


def test_a_repository_that_does_not_fit_says_so(
    image: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=r"of 50 MiB does not fit onto KSOLOEFI of 40 MiB"):
        flash(
            image, tmp_path / "disk", host_tools, tmp_path,
            repository=repository(tmp_path / "repo", 50 * MIB),
        )  # fmt: skip
    (tmp_path / "other").mkdir()
    with pytest.raises(ImageError, match="is no release repository"):
        flash(image, tmp_path / "disk", host_tools, tmp_path / "other", repository=tmp_path)
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no disk image"), (b"x" * 4096, "is no image of this system")],
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "image"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        Places(path)


def test_the_image_is_not_written_over_itself(
    image: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    before = image.read_bytes()
    with pytest.raises(ImageError, match="is the image itself"):
        flash(image, link, host_tools, tmp_path)
    assert image.read_bytes() == before


class Computer:
    """Directories like /sys and /proc that show one disk."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.proc = folder / "sys", folder / "proc"
        self.disk = self.sys / "devices/sdx"
        (self.sys / "dev/block").mkdir(parents=True)
        (self.proc / "self").mkdir(parents=True)
        for name, number in (("", "8:0"), ("sdx1", "8:1")):
            part = self.disk / name
            (part / "holders").mkdir(parents=True)
            (part / "dev").write_text(f"{number}\n")
        (self.disk / "sdx1/partition").write_text("1\n")
        (self.proc / "self/mountinfo").write_text("1 0 9:9 / / rw - ext4 /dev/other rw\n")
        (self.proc / "swaps").write_text("Filename Type\n/dev/other2 partition\n")

    def users(self) -> list[str]:
        return in_use(self.disk, sys=self.sys, proc=self.proc)


def mounted(computer: Computer) -> None:
    (computer.proc / "self/mountinfo").write_text("1 0 8:1 / /media/x rw - vfat /dev/sdx1 rw\n")


def root_on_btrfs(computer: Computer) -> None:
    (computer.proc / "self/mountinfo").write_text("1 0 0:30 / / rw - btrfs /dev/sdx1 rw\n")


def swap(computer: Computer) -> None:
    (computer.proc / "swaps").write_text("Filename Type\n/dev/sdx1 partition 1 0 -2\n")


def lvm(computer: Computer) -> None:
    (computer.disk / "sdx1/holders/dm-0/dm").mkdir(parents=True)
    (computer.disk / "sdx1/holders/dm-0/dm/name").write_text("vg-root\n")


def raid(computer: Computer) -> None:
    (computer.disk / "holders/md0").mkdir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (mounted, "sdx1 is mounted at /media/x"),
        (root_on_btrfs, "sdx1 is mounted at /"),
        (swap, "sdx1 is swap space"),
        (lvm, "sdx1 is part of vg-root"),
        (raid, "sdx is part of md0"),
    ],
)
def test_a_disk_in_use_says_by_what(tmp_path: Path, change: object, said: str) -> None:
    computer = Computer(tmp_path)
    assert computer.users() == []
    change(computer)  # type: ignore[operator]
    assert computer.users() == [said]


def test_a_disk_is_to_be_named_twice(tmp_path: Path) -> None:
    device = target.Device("sdx", 16 * 10**9, "SanDisk Ultra")
    for meant in (None, "/dev/sdy", "/dev/sdx1", "sdx"):
        with pytest.raises(ImageError, match=r"everything on /dev/sdx \(16\.0 GB, SanDisk Ultra\)"):
            target.require_meant("/dev/sdx", device, meant)
    target.require_meant("/dev/sdx", device, "/dev/sdx")
    target.require_meant("file", None, None)
    with pytest.raises(ImageError, match="has 16000000000 bytes, the image 16000000001"):
        target.require_room(Path("/dev/sdx"), device, 16 * 10**9 + 1)


def _link(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def test_a_file_below_dev_is_none_to_write_to(tmp_path: Path) -> None:
    (dev := tmp_path / "dev").mkdir()
    (dev / "typo").write_bytes(b"what an earlier mistake left")
    with pytest.raises(ImageError, match="neither a disk nor a file that anybody keeps"):
        target.inspect(dev / "typo", dev=dev)


def test_places_that_are_no_disk(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "neither a disk nor a file"),
        (Path("/dev/null"), "neither a disk nor a file"),
        (Path("/dev/no-such-disk"), "there is no disk"),
        (Path("/dev/disk/by-id/usb-no-such-disk"), "there is no disk"),
        (Path("/dev/mapper/no-such-disk"), "there is no disk"),
        (Path("/dev/shm/../no-such-disk"), "there is no disk"),
        (_link(tmp_path / "folder", "/dev") / "no-such-disk", "there is no disk"),
        (_link(tmp_path / "circle", "circle"), "cannot be looked at: Too many levels"),
        (_link(tmp_path / "stick", "/dev/no-such-disk"), "there is no disk"),
    ):
        with pytest.raises(ImageError, match=reason):
            target.inspect(path)
    assert target.inspect(tmp_path / "new") is None


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 MiB full of an earlier life."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR)
    except OSError:
        pytest.skip("no loop devices for this user")
    backing = tmp_path / "backing"
    backing.write_bytes(b"\xa5" * 100 * MIB)
    file = os.open(backing, os.O_RDWR)
    try:
        path = Path(f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}")
        device = os.open(path, os.O_RDWR)
        fcntl.ioctl(device, LOOP_SET_FD, file)
    except OSError as error:
        pytest.skip(f"no loop device: {error}")
    finally:
        os.close(file)
        os.close(control)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            fcntl.ioctl(device, LOOP_CLR_FD)
        os.close(device)


def content(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)


def test_a_disk_gets_the_image_over_whatever_was_there(
    image: Path, host_tools: HostTools, tmp_path: Path, loop: Path
) -> None:
    assert stat.S_ISBLK(loop.stat().st_mode)
    with pytest.raises(ImageError, match="would be lost"):
        flash(image, loop, host_tools, tmp_path, meant="/dev/sda")
    assert content(loop, 0, MIB) == b"\xa5" * MIB
    flash(image, loop, host_tools, tmp_path, files={"user-data": CONFIG}, meant=str(loop))
    assert config_of(loop, host_tools) == CONFIG
    expected = image.read_bytes()
    # The slot's holes are zeros, of the old data partition only what told its file system.
    assert content(loop, 0, MIB) == expected[:MIB]
    assert content(loop, 41 * MIB, 9 * MIB) == expected[41 * MIB : 50 * MIB]
    assert content(loop, 81 * MIB, MIB) == expected[81 * MIB :]
    assert content(loop, 99 * MIB, MIB) == bytes(MIB)
    with open_disk(str(loop), writable=False) as disk:
        assert set(read_table(disk).partitions) == {1, 2, 3}


@pytest.mark.parametrize("how", ["interrupt", "worn"])
def test_a_disk_that_was_not_written_to_its_end_starts_nothing(
    image: Path,
    host_tools: HostTools,
    tmp_path: Path,
    loop: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    real = write_all

    def fail(descriptor: int, data: bytes, position: int) -> None:
        if position >= 42 * MIB and how == "interrupt":
            raise KeyboardInterrupt
        real(descriptor, data[:-1] + b"!" if how == "worn" else data, position)

    monkeypatch.setattr(flashing, "write_all", fail)
    reason = "it was interrupted" if how == "interrupt" else "it does not read back"
    with pytest.raises(ImageError, match=f"was not written to its end: {reason}.*starts nothing"):
        flash(image, loop, host_tools, tmp_path, meant=str(loop))
    assert content(loop, 0, MIB) == bytes(MIB)


def test_a_file_that_was_not_written_to_its_end_is_not_there(
    image: Path, host_tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flashing, "write_all", fail)
    (tmp_path / "work").mkdir()
    with pytest.raises(KeyboardInterrupt):
        flash(image, tmp_path / "disk", host_tools, tmp_path / "work")
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["kubesolo-image", "flash", *map(str, words)])
    try:
        return cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)


def test_the_command_checks_the_configuration_first(
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, disk = tmp_path / "user-data", tmp_path / "disk"
    config.write_text("#cloud-config\nhostnam: edge-07\nruncmd: [reboot]\n")
    assert run(monkeypatch, image, disk, "--config", config) == 1
    err = capsys.readouterr().err
    assert f"{config}:2:1: hostnam" in err
    assert f"{config}:3:1: runcmd" in err
    assert "Traceback" not in err
    config.write_text("#cloud-config\nhostname: edge-07\n")
    meta = tmp_path / "meta-data"
    meta.write_text("instance-id: one\n")
    assert run(monkeypatch, image, disk, "--meta-data", meta) == 1
    assert "meta-data alone configures nothing" in capsys.readouterr().err
    assert run(monkeypatch, image, disk, "--config", tmp_path / "no") == 1
    assert "cannot be read: No such file" in capsys.readouterr().err
    assert not disk.exists()
    assert run(monkeypatch, image, disk, "--config", config, "--meta-data", meta) == 0
    out = capsys.readouterr().out
    assert f"{disk} holds {image} with user-data, meta-data: " in out


def test_the_command_leaves_a_wish_for_encryption(
    image: Path,
    tmp_path: Path,
    host_tools: HostTools,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = tmp_path / "disk"
    assert run(monkeypatch, image, disk, "--encrypt", "tpm") == 0
    assert wish.parse(config_of(disk, host_tools, "kubesolo/encryption")) is wish.Kind.TPM
    assert run(monkeypatch, image, tmp_path / "other", "--encrypt", "disk") != 0
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
