"""What decides when Kubernetes is started again: the image's script, under this host's shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = (
    Path(__file__).resolve().parents[3]
    / "images/payload/upstream/usr/lib/kubesolo/services/kubernetes/finish"
).read_text()


class Service:
    """The service's folder and what the script finds on the node, moved into a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ready = root / "run/kubesolo/kubernetes/ready"
        self.ready.parent.mkdir(parents=True)
        (root / "bin").mkdir()
        for name in ("kubesolo-node", "sleep"):
            path = root / "bin" / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >> {root}/log\n')
            path.chmod(0o755)
        (root / "supervise").mkdir()
        self.state("finish\n")

    def state(self, text: str) -> None:
        (self.root / "supervise/stat").write_text(text)

    def end(self, code: int) -> list[str]:
        """What the script calls when the service has ended with ``code``."""
        log = self.root / "log"
        log.unlink(missing_ok=True)
        subprocess.run(
            ["/bin/sh", "-c", SCRIPT.replace("/run/", f"{self.root}/run/"), "finish", str(code)],
            check=True,
            cwd=self.root,
            env={"PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_an_end_is_looked_at_and_waited_for(service: Service) -> None:
    assert service.end(11) == ["kubesolo-node ended 11", "sleep 3"]


def test_a_start_that_cannot_be_has_said_why(service: Service) -> None:
    assert service.end(100) == ["sleep 3"]


def test_a_stop_in_good_order_is_not_waited_for(service: Service) -> None:
    assert service.end(0) == []


@pytest.mark.parametrize("wanted", ["down", "exit"])
def test_nor_is_one_that_somebody_wants(service: Service, wanted: str) -> None:
    service.state(f"finish, want {wanted}\n")
    assert service.end(15) == []


def test_starts_that_fail_come_further_apart(service: Service) -> None:
    waits = [service.end(100) for _ in range(6)]
    assert waits == [[f"sleep {seconds}"] for seconds in (3, 6, 12, 24, 30, 30)]


def test_a_node_that_was_ready_is_back_soon(service: Service) -> None:
    for _ in range(3):
        service.end(100)
    service.ready.touch()
    assert service.end(100) == ["sleep 3"]
    assert not service.ready.exists()
    assert service.end(100) == ["sleep 6"]
