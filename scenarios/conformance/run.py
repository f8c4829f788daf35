"""Run conformance tests against one machine: the tests on this host, their pods on the node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from harness.errors import DeadlineError
from harness.faults.http import WebServer
from harness.journal.journal import Event, Source
from harness.target.node import Node
from product.errors import KubesoloError
from product.image import progress
from product.image.recipe import Arch
from scenarios.conformance.results import Result, Verdict, read
from scenarios.conformance.selection import expression
from scenarios.kubernetes import PAYLOAD, SETTLE

# More than a device has: pods of several tests at once, and the tests' container images.
MACHINE: dict[str, Any] = {"cpus": 2, "memory_mib": 3072, "disk_size_mib": 12288}
API_SERVER = 6443
# On the data partition: memory is the pods'.
_ARCHIVE = "/var/lib/kubesolo/conformance-images.tar"
# Seconds on a quiet machine. Of a test that is the average; the tests have limits of their own,
# which are chosen for real machines.
_IMPORT = 600.0
_READY = 600.0
_START = 600.0
_TEST = 600.0
# Seconds until a run that is asked to end has cleaned up and ended.
_END = 120.0
# Of one argument Linux takes 128 KiB.
_FOCUS_BYTES = 100_000


class Brought(NamedTuple):
    """What the run brings to the node: the tests, kubectl, and the archive of their images."""

    tests: Path
    kubectl: Path
    images: Path


class ConformanceError(KubesoloError):
    """The tests could not be run, which says nothing about the node."""

    exit_code = 2


def prepare(node: Node, images: Path) -> None:
    """Boot the node, wait until it is Ready and at rest, import the container images."""
    with progress.step("boot, until the node is Ready and at rest"):
        node.boot()
        kubeconfig = _payload(node)["kubeconfig"]
        kubectl = f"kubectl --kubeconfig {kubeconfig} --cache-dir=/run/kubectl"
        ready = f"until {kubectl} wait --for=condition=Ready node --all; do sleep 1; done"
        node.succeed(ready, seconds=_READY)
        node.succeed(SETTLE.format(kubectl=kubectl), seconds=_READY)
    with progress.step("import the tests' container images"), WebServer(images.parent) as server:
        address = _payload(node)["containerd"]
        ctr = f"ctr --address {address} -n k8s.io images"
        node.succeed(
            f"set -e; wget -q -O {_ARCHIVE} {server.url}/{images.name}; {ctr} import {_ARCHIVE}; "
            f"rm {_ARCHIVE}; {ctr} ls -q | grep -v @sha256 | while read -r name; do "
            # The kubelet must not collect what it cannot pull again.
            f'{ctr} label "$name" io.cri-containerd.pinned=pinned; done',
            seconds=_IMPORT,
        )


def _payload(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.get(PAYLOAD))
    return found


def run(
    node: Node, brought: Brought, names: Sequence[str], folder: Path, results: Path, *,
    minutes: float | None = None,
) -> None:  # fmt: skip
    """Run the tests ``names``, each once, for ``minutes`` at most; ``results`` gets a line of each
    that ends.

    ``folder`` gets the log of the tests. Raises ConformanceError where the program ends before it
    has tested anything, and what a wait on the node raises; the tests are ended then.
    """
    count = len(read(results))
    kubeconfig = folder / "kubeconfig"
    document = yaml.safe_load(node.get(str(_payload(node)["kubeconfig"])))
    document["clusters"][0]["cluster"]["server"] = f"https://{node.address(API_SERVER)}"
    kubeconfig.touch(0o600)
    kubeconfig.write_text(yaml.safe_dump(document))
    log = folder / "tests.log"
    command = [
        str(brought.tests), f"--kubeconfig={kubeconfig}", f"--kubectl-path={brought.kubectl}",
        "--provider=skeleton", "--num-nodes=1", "--node-os-distro=custom",
        f"--node-os-arch={Arch(node.spec.arch).debian}", f"--repo-root={folder}",
        f"--e2e-output-dir={folder}", f"--results={results}",
        "--ginkgo.no-color", "--ginkgo.silence-skips", "--ginkgo.timeout=240h", "--ginkgo.seed=1",
        f"--ginkgo.junit-report={folder / 'junit.xml'}",
        *[f"--ginkgo.focus={one}" for one in focuses(names)],
    ]  # fmt: skip
    deadline = node.deadline(_START + _TEST * len(names))
    since = node.journal.cursor
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(folder)},
            cwd=folder,
            # An interrupt of the terminal is ours to pass on.
            start_new_session=True,
        ) as process,
    ):
        watch = _Watch(process, results, len(names), minutes, node)
        watcher = threading.Thread(target=watch.until_end, name="conformance", daemon=True)
        watcher.start()
        try:
            node.journal.wait(watch.is_end, "the conformance tests", deadline, since=since)
        except (DeadlineError, KeyboardInterrupt):
            watch.interrupt()
            raise
        finally:
            watch.end()
            watcher.join()
    if len(read(results)) == count and not watch.interrupted:
        tail = log.read_text(errors="replace").strip().splitlines()[-12:]
        raise ConformanceError(
            f"the conformance tests ended with status {process.returncode} before a test had:\n"
            + "\n".join(tail),
            hint=f"all that they said is in {log}",
        )


def focuses(names: Sequence[str]) -> list[str]:
    """Values of ginkgo's focus for the tests ``names``, each short enough for one argument."""
    groups: list[list[str]] = [[]]
    size = 0
    for name in names:
        # Every character may need another before it.
        size += 2 * len(name.encode())
        if size > _FOCUS_BYTES and groups[-1]:
            groups.append([])
            size = 2 * len(name.encode())
        groups[-1].append(name)
    return [expression(group) for group in groups if group]


class _Watch:
    """Says how the tests of a process end, one line each, and that it has ended."""

    def __init__(
        self, process: subprocess.Popen[bytes], results: Path, total: int, minutes: float | None,
        node: Node,
    ) -> None:  # fmt: skip
        self._process = process
        self._results = results
        self._total = total
        self._minutes = minutes
        self._node = node
        self._begun = time.monotonic()
        self._seen = results.stat().st_size if results.exists() else 0
        self._done = 0
        self._asked = 0.0
        self.interrupted = False

    def until_end(self) -> None:
        """Runs in a thread."""
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            self._tell()
            if self._process.returncode is not None:
                break
            if self.interrupted and time.monotonic() - self._asked > _END:
                self.kill()
            spent = (time.monotonic() - self._begun) / 60
            if self._minutes is not None and spent >= self._minutes and not self.interrupted:
                progress.note(f"the {self._minutes:g} minutes are over: the present test ends")
                self.interrupt()
        self._node.journal.append(
            Source.HARNESS, "conformance", f"{self._done} tests", exit=self._process.returncode
        )

    def _tell(self) -> None:
        if not self._results.exists():
            return
        with self._results.open("rb") as file:
            file.seek(self._seen)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._seen += len(whole)
        for line in whole.decode().splitlines():
            result = Result.parse(line)
            self._done += 1
            said = f"[{self._done}/{self._total}] {result.verdict}, {result.seconds:.0f} s: "
            self._node.journal.append(Source.HARNESS, "note", f"{said}{result.name}")
            progress.note(said + result.name)
            if result.verdict is not Verdict.PASSED:
                progress.note(f"    {result.words}")

    def is_end(self, event: Event) -> bool:
        """Whether ``event`` says that the process has ended."""
        return event.source is Source.HARNESS and event.kind == "conformance"

    def interrupt(self) -> None:
        """Ask the tests to end: the present one cleans up."""
        self.interrupted, self._asked = True, time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            # SIGINT is ignored by what was started in the background.
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Whatever it does, it has ended afterwards."""
        if self.interrupted:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END)
        if self._process.poll() is None:
            self.kill()

    def kill(self) -> None:
        """End the tests and what they have started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
