"""The boot contract, the same for each boot loader."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from product.agent.bootloader.protocol import BootEnvError, Environment
from product.agent.bootloader.tests.loaders import Grub, Loader, Tryboot


@pytest.fixture(params=[Grub, Tryboot], ids=["grub", "tryboot"])
def loader(request: pytest.FixtureRequest, tmp_path: Path) -> Loader:
    found: Loader = request.param(tmp_path)
    found.put("A", "2", "0")
    return found


def test_read(loader: Loader) -> None:
    found = loader.env.read()
    assert found == Environment("A", 2, False)
    assert found.valid
    assert found.tries("A")
    assert not found.tries("B")
    assert not found.confirms("A")


def test_arm_clears_every_stale_flag(loader: Loader) -> None:
    loader.put("A", "0", "1", trial="old", rescued="B")
    loader.env.arm("B", "new")
    assert loader.env.read() == Environment("B", 3, False, "new")


def test_commit_changes_only_the_success(loader: Loader) -> None:
    loader.put("A", "2", "0", trial="token")
    loader.env.commit("A")
    assert loader.env.read() == Environment("A", 2, True, "token")
    assert loader.env.read().confirms("A")


def test_force_rollback_confirms_the_other_slot(loader: Loader) -> None:
    loader.env.arm("B", "token")
    loader.env.force_rollback("A")
    assert loader.env.read() == Environment("A", 0, True, "token")


def test_the_same_is_written_twice(loader: Loader) -> None:
    for change in (partial(loader.env.arm, "B", "t"), partial(loader.env.commit, "B")):
        change()
        once = loader.path.read_bytes()
        change()
        assert loader.path.read_bytes() == once


def test_a_write_is_one_write_in_place_and_an_fsync(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = loader.path.stat().st_ino
    calls: list[str] = []
    for name in ("pwrite", "fsync", "write", "ftruncate", "rename", "replace", "unlink"):
        real = getattr(os, name)

        def spy(*arguments: object, name: str = name, real: object = real) -> object:
            calls.append(name)
            if name == "pwrite":
                assert len(arguments[1]) == loader.size  # type: ignore[arg-type]
                assert arguments[2] == 0
            return real(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(os, name, spy)
    env = loader.env
    changes = (
        partial(env.arm, "B", "t"),
        partial(env.commit, "B"),
        partial(env.force_rollback, "A"),
    )
    for change in changes:
        calls.clear()
        change()
        assert calls == ["pwrite", "fsync"]
    assert loader.path.stat().st_ino == inode
    assert loader.path.stat().st_size == loader.size


def test_what_decides_the_boot_lies_in_one_sector(loader: Loader) -> None:
    loader.env.arm("B", "B-0123456789abcdef-01234567")
    data = loader.path.read_bytes()
    for word in (b"active_slot=B", b"boot_counter=3", b"boot_success=0", b"-01234567"):
        assert 0 < data.find(word) < 512 - len(word)


@pytest.mark.parametrize(
    "values", [("C", "2", "0"), ("A", "4", "0"), ("A", "2", "x"), ("", "", "")]
)
def test_values_out_of_range_are_reported_and_repaired(
    loader: Loader, values: tuple[str, str, str]
) -> None:
    loader.put(*values)
    found = loader.env.read()
    assert not found.valid
    assert found.problems
    assert not found.confirms("A")
    assert not found.tries("A")
    loader.env.arm("B", "token")
    assert loader.env.read() == Environment("B", 3, False, "token")


@pytest.mark.parametrize("content", [None, b"", bytes(480), b"\xff" * 1024, bytes(range(256)) * 4])
def test_damage_is_reported_and_the_next_write_repairs_it(
    loader: Loader, content: bytes | None
) -> None:
    if content is None:
        loader.path.unlink()
    else:
        loader.path.write_bytes(content)
    found = loader.env.read()
    assert not found.valid
    assert found.problems
    loader.env.commit("A")
    assert loader.env.read() == Environment("A", 3, True)
    assert loader.path.stat().st_size == loader.size


def test_an_odd_file_is_written_anew_with_its_values(loader: Loader) -> None:
    loader.put("B", "2", "0", trial="token")
    whole = loader.path.read_bytes()
    loader.path.write_bytes(whole.rstrip(b"#\n") + b"\n")
    found = loader.env.read()
    assert found.valid
    assert found.odd
    loader.env.repair()
    assert loader.path.stat().st_size == loader.size
    assert loader.env.read() == Environment("B", 2, False, "token")


def test_a_file_that_cannot_be_written_is_an_error(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    before = loader.path.read_bytes()
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(BootEnvError, match="Read-only"):
        loader.env.commit("A")
    assert loader.path.read_bytes() == before


def test_a_slot_that_yielded_is_reported_until_an_update_is_armed(loader: Loader) -> None:
    loader.put("A", "2", "0", rescued="B")
    found = loader.env.read()
    assert found.valid
    assert found.problems == ("slot B could not be started, the other slot took over",)
    loader.env.commit("A")
    assert loader.env.read().problems == found.problems
    loader.env.arm("B", "token")
    assert loader.env.read().problems == ()
