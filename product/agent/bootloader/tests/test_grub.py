"""The environment block: its bytes, its repair, and that it is written in one place at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from product.agent.bootloader.grub import GrubBootEnv
from product.agent.bootloader.grubenv import format_block, parse_block
from product.agent.bootloader.protocol import Environment

NAME = "boot/grub/grubenv"
HEADER = b"# GRUB Environment Block\n"
GOOD = b"active_slot=A\nboot_counter=2\nboot_success=0\n"


def block(content: bytes, size: int = 1024) -> bytes:
    return (HEADER + content).ljust(size, b"#")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(block(GOOD))
    return path


@pytest.fixture
def env(tmp_path: Path) -> GrubBootEnv:
    @contextmanager
    def partition(writable: bool) -> Iterator[str]:
        yield str(tmp_path)

    return GrubBootEnv(partition, NAME)


def test_read(env: GrubBootEnv, path: Path) -> None:
    found = env.read()
    assert found == Environment("A", 2, False)
    assert found.valid
    assert found.tries("A")
    assert not found.tries("B")
    assert not found.confirms("A")


def test_arm_clears_every_stale_flag(env: GrubBootEnv, path: Path) -> None:
    path.write_bytes(block(b"active_slot=A\nboot_counter=0\nboot_success=1\ntrial=old\n"))
    env.arm("B", "new")
    assert path.read_bytes() == block(b"active_slot=B\nboot_counter=3\nboot_success=0\ntrial=new\n")


def test_commit_changes_only_the_success(env: GrubBootEnv, path: Path) -> None:
    env.commit("A")
    assert path.read_bytes() == block(b"active_slot=A\nboot_counter=2\nboot_success=1\n")


def test_foreign_variables_stay_behind_ours(env: GrubBootEnv, path: Path) -> None:
    path.write_bytes(
        block(b"saved_entry=a\\\\b\\\nc\nactive_slot=A\nboot_counter=2\nx.y=\nboot_success=0\n")
    )
    env.commit("A")
    assert path.read_bytes() == block(
        b"active_slot=A\nboot_counter=2\nboot_success=1\nsaved_entry=a\\\\b\\\nc\nx.y=\n"
    )


def test_our_variables_fit_the_first_sector_however_full_the_block_is(
    env: GrubBootEnv, path: Path
) -> None:
    path.write_bytes(
        block(b"big=" + b"x" * 900 + b"\nactive_slot=A\nboot_counter=1\nboot_success=0\n")
    )
    env.arm("B", "t" * 8)
    data = path.read_bytes()
    assert len(data) == 1024
    assert data.find(b"trial=tttttttt\n") < 512 - 15
    assert parse_block(data).variables[b"active_slot"] == b"B"


def test_a_comment_line_is_no_padding(env: GrubBootEnv, path: Path) -> None:
    path.write_bytes(block(b"# WARNING: do not edit\n" + GOOD))
    assert env.read() == Environment("A", 2, False)


DAMAGE = {
    "missing": None,
    "empty": b"",
    "zeros": bytes(1024),
    "noise": bytes(range(256)) * 4,
    "header only, short": HEADER,
    "carriage returns": block(GOOD.replace(b"\n", b"\r\n")),
    "no header": GOOD.ljust(1024, b"#"),
    "unknown slot": block(b"active_slot=C\nboot_counter=2\nboot_success=0\n"),
    "no variables": block(b""),
    "counter of four": block(b"active_slot=A\nboot_counter=4\nboot_success=0\n"),
    "no success": block(b"active_slot=A\nboot_counter=2\n"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damage_is_reported_and_the_next_write_repairs_it(
    env: GrubBootEnv, path: Path, damage: str
) -> None:
    content = DAMAGE[damage]
    if content is None:
        path.unlink()
        path.parent.rmdir()
    else:
        path.write_bytes(content)
    found = env.read()
    assert not found.valid
    assert found.problems
    assert not found.confirms("A")
    assert not found.tries("A")
    env.arm("B", "token")
    assert env.read() == Environment("B", 3, False, "token")
    assert path.stat().st_size == 1024


def test_boot_variables_beyond_the_first_sector_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 512"):
        format_block({"trial": "x" * 600}, {})


def test_a_slot_that_yielded_is_reported_until_an_update_is_armed(
    env: GrubBootEnv, path: Path
) -> None:
    first = {"active_slot": "A", "boot_counter": "2", "boot_success": "0"}
    path.write_bytes(format_block(first, {b"rescued": b"B"}))
    found = env.read()
    assert found.valid
    assert found.problems == ("slot B could not be started, the other slot took over",)
    env.commit("A")
    assert env.read().problems == found.problems
    env.arm("B", "token")
    assert env.read().problems == ()
