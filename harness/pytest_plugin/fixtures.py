"""Fixtures: nodes for scenarios, on each selected architecture.

The fixture ``harness_images`` comes from the project; everything else has a default.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.faults.http import WebServer
from harness.journal.journal import Source
from harness.profile import Profile
from harness.pytest_plugin.failure import FAILURE, SESSION, SKIPPED, reproduce
from harness.pytest_plugin.image import ImageUnderTest, fields_of
from harness.pytest_plugin.lab import bench_of, is_lab, lab_words
from harness.pytest_plugin.options import profile_of
from harness.pytest_plugin.run import RUN
from harness.pytest_plugin.summary import RESULT
from harness.qemu import accel, left
from harness.qemu.arch import Arch, Firmware
from harness.qemu.machine import Host
from harness.qemu.pack import SUFFIX, pack
from harness.qemu.pool import Pool
from harness.qemu.snapshots import States
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools
from harness.report.data import RUN_MARK
from harness.target.node import Node
from harness.target.protocols import Bench
from harness.target.session import Session, directory_name


@pytest.fixture(scope="session")
def harness_profile(request: pytest.FixtureRequest) -> Profile:
    """The profile that the ini option ``harness_profile`` names."""
    return profile_of(request.config)


@pytest.fixture(scope="session")
def harness_arch() -> Arch:
    """The architecture that a test runs on; pytest_generate_tests gives its values."""
    raise pytest.UsageError("no architecture is selected for this test")


@pytest.fixture(scope="session")
def harness_cache(harness_profile: Profile) -> Path:
    """The harness's part of the user's cache."""
    return harness_profile.cache() / "harness"


@pytest.fixture(scope="session")
def harness_pool(harness_cache: Path) -> Pool:
    """The budget of cores and memory that all workers on this host share."""
    return Pool(harness_cache / "pool")


@pytest.fixture(scope="session")
def harness_states(harness_cache: Path) -> States:
    """The snapshots that all workers share."""
    return States(harness_cache / "states")


@pytest.fixture(scope="session")
def harness_tools(harness_profile: Profile) -> HostTools:
    """QEMU, as the profile has it."""
    return harness_profile.tools("qemu")


@pytest.fixture(scope="session")
def harness_tpm_tools(harness_profile: Profile) -> Callable[[], HostTools]:
    """Prepares the programs of a software TPM, for machines that have one."""
    return lambda: harness_profile.tools("tpm")


@pytest.fixture
def harness_images() -> Mapping[str, ImageUnderTest]:
    """Architecture to the image under test, which a project's own fixture of this name gives."""
    raise pytest.UsageError(
        "there is no image to boot: write a fixture harness_images in conftest.py, a mapping of "
        "an architecture (x86_64, aarch64) to its image (harness.pytest_plugin.image)"
    )


@pytest.fixture
def harness_image(
    harness_arch: Arch, harness_images: Mapping[str, ImageUnderTest]
) -> ImageUnderTest:
    """The image under test of the architecture; skips the test where the project has none."""
    if harness_arch not in harness_images:
        pytest.skip(f"harness_images has no image for {harness_arch}")
    return harness_images[harness_arch]


@pytest.fixture
def harness_host(
    harness_arch: Arch,
    harness_image: ImageUnderTest,
    harness_tools: HostTools,
    harness_cache: Path,
    harness_tpm_tools: Callable[[], HostTools],
    harness_profile: Profile,
) -> Host:
    """Programs, accelerator and speed for an architecture."""
    found = accel.probe(harness_tools, harness_image.kernel, harness_arch, harness_cache)
    runs = harness_cache / "runs"
    return Host(
        harness_tools, found.name, found.scale, runs, harness_tpm_tools, profile=harness_profile
    )


@pytest.fixture
def harness_bench(request: pytest.FixtureRequest) -> Bench:
    """Where the targets of a scenario come from: this host's QEMU, or the lab."""
    if is_lab(request.config):
        return bench_of(request.config)
    host: Host = request.getfixturevalue("harness_host")
    return host


@pytest.fixture
def harness_session(
    request: pytest.FixtureRequest,
    harness_arch: Arch,
    harness_image: ImageUnderTest,
    harness_bench: Bench,
    harness_states: States,
    harness_pool: Pool,
) -> Iterator[Session]:
    """The machines and the evidence of one test."""
    config = request.config
    item = request.node
    image = harness_image
    fields: dict[str, Any] = {
        "arch": harness_arch, "firmware": Firmware.UEFI, **fields_of(image)
    }  # fmt: skip
    if is_lab(config):
        fields.update(firmware=bench_of(config).firmware)
    for mark in reversed(list(item.iter_markers("machine"))):
        fields.update(mark.kwargs)
    artefacts = config.rootpath / config.getoption("--artefacts") / directory_name(item.nodeid)
    shutil.rmtree(artefacts, ignore_errors=True)
    artefacts.with_name(artefacts.name + SUFFIX).unlink(missing_ok=True)
    artefacts.mkdir(parents=True)
    # Also of a scenario that never comes to its end, the report knows which run it belongs to.
    (artefacts / RUN_MARK).write_text(f"{config.stash[RUN].id}\n{item.nodeid}\n")
    made = Session(
        item.nodeid,
        MachineSpec.model_validate(fields),
        harness_bench,
        image=image.digest,
        states=harness_states,
        pool=harness_pool,
        artefacts=artefacts,
        reproduce=reproduce(harness_bench.profile, item.nodeid, harness_arch) + lab_words(config),
        memory=config.getoption("--pack-failures"),
    )
    item.stash[SESSION] = made
    yield made
    result = made.close(item.stash.get(FAILURE, None), skipped=item.stash.get(SKIPPED, None))
    packed = {}
    if result["outcome"] == "failed" and config.getoption("--pack-failures"):
        packed = {"packed": _packed(artefacts, harness_bench)}
    item.user_properties.append((RESULT, {**result, **packed, "artefacts": str(artefacts)}))


def _packed(artefacts: Path, bench: Bench) -> str:
    """Pack a failure; the file, or why there is none."""
    if not isinstance(bench, Host):
        return "not packed: a board cannot be"
    try:
        made = pack(artefacts, artefacts.with_name(artefacts.name + SUFFIX), bench.tools)
    except HarnessError as error:
        return f"not packed: {error.message}"
    # The largest part of it; the disk stays where it always is.
    memories = [node / left.MEMORY for node in left.nodes(artefacts)]
    without = ", ".join(memory.parent.name for memory in memories if not memory.exists())
    for memory in memories:
        memory.unlink(missing_ok=True)
    return f"packed: {made}" + (f" (without the memory of {without})" if without else "")


@pytest.fixture
def harness_node(harness_session: Session) -> Node:
    """One node, off; begin with ``harness_node.at(State.READY)`` or ``harness_node.boot()``."""
    return harness_session.node()


@pytest.fixture
def harness_machine(harness_session: Session) -> Callable[..., Node]:
    """One node that the test describes: a name, and fields of MachineSpec that differ."""
    return harness_session.node


@pytest.fixture
def harness_nodes(harness_session: Session) -> Callable[..., list[Node]]:
    """Several nodes at once: their names, or each with fields of its own; fields of all."""
    return harness_session.nodes_at_once


@pytest.fixture
def harness_webserver(
    harness_session: Session, request: pytest.FixtureRequest
) -> Iterator[Callable[..., WebServer]]:
    """Web servers that fail on purpose: a directory, and WebServer's options.

    What a fault does is in the timeline of each node that has begun.
    """

    def record(what: str) -> None:
        for node in harness_session.nodes:
            if node.started:
                node.journal.append(Source.FAULT, "fired", what)

    lab: dict[str, Any] = {}
    if is_lab(request.config):
        lab = {"address": bench_of(request.config).host_address, "everywhere": True}
    with contextlib.ExitStack() as servers:

        def serve(directory: Path, **options: Any) -> WebServer:
            server = WebServer(directory, record=record, **{**lab, **options})
            servers.callback(server.close)
            return server

        yield serve
