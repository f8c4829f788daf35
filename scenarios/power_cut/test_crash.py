"""Power cuts at every write of an update, judged by what lies on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.pytest_plugin.image import ImageUnderTest
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from product.image.tools import HostTools
from scenarios.crash.judge import judge_recording
from scenarios.crash.record import record_update
from scenarios.crash.report import groups
from scenarios.releases import Releases
from scenarios.steps import read_data, write_data


@scenario(arch="x86_64", log_writes=True)
def test_every_cut_of_an_update(
    node: Node,
    releases: Releases,
    images: Mapping[str, ImageUnderTest],
    host_tools: HostTools,
    arch: Arch,
    tmp_path: Path,
) -> None:
    """`./noxw -s crash` does the same with more phases and further apart."""
    recording = record_update(node, releases, images[arch].disk, tmp_path / "recording")
    outcome = judge_recording(recording, host_tools, tmp_path, bound=1)
    faults = [f"{tally.name}: {what}" for tally in outcome.tallies for _, what in tally.faults]
    assert faults == []
    assert sum(tally.states for tally in outcome.tallies) > 10_000
    seen = {name for tally in outcome.tallies for name, count in groups(tally).items() if count}
    assert seen == {"A, confirmed", "on trial", "B, confirmed"}
    loaders = {example.kind.loader for example in outcome.examples}
    assert loaders == {"0.1.0", "0.3.0"}


# Linux writes the superblock past the journal, in two sectors: here is the first of another moment.
TEAR = """
dd if=$1 of=/run/half bs=512 skip=2 count=1 2> /dev/null
printf '\\377' | dd of=/run/half bs=1 seek=52 conv=notrunc 2> /dev/null
sync
dd if=/run/half of=$1 bs=512 seek=2 count=1 oflag=direct conv=notrunc,fsync 2> /dev/null
"""


@scenario()
def test_a_torn_superblock_costs_no_file(node: Node) -> None:
    """e2fsck would go on with the backup, whose counts are those of the first boot."""
    node.boot()
    for number in range(20):
        write_data(node, "kept", f"proof-{number}")
    node.succeed(["/bin/sh", "-c", TEAR, "sh", node.partition(4)])
    node.power_cut()
    since = node.journal.cursor
    ready = node.boot()
    node.wait_console(r"had torn the superblock", since=since)
    assert ready.confirmed
    status = node.status()
    assert (status.boot.data, status.problems) == ("persistent", [])
    assert [read_data(node, f"proof-{number}") for number in range(20)] == ["kept"] * 20
