"""What scenarios share: releases for the architecture at hand, and where a node finds them."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.faults.http import WebServer
from harness.qemu.arch import Arch
from harness.target.node import Node, State
from harness.target.session import Session
from product.image.seed import Kind, seed_image
from product.image.tools import HostTools
from product.release.keys import KeyDirectory
from scenarios import kubectl, kubernetes, steps
from scenarios.kubernetes import MANIFESTS
from scenarios.releases import Release, Releases, host_keys
from scenarios.steps import Update, offer

if TYPE_CHECKING:
    from conftest import Images

# Where the only partition of a seed disk begins.
SEED_AT = 1 << 20


# The harness's fixtures by the names that scenarios use.


@pytest.fixture(scope="session")
def arch(harness_arch: Arch) -> Arch:
    """The architecture that a scenario runs on."""
    return harness_arch


@pytest.fixture
def session(harness_session: Session) -> Session:
    """The machines and the evidence of one scenario."""
    return harness_session


@pytest.fixture
def node(harness_node: Node) -> Node:
    """One node, off; begin with ``node.at(State.READY)`` or ``node.boot()``."""
    return harness_node


@pytest.fixture
def machine_factory(harness_machine: Callable[..., Node]) -> Callable[..., Node]:
    """One node that the test describes: a name, and fields of MachineSpec that differ."""
    return harness_machine


@pytest.fixture
def nodes(harness_nodes: Callable[..., list[Node]]) -> Callable[..., list[Node]]:
    """Several nodes at once: their names, or each with fields of its own; fields of all."""
    return harness_nodes


@pytest.fixture
def webserver(harness_webserver: Callable[..., WebServer]) -> Callable[..., WebServer]:
    """Web servers that fail on purpose: a directory, and WebServer's options."""
    return harness_webserver


@pytest.fixture(scope="session")
def release_keys(harness_cache: Path) -> KeyDirectory:
    """The keys that releases are signed with."""
    return host_keys(harness_cache / "release-keys")


@pytest.fixture(scope="session")
def releases_of(
    arch: Arch, tmp_path_factory: pytest.TempPathFactory, release_keys: KeyDirectory
) -> Callable[[Images], Releases]:
    """Signed releases of images, each built when first asked for."""
    made: dict[int, tuple[Images, Releases]] = {}

    def make(images: Images) -> Releases:
        if id(images) not in made:
            folder = tmp_path_factory.mktemp(f"releases-{arch}")
            found = Releases(images.builder(arch.value), folder, release_keys)
            made[id(images)] = (images, found)
        return made[id(images)][1]

    return make


# Not of the whole session: pytest would keep those of the first module's images for all others.
@pytest.fixture(scope="module")
def releases(images: Images, releases_of: Callable[[Images], Releases]) -> Releases:
    """Signed releases of the image under test."""
    return releases_of(images)


@pytest.fixture
def serve(node: Node, webserver: Callable[[Path], WebServer]) -> Callable[..., Update]:
    """Offer a release to the node from a web server of its own."""

    def serve_one(release: Release, **settings: str) -> Update:
        server = webserver(release.repository)
        offer(node, release, server, **settings)
        return Update(node, release, server)

    return serve_one


@pytest.fixture
def begin_after(node: Node, webserver: Callable[[Path], WebServer]) -> Callable[..., Update]:
    """Begin where a step of an update has been done on a fresh node, forked from a snapshot.

    ``step`` gets the update on offer, ``begin`` the node before (default: ready, in slot A); the
    other arguments are settings of the agent. Whoever pulls the plug before the next reboot takes
    the step himself: a snapshot keeps what was not flushed.
    """

    def ready(maker: Node) -> None:
        maker.at(State.READY, slot="A")

    def begin_it(
        step: Callable[[Update], object],
        release: Release,
        *,
        begin: Callable[[Node], object] = ready,
        **settings: str,
    ) -> Update:
        server = webserver(release.repository)

        def prepare(maker: Node) -> None:
            begin(maker)
            offer(maker, release, server, **settings)
            step(Update(maker, release, server))

        taken_with = [release.digest, settings, _source(begin, step)]
        node.prepared(step.__name__, prepare, inputs=json.dumps(taken_with, sort_keys=True))
        # The server is another one than the maker's.
        offer(node, release, server, **settings)
        return Update(node, release, server)

    return begin_it


@pytest.fixture
def seed(tmp_path: Path, host_tools: HostTools) -> Callable[..., Path]:
    """Make a seed disk of files, given as text; the rest is as ``product.image.seed`` has it."""
    numbers = itertools.count(1)

    def make(
        files: Mapping[str, str],
        kind: Kind = "vfat",
        *,
        partitioned: bool = False,
        rock_ridge: bool = True,
    ) -> Path:
        return seed_image(
            tmp_path / f"seed-{next(numbers)}",
            {name: text.encode() for name, text in files.items()},
            kind,
            partitioned=partitioned,
            rock_ridge=rock_ridge,
            tools=host_tools,
        )

    return make


@pytest.fixture
def read_seed(host_tools: HostTools) -> Callable[..., str]:
    """Read a file of a node's seed disk: of a node that is off, or what it has synced."""

    def read(node: Node, name: str, *, partitioned: bool = False) -> str:
        disk = node.machine.storage.seed
        assert disk is not None
        place = f"{disk}@@{SEED_AT}" if partitioned else str(disk)
        return host_tools.run("mtype", "-i", place, f"::{name}").decode()

    return read


def _source(*functions: Callable[..., object]) -> str:
    """64 hex digits: the modules that ``functions`` stand in, and what steps are made of."""
    shared = (Path(str(module.__file__)) for module in (kubectl, kubernetes, steps))
    modules = {*shared, *(Path(inspect.getfile(function)) for function in functions)}
    digest = hashlib.sha256()
    for file in (*sorted(modules), *sorted(MANIFESTS.iterdir())):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
