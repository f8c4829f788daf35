"""A node whose Kubernetes has a datastore, without anything that runs."""

from __future__ import annotations

import json
from pathlib import Path

from product.agent.kubernetes.tests.test_payload import GOOD
from product.agent.tests.world import World

SERVICE = "kubernetes"


class Store:
    """The datastore of a World; its content is a text, which stands for all that etcd keeps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.path = Path(world.paths.under("/var/lib/kubesolo/kubernetes/etcd"))
        self.home = Path(world.paths.datastore)
        self.run_kubernetes("1.20.2")
        self.notes()

    def run_kubernetes(self, version: str) -> None:
        """The image carries this one."""
        document = {**GOOD, "kubernetes": version}
        self.world.write_file(self.world.paths.payload, json.dumps(document))

    def notes(self) -> None:
        """What early boot leaves for those that come before its report."""
        slot = json.loads(Path(self.world.paths.boot).read_text())["slot"]
        self.world.write_file(self.world.paths.early, f"slot={slot}\ndata=persistent\n")

    def boot(self, kubernetes: str, *, slot: str | None = None) -> str:
        """Power on, up to the moment at which Kubernetes' services start."""
        booted = self.world.power_on(slot=slot)
        self.run_kubernetes(kubernetes)
        self.notes()
        return booted

    def settle(self) -> int | None:
        """As early boot does."""
        from product.agent.datastore.restore import main

        return main(self.world.node())

    def write(self, text: str) -> None:
        (self.path / "member").mkdir(parents=True, exist_ok=True)
        (self.path / "member/db").write_text(text)
        (self.path / "member/wal").write_text(f"log of {text}")

    def read(self) -> str | None:
        """None where there is none; torn ones fail."""
        if not self.path.exists():
            return None
        return read(self.path)

    def asides(self) -> list[str]:
        return [read(path / "data") for path in sorted(self.home.glob("aside-*"))]


def read(directory: Path) -> str:
    text = (directory / "member/db").read_text()
    assert (directory / "member/wal").read_text() == f"log of {text}"
    return text
