"""Copies that can be proved."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from product.agent.datastore import tree


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    (store / "member/wal").mkdir(parents=True)
    (store / "empty").mkdir()
    os.chmod(store, 0o700)
    os.chmod(store / "empty", 0o751)
    (store / "member/db").write_bytes(os.urandom(3_000_000))
    os.chmod(store / "member/db", 0o600)
    (store / "member/link").symlink_to("db")
    (store / "nothing").write_bytes(b"")
    with open(store / "member/wal/0.wal", "wb") as file:
        file.write(b"head")
        file.truncate(64_000_000)
        file.seek(40_000_000)
        file.write(b"middle")
    pipe = socket.socket(socket.AF_UNIX)
    pipe.bind(str(store / "s"))
    pipe.close()
    return store


def listing(directory: Path) -> dict[str, tuple[int, bytes | str | None]]:
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path, status in tree.walk(str(directory)):
        full = directory / path
        content: bytes | str | None = None
        if full.is_symlink():
            content = os.readlink(full)
        elif full.is_file():
            content = full.read_bytes()
        found[path] = (status.st_mode, content)
    return found


def test_all_but_sockets_and_with_modes_and_holes(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    tree.warm(str(store))
    tree.copy(str(store), str(target))
    expected = listing(store)
    del expected["s"]
    assert listing(target) == expected
    assert target.stat().st_mode == store.stat().st_mode
    assert 3_000_000 < tree.content(str(target)) < 10_000_000


def test_a_good_copy_is_proved_and_each_damage_named(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    tree.copy(str(store), str(target))
    entries = tree.seal(str(target))
    assert [entry.path for entry in entries] == ["member/db", "member/wal/0.wal", "nothing"]
    assert tree.find_damage(str(target), entries) is None
    database = target / "member/db"
    good = database.read_bytes()
    database.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert tree.find_damage(str(target), entries) == "member/db has other bytes than were written"
    database.write_bytes(good[:-1])
    assert tree.find_damage(str(target), entries) == (
        "member/db has 2999999 bytes instead of 3000000"
    )
    database.unlink()
    assert tree.find_damage(str(target), entries) == "member/db is missing"
    database.write_bytes(good)
    (target / "member/more").write_bytes(b"")
    assert tree.find_damage(str(target), entries) == "member/more was added"
    tree.remove(str(target))
    tree.remove(str(target))
    assert "cannot be read" in (tree.find_damage(str(target), entries) or "")


def test_removing_does_not_follow_links(store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"")
    (store / "way-out").symlink_to(outside)
    tree.remove(str(store))
    assert not store.exists()
    assert (outside / "kept").exists()
