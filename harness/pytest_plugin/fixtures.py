"""Fixtures: nodes for scenarios, on each selected architecture.

Fixtures ``images`` (architecture to an image with ``disk``, ``kernel``, ``digest``) and
``host_tools`` (a HostTools) come from whoever uses the plugin.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from harness.faults.http import WebServer
from harness.journal.journal import Source
from harness.pytest_plugin.run import RUN
from harness.pytest_plugin.summary import FAILURE, RESULT
from harness.qemu import accel
from harness.qemu.arch import Arch, Firmware
from harness.qemu.machine import Host
from harness.qemu.pool import Pool
from harness.qemu.snapshots import States
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools
from harness.report.data import RUN_MARK
from harness.target.node import Node
from harness.target.session import Session, directory_name
from product.image.cache import default_root


class ImageUnderTest(Protocol):
    """A built image, as the ``images`` fixture gives it."""

    @property
    def disk(self) -> Path:
        """The raw disk image."""
        ...

    @property
    def kernel(self) -> Path:
        """Its kernel, for the accelerator's probe."""
        ...

    @property
    def digest(self) -> str:
        """The name of its exact content."""
        ...


@pytest.fixture(scope="session")
def arch() -> Arch:
    """The architecture that a test runs on; pytest_generate_tests gives its values."""
    raise pytest.UsageError("no architecture is selected for this test")


@pytest.fixture(scope="session")
def harness_cache() -> Path:
    """The harness's part of the user's cache."""
    return default_root() / "harness"


@pytest.fixture(scope="session")
def pool(harness_cache: Path) -> Pool:
    """The budget of cores and memory that all workers on this host share."""
    return Pool(harness_cache / "pool")


@pytest.fixture(scope="session")
def states(harness_cache: Path) -> States:
    """The snapshots that all workers share."""
    return States(harness_cache / "states")


@pytest.fixture(scope="session")
def tpm_tools() -> Callable[[], HostTools] | None:
    """Prepares the programs of a software TPM, for machines that have one."""
    return None


@pytest.fixture(scope="session")
def machine_host(
    arch: Arch,
    images: Mapping[str, ImageUnderTest],
    host_tools: HostTools,
    harness_cache: Path,
    tpm_tools: Callable[[], HostTools] | None,
) -> Host:
    """Programs, accelerator and speed for ``arch``."""
    found = accel.probe(host_tools, images[arch].kernel, arch, harness_cache)
    return Host(host_tools, found.name, found.scale, harness_cache / "runs", tpm_tools)


def reproduce(identity: str, arch: Arch) -> str:
    """The command that runs one test again, for a shell in the project's folder."""
    return f"./noxw -s scenarios -- {shlex.quote(identity)} --arch {arch}"


@pytest.fixture
def session(
    request: pytest.FixtureRequest,
    arch: Arch,
    images: Mapping[str, ImageUnderTest],
    machine_host: Host,
    states: States,
    pool: Pool,
) -> Iterator[Session]:
    """The machines and the evidence of one test."""
    config = request.config
    item = request.node
    image = images[arch]
    fields: dict[str, Any] = {"arch": arch, "image": image.disk, "firmware": Firmware.UEFI}
    for mark in reversed(list(item.iter_markers("machine"))):
        fields.update(mark.kwargs)
    artefacts = config.rootpath / config.getoption("--artefacts") / directory_name(item.nodeid)
    shutil.rmtree(artefacts, ignore_errors=True)
    artefacts.mkdir(parents=True)
    # Also of a scenario that never comes to its end, the report knows which run it belongs to.
    (artefacts / RUN_MARK).write_text(f"{config.stash[RUN].id}\n{item.nodeid}\n")
    made = Session(
        item.nodeid,
        MachineSpec.model_validate(fields),
        machine_host,
        image=image.digest,
        states=states,
        pool=pool,
        artefacts=artefacts,
        reproduce=reproduce(item.nodeid, arch),
    )
    yield made
    result = made.close(item.stash.get(FAILURE, None))
    item.user_properties.append((RESULT, {**result, "artefacts": str(artefacts)}))


@pytest.fixture
def node(session: Session) -> Node:
    """One node, off; begin with ``node.at(State.READY)`` or ``node.boot()``."""
    return session.node()


@pytest.fixture
def machine_factory(session: Session) -> Callable[..., Node]:
    """One node that the test describes: a name, and fields of MachineSpec that differ."""
    return session.node


@pytest.fixture
def nodes(session: Session) -> Callable[..., list[Node]]:
    """Several nodes at once: their names, or each with fields of its own; fields of all."""
    return session.nodes_at_once


@pytest.fixture
def webserver(session: Session) -> Iterator[Callable[..., WebServer]]:
    """Web servers that fail on purpose: a directory, and WebServer's options.

    What a fault does is in the timeline of each node that has begun.
    """

    def record(what: str) -> None:
        for node in session.nodes:
            if node.started:
                node.journal.append(Source.FAULT, "fired", what)

    with contextlib.ExitStack() as servers:

        def serve(directory: Path, **options: Any) -> WebServer:
            server = WebServer(directory, record=record, **options)
            servers.callback(server.close)
            return server

        yield serve
