"""A block of the boot environment means to the agent what it means to GRUB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from product.agent.bootloader.grub import GrubBootEnv
from product.agent.bootloader.grubenv import parse_block
from product.agent.bootloader.protocol import Environment
from product.agent.tests.support_environments import samples
from product.image.errors import ToolError
from product.image.tools import HostTools

SAMPLES = samples()
NAMES = ("active_slot", "boot_counter", "boot_success")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "grubenv"


@pytest.fixture
def env(tmp_path: Path) -> GrubBootEnv:
    @contextmanager
    def partition(writable: bool) -> Iterator[str]:
        yield str(tmp_path)

    return GrubBootEnv(partition, "grubenv")


def _listing(data: bytes) -> bytes | None:
    """What grub-editenv would print of what the agent finds; None where it finds no block."""
    try:
        return b"".join(b"%s=%s\n" % line for line in parse_block(data).lines)
    except ValueError:
        return None


@pytest.mark.parametrize("name", SAMPLES)
def test_the_agent_reads_what_grub_editenv_reads(
    host_tools: HostTools, path: Path, name: str
) -> None:
    data = SAMPLES[name].data
    path.write_bytes(data)
    found = _listing(data)
    if found is None:
        with pytest.raises(ToolError, match="invalid environment block"):
            host_tools.run("grub-editenv", path, "list")
    else:
        assert found == host_tools.run("grub-editenv", path, "list")


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_odd_counts_is_reported_and_is_repaired_by_the_next_write(
    env: GrubBootEnv, path: Path, host_tools: HostTools, name: str
) -> None:
    sample = SAMPLES[name]
    path.write_bytes(sample.data)
    found = env.read()
    assert found.valid is sample.valid
    assert found.odd is sample.odd
    if sample.valid:
        assert found[:3] == ("A", 2, True)
        said = [problem for problem in found.problems if "the next write repairs it" in problem]
        assert len(said) == len(found.problems) == int(sample.odd)
    else:
        assert found.problems
    env.arm("B", "token")
    assert env.read() == Environment("B", 3, False, "token")
    assert path.stat().st_size == 1024
    listed = host_tools.run("grub-editenv", path, "list").decode("latin-1")
    assert re.findall(r"^(\w+)=(.*)$", listed, re.MULTILINE)[:3] == [
        *zip(NAMES, ("B", "3", "0"), strict=True)
    ]


@pytest.mark.parametrize(
    ("foreign", "kept"),
    [
        (b"title=K\xf6ln\n", True),
        (b"K\xf6ln=title\n", True),
        (b"saved entry=1\n", True),
        (b"saved_entry=x\r\n", True),
        (b"back\\slash=a\\\\b\\\nc\n", True),
        (b"=nothing\n", True),
        # It would hide what comes behind it.
        (b"junk\nx=1\n", False),
    ],
)
def test_foreign_variables_survive_as_bytes(
    env: GrubBootEnv, path: Path, foreign: bytes, kept: bool
) -> None:
    ours = b"active_slot=A\nboot_counter=2\nboot_success=0\n"
    header = b"# GRUB Environment Block\n"
    path.write_bytes((header + foreign + ours).ljust(1024, b"#"))
    env.commit("A")
    ours = ours.replace(b"success=0", b"success=1")
    expected = header + ours + (foreign if kept else b"")
    assert path.read_bytes() == expected.ljust(1024, b"#")


@pytest.mark.parametrize("name", [name for name, one in SAMPLES.items() if one.valid])
def test_a_repair_changes_no_value(env: GrubBootEnv, path: Path, name: str) -> None:
    sample = SAMPLES[name]
    path.write_bytes(sample.data)
    before = env.read()
    env.repair()
    assert env.read() == before._replace(odd=False, problems=())
    assert (path.read_bytes() == sample.data) is not sample.odd


def test_a_repair_invents_nothing(env: GrubBootEnv, path: Path) -> None:
    path.write_bytes(b"")
    env.repair()
    assert path.read_bytes() == b""
