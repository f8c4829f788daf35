"""What people and CI run: ``./noxw -l`` lists it, ``./noxw -s demo`` and ``-s tests`` are the two.

All sessions share one virtual environment in the user's cache, named by the digest of the locked
requirements: a clean clone on a machine that has run before starts at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from pathlib import Path

import nox

HERE = Path(__file__).parent.resolve()
REQUIREMENTS = HERE / "requirements" / "dev.txt"
LAB = HERE / "requirements" / "lab.txt"
# The boards of docs/examples/lab: environment file, and what runs where no test is named.
LAB_BOARDS = {
    "pc": ("qemu-board.yaml", [
        "scenarios/boot/test_first_boot.py::test_the_first_boot_makes_the_data_file_system",
        "scenarios/update/test_switch.py::test_two_updates_switch_to_the_other_slot_and_back",
        "scenarios/rollback/test_failed_boots.py::test_kernel_panic",
    ]),
    "pc-usb": ("usb-board.yaml", [
        "scenarios/boot/test_first_boot.py::test_the_first_boot_makes_the_data_file_system",
    ]),
    "raspi3b": ("raspi3b.yaml", [
        "scenarios/hardware/test_raspberry.py::test_it_boots_from_its_card_and_is_confirmed",
        "scenarios/hardware/test_raspberry.py::test_an_update_brings_the_files_of_the_board",
    ]),
}  # fmt: skip
# Packages with unit tests. Those that take longest first, the harness's boot machines: whoever has
# none of them takes the others.
TESTED = (
    "harness", "kubesolo_os", "product/image", "product", "scenarios/mutations", "scenarios/demo",
    "scenarios/conformance", "scenarios/crash", "scenarios/firmware", "scenarios/fuzz",
    "scenarios/fleet",
    "scenarios/sources/tests", "scenarios/operation/tests", "scenarios/media/tests",
    "scenarios/tests", "scenarios/documents",
)  # fmt: skip
SHELL_SCRIPTS = (
    "noxw", ".ci/run", "images/boot/init", "images/overlay/etc/runit/[123]",
    "images/overlay/etc/profile", "images/overlay/usr/sbin/reboot",
    "images/overlay/usr/sbin/poweroff", "images/overlay/usr/lib/kubesolo/dhcp",
    "images/overlay/usr/bin/kubeconfig",
    "images/overlay/usr/lib/kubesolo/lib.sh", "images/overlay/usr/lib/kubesolo/name-servers",
    "images/overlay/usr/lib/kubesolo/time-servers", "images/**/usr/lib/kubesolo/stages/*",
    "images/overlay/usr/lib/kubesolo/log-service", "images/overlay/usr/lib/kubesolo/confine*",
    "images/overlay/usr/lib/kubesolo/prune-*", "images/overlay/usr/lib/kubesolo/refused-modules",
    "images/**/usr/lib/kubesolo/services/*/run", "images/**/usr/lib/kubesolo/services/*/finish",
    "images/oci/agent/*",
    "fixtures/overlays/**/services/*/run", "fixtures/overlays/**/stages/*",
)  # fmt: skip

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"
# nox looks for uv whatever the backend, and says so where there is none; nothing here needs it.
logging.getLogger("nox").addFilter(lambda record: "uv binary" not in record.getMessage())


def cache_root() -> Path:
    """The project's cache; product.image.cache says the same."""
    if explicit := os.environ.get("KUBESOLO_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "kubesolo-os"


def project_python(session: nox.Session, *more: Path) -> str:
    """The shared environment's interpreter, made if it is not there; ``more`` needs another one."""
    return interpreter_with(session, REQUIREMENTS, *more)


def interpreter_with(session: nox.Session, *requirements: Path) -> str:
    """The interpreter of the environment with these locked requirements, made if need be."""
    digest = hashlib.sha256(sys.version.encode() + sys.executable.encode())
    for path in requirements:
        digest.update(path.read_bytes())
    environment = cache_root() / "venv" / digest.hexdigest()[:16]
    python = environment / "bin" / "python"
    ready = environment / "ready"
    if not ready.exists():
        session.log("preparing the project's virtual environment (once)")
        shutil.rmtree(environment, ignore_errors=True)
        session.run(sys.executable, "-m", "venv", str(environment), external=True, silent=True)
        listed = [word for path in requirements for word in ("-r", str(path))]
        session.run(
            str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
            "--require-hashes", *listed, external=True,
        )  # fmt: skip
        ready.touch()
    session.env["PYTHONPATH"] = str(HERE)
    return str(python)


def allow_drift(session: nox.Session) -> None:
    """Go on with present packages where locked ones have vanished, unless the user says 0."""
    session.env["KUBESOLO_ALLOW_DRIFT"] = os.environ.get("KUBESOLO_ALLOW_DRIFT", "1")


def python(session: nox.Session, *arguments: str, end_seconds: float = 0.3) -> None:
    """Run the project's interpreter with ``arguments``; after Ctrl-C it has ``end_seconds``."""
    session.run(project_python(session), *arguments, external=True, interrupt_timeout=end_seconds)


def named(words: list[str]) -> bool:
    """Whether pytest's arguments name tests, as files, folders or node ids."""
    paths = [Path(word.split("::")[0]) for word in words]
    folders = {*(Path(name).parts[0] for name in TESTED), "scenarios"}
    return any(path.parts[:1] and path.parts[0] in folders and path.exists() for path in paths)


@nox.session
def demo(session: nox.Session) -> None:
    """Boot, update, survive a bad release; then with Kubernetes (-- --no-kubernetes)."""
    allow_drift(session)
    # It ends its machine and says what stands.
    python(session, "-m", "scenarios.demo", *session.posargs, end_seconds=60)


@nox.session
def tests(session: nox.Session) -> None:
    """What CI runs: static checks, unit tests and the core scenarios."""
    lint(session)
    types(session)
    table(session)
    probe(session)
    unit(session)
    _scenarios(session, "--tier", "core")


@nox.session
def lint(session: nox.Session) -> None:
    """Style of Python (ruff) and of shell (shellcheck)."""
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")
    scripts = sorted(str(path) for pattern in SHELL_SCRIPTS for path in HERE.glob(pattern))
    shellcheck = Path(project_python(session)).with_name("shellcheck")
    session.run(
        str(shellcheck),
        "--shell=busybox",
        "--severity=style",
        "-x",
        "-P",
        str(HERE),
        *scripts,
        external=True,
    )


@nox.session
def types(session: nox.Session) -> None:
    """Types (mypy --strict)."""
    python(session, "-m", "mypy", "--cache-dir", str(cache_root() / "mypy"))


@nox.session
def table(session: nox.Session) -> None:
    """Check the mutations and their results, and count those that are not fresh.

    A release needs all of them fresh: -- --require-fresh.
    """
    chosen = session.posargs if "tests" not in sys.argv else []
    python(session, "-m", "scenarios.mutate", "--check", *chosen)


@nox.session
def probe(session: nox.Session) -> None:
    """Ask how slowly this host emulates, while nothing runs beside; kept until it reboots."""
    allow_drift(session)
    python(session, "-m", "scenarios.probe")


@nox.session
def unit(session: nox.Session) -> None:
    """Unit tests, beside the code that they test (-- pytest arguments)."""
    allow_drift(session)
    chosen = session.posargs if "tests" not in sys.argv else []
    paths = [] if named(chosen) else list(TESTED)
    python(session, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", *paths, *chosen)


@nox.session
def scenarios(session: nox.Session) -> None:
    """Scenarios of your choice (-- --arch aarch64 -k rollback, any pytest argument).

    Leaves the evidence, an HTML report and JUnit XML under out/scenarios.
    """
    allow_drift(session)
    _scenarios(session, *session.posargs)


@nox.session
def harness(session: nox.Session) -> None:
    """The harness's command line (-- list, run, console, replay, report, cache, --help)."""
    allow_drift(session)
    # A machine that it boots is ended in good order.
    python(session, "-m", "harness", *session.posargs, end_seconds=60)


@nox.session
def flakes(session: nox.Session) -> None:
    """Repeat the core's quick scenarios under load, and say how often they fail (-- -n 200)."""
    allow_drift(session)
    python(session, "-m", "harness", "flakes", *session.posargs, end_seconds=60)


@nox.session
def matrix(session: nox.Session) -> None:
    """Every scenario on both architectures, which a release needs (-- --arch x86_64)."""
    _scenarios(session, "--tier", "full", *session.posargs)


def _scenarios(session: nox.Session, *chosen: str) -> None:
    paths = [] if named(list(chosen)) else ["scenarios"]
    # A board runs one scenario at a time; labgrid is installed where one is asked for.
    lab = any(word == "lab" or word == "--backend=lab" for word in chosen)
    more, workers = ((LAB,), ("-n", "0")) if lab else ((), ("-n", "auto", "--dist", "worksteal"))
    session.run(
        project_python(session, *more), "-m", "pytest", *workers, "--durations=10",
        *(f"--ignore={folder}" for folder in TESTED if folder.startswith("scenarios/")),
        "--junitxml=out/scenarios/junit.xml", *paths, *chosen,
        external=True, interrupt_timeout=0.3,
    )  # fmt: skip


@nox.session
def bench(session: nox.Session) -> None:
    """Print every measured figure with its conditions and its budget."""
    if not session.posargs or "harness" in session.posargs:
        session.env["KUBESOLO_LAB_PYTHON"] = interpreter_with(session, REQUIREMENTS, LAB)
    python(session, "-m", "scenarios.bench", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Kubernetes' own conformance tests against the image (-- --focus REGEX --limit 30)."""
    allow_drift(session)
    python(session, "-m", "scenarios.conformance", *session.posargs)


@nox.session
def lab(session: nox.Session) -> None:
    """Boot, update and roll back on a lab of this host (-- BOARD and pytest arguments)."""
    allow_drift(session)
    interpreter = project_python(session, LAB)
    chosen = list(session.posargs)
    board = chosen.pop(0) if chosen and chosen[0] in LAB_BOARDS else "pc"
    file, default = LAB_BOARDS[board]
    session.run(
        interpreter, "docs/examples/lab/lab.py", "--board", board,
        interpreter, "-m", "pytest", "-n", "0",
        "--backend", "lab", "--lg-env", f"docs/examples/lab/{file}",
        "--artefacts", f"out/lab/{board}", *(chosen or default),
        external=True, interrupt_timeout=60,
    )  # fmt: skip


@nox.session
def signoff(session: nox.Session) -> None:
    """Run what a board of a lab can do, and sign the report (-- --lg-env lab.yaml --keys DIR)."""
    allow_drift(session)
    interpreter = project_python(session, LAB)
    session.run(
        interpreter, "-m", "scenarios.signoff", *session.posargs, external=True,
        interrupt_timeout=60,
    )  # fmt: skip


@nox.session
def mutate(session: nox.Session) -> None:
    """Break each promise on purpose and see its scenarios fail (-- -k NAME, --stale, --list)."""
    python(session, "-m", "scenarios.mutate", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed each reader of foreign bytes a million inputs (-- -k NAME, --runs N, --minutes N)."""
    interpreter = project_python(session, HERE / "requirements" / "fuzz.txt")
    session.run(
        interpreter, "-m", "scenarios.fuzz", *session.posargs, external=True, interrupt_timeout=0.3
    )


@nox.session
def crash(session: nox.Session) -> None:
    """Judge each state that a power cut could leave, boot each kind (-- --phase apply --no-boot).

    Leaves a table, JSON and a picture under out/crash.
    """
    allow_drift(session)
    python(session, "-m", "scenarios.crash", *session.posargs, end_seconds=60)


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documents and build the site, out/docs (-- --renew: pictures and reference)."""
    python(session, "-m", "scenarios.documents", *session.posargs)
    site = interpreter_with(session, HERE / "requirements" / "docs.txt")
    # The theme's own notice on the future of mkdocs.
    session.env["NO_MKDOCS_2_WARNING"] = "1"
    # Not --quiet: what is not said is not counted, and a strict build would pass with every fault.
    session.run(
        site, "-m", "mkdocs", "build", "--strict", "--site-dir", "out/docs", external=True
    )  # fmt: skip


@nox.session
def image(session: nox.Session) -> None:
    """Build the disk image (-- --arch aarch64 --version 1.2.3 --output disk.img --allow-drift)."""
    python(session, "-m", "product.image", "build", *session.posargs)


@nox.session
def media(session: nox.Session) -> None:
    """Build media (-- --kind iso --kind usb --kind oci --kind qcow2 --output FOLDER)."""
    python(session, "-m", "product.image", "media", *session.posargs)


@nox.session
def flash(session: nox.Session) -> None:
    """Write an image to a disk with its configuration (-- IMAGE DEVICE --config user-data)."""
    python(session, "-m", "product.image", "flash", *session.posargs)


@nox.session
def vm(session: nox.Session) -> None:
    """Boot the image as a developer's VM (-- --recipe upstream --config user-data --data DISK)."""
    allow_drift(session)
    python(session, "-m", "scenarios.vm", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Make keys, start a repository, publish into it (-- --help)."""
    python(session, "-m", "product.release", *session.posargs)


@nox.session
def publish(session: nox.Session) -> None:
    """Make a whole release: media, signatures, provenance, repository (-- --dry-run)."""
    python(session, "-m", "product.publish", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Renew the locks of Debian packages, by signature, and Go modules (-- --allow-older)."""
    python(session, "-m", "product.image", "lock", *session.posargs)


@nox.session
def outdated(session: nox.Session) -> None:
    """Say which locked packages and Go modules have newer versions; changes nothing."""
    python(session, "-m", "product.image", "outdated", *session.posargs)


@nox.session
def requirements(session: nox.Session) -> None:
    """Renew the locked Python requirements."""
    for source, target, extra in (
        ("requirements/nox.in", "requirements/nox.txt", []),
        ("pyproject.toml", "requirements/dev.txt", ["--extra", "dev"]),
        ("requirements/fuzz.in", "requirements/fuzz.txt", []),
        ("requirements/docs.in", "requirements/docs.txt", []),
        ("requirements/lab.in", "requirements/lab.txt", []),
    ):
        python(
            session, "-m", "piptools", "compile", "--upgrade", "--quiet", "--generate-hashes",
            "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host",
            "--strip-extras", "--no-annotate", "--no-header", "--allow-unsafe", *extra,
            "-o", target, source,
        )  # fmt: skip
