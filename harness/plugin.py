"""The pytest plugin: nodes for scenarios, on each selected architecture.

Fixtures ``images`` (architecture to an image with ``disk``, ``kernel``, ``digest``) and
``host_tools`` (a HostTools) come from whoever uses the plugin.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from harness import accel
from harness.arch import Arch, Firmware
from harness.machine import Host
from harness.node import Node
from harness.pool import Pool
from harness.report import write_report
from harness.scenario import BACKENDS
from harness.session import Session, directory_name
from harness.spec import MachineSpec
from harness.states import States
from harness.tools import HostTools
from harness.webserver import WebServer
from product.errors import KubesoloError
from product.image.cache import default_root

BACKEND = "qemu"

_HERE = Path(__file__).resolve().parent
_FAILURE = pytest.StashKey[str]()
_RESULT = "scenario"  # the user property that carries a scenario's result to the controller

_MARKERS = (
    "scenario(backend): a test of a whole node",
    "arch(name): runs on this architecture alone",
    "needs(ability, ...): skipped where the machine lacks an ability (watchdog, bios, uefi)",
    "machine(**fields): fields of MachineSpec that differ from the defaults",
)


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


# Options and selection


def pytest_addoption(parser: pytest.Parser) -> None:
    """The harness's options."""
    group = parser.getgroup("harness")
    group.addoption(
        "--arch",
        choices=[*(arch.value for arch in Arch), "all"],
        default="all",
        help="architectures that scenarios run on (default: all)",
    )
    group.addoption(
        "--artefacts",
        type=Path,
        default=Path("out/scenarios"),
        help="where scenarios leave their evidence (default: out/scenarios)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what has an architecture once for each that is selected and possible."""
    if "arch" not in metafunc.fixturenames or _has_own_arch(metafunc):
        return
    option = metafunc.config.getoption("--arch")
    selected = list(Arch) if option == "all" else [Arch(option)]
    allowed = {
        Arch(name) for mark in metafunc.definition.iter_markers("arch") for name in mark.args
    }
    chosen = [arch for arch in selected if not allowed or arch in allowed]
    metafunc.parametrize("arch", chosen, ids=[arch.value for arch in chosen], scope="session")


def _has_own_arch(metafunc: pytest.Metafunc) -> bool:
    """Whether the test gives itself an argument or a fixture of that name."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        if "arch" in ([n.strip() for n in names.split(",")] if isinstance(names, str) else names):
            return True
    definitions = metafunc.definition._fixtureinfo.name2fixturedefs.get("arch", ())
    return any(definition.func.__module__ != __name__ for definition in definitions)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Machines with several processors first: they take turns, and all others fit beside them."""
    items.sort(key=lambda item: _processors(item) == 1)


def _processors(item: pytest.Item) -> int:
    for mark in item.iter_markers("machine"):
        if "cpus" in mark.kwargs:
            return int(mark.kwargs["cpus"])
    return 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what the backend or the machine cannot do."""
    for mark in item.iter_markers("scenario"):
        backends = mark.kwargs.get("backend", BACKENDS)
        if BACKEND not in backends:
            pytest.skip(f"needs one of {sorted(backends)}, this is {BACKEND}")
    # Only parametrized functions have a callspec; pytest's types name it for none.
    arch = getattr(item, "callspec", None) and item.callspec.params.get("arch")  # type: ignore[attr-defined]
    if not isinstance(arch, Arch):
        return
    abilities = {firmware.value for firmware in arch.firmwares}
    if arch.watchdog is not None:
        abilities.add("watchdog")
    for mark in item.iter_markers("needs"):
        if missing := set(mark.args) - abilities:
            pytest.skip(f"{arch} machines have no {', '.join(sorted(missing))}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the fixtures' ends know that the test failed, and why.

    Where the harness explains the failure, only the test's own frames are shown.
    """
    if call.excinfo is not None and isinstance(call.excinfo.value, KubesoloError):
        own = call.excinfo.traceback.filter(lambda entry: _HERE not in Path(entry.path).parents)
        if own:
            call.excinfo.traceback = own
    report = yield
    if report.failed and call.when in ("setup", "call"):
        item.stash[_FAILURE] = str(call.excinfo.value) if call.excinfo else "failed"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of the scenarios' time was the harness's own, and where the report lies."""
    results: dict[str, dict[str, Any]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _RESULT:
                    results[value["test"]] = value
    if not results:
        return
    terminalreporter.section("scenarios")
    for line in summary(list(results.values())):
        terminalreporter.write_line(line)
    for result in results.values():
        if result["outcome"] == "failed":
            terminalreporter.write_line(f"failed: {result['test']}; {result['artefacts']}")
            terminalreporter.write_line(f"  run again: {result['reproduce']}")
    # With workers, the controller alone comes here.
    evidence = terminalreporter.config.rootpath / terminalreporter.config.getoption("--artefacts")
    try:
        path = write_report(evidence, evidence / "report.html")
    except OSError as error:
        terminalreporter.write_line(f"the report could not be written: {error}")
    else:
        terminalreporter.write_line(f"report: {path}")


def summary(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the scenarios took, and how slow the host was, which two runs are compared by.

    ``results`` are what result.json holds, at least one.
    """
    worst = max(results, key=lambda result: float(result["overhead_seconds"]))
    total, guest, cpu, overhead = (
        sum(float(result[name]) for result in results)
        for name in ("seconds", "guest_seconds", "cpu_seconds", "overhead_seconds")
    )
    yield (
        f"{len(results)} scenarios, {total:.1f} s, of which guests {guest:.1f} s with {cpu:.1f} s "
        f"of processors; overhead of each {overhead / len(results) * 1000:.0f} ms on average, at "
        f"most {float(worst['overhead_seconds']) * 1000:.0f} ms ({worst['test']})"
    )
    scales = {(str(r["arch"]), str(r["accelerator"])): float(r["host_scale"]) for r in results}
    said = ", ".join(f"{arch} {by} {scale:.2f}" for (arch, by), scale in sorted(scales.items()))
    yield f"a kernel's start here in times of the reference, which deadlines are scaled by: {said}"


# Fixtures


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
def machine_host(
    arch: Arch, images: Mapping[str, ImageUnderTest], host_tools: HostTools, harness_cache: Path
) -> Host:
    """Programs, accelerator and speed for ``arch``."""
    found = accel.probe(host_tools, images[arch].kernel, arch, harness_cache)
    return Host(host_tools, found.name, found.scale, harness_cache / "runs")


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
    made = Session(
        item.nodeid,
        MachineSpec.model_validate(fields),
        machine_host,
        image=image.digest,
        states=states,
        pool=pool,
        artefacts=artefacts,
        reproduce=f"python -m pytest '{item.nodeid}' --arch {arch}",
    )
    yield made
    result = made.close(item.stash.get(_FAILURE, None))
    item.user_properties.append((_RESULT, {**result, "artefacts": str(artefacts)}))


@pytest.fixture
def node(session: Session) -> Node:
    """One node, off; begin with ``node.at(State.READY)`` or ``node.boot()``."""
    return session.node()


@pytest.fixture
def machine_factory(session: Session) -> Callable[..., Node]:
    """Further nodes: a name, and fields of MachineSpec that differ."""
    return session.node


@pytest.fixture
def webserver() -> Iterator[Callable[..., WebServer]]:
    """Web servers that fail on purpose: a directory, and WebServer's options."""
    servers: list[WebServer] = []

    def serve(directory: Path, **options: Any) -> WebServer:
        server = WebServer(directory, **options)
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.close()
