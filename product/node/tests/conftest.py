"""A node in a directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.node import address
from product.node.console import Reporter
from product.node.paths import NodePaths
from product.node.payload import Payload, read_payload

FLOOR = 1793491200


class NodeWorld:
    """Paths, payload and reporter of one node, with what a boot would have put there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = NodePaths(str(root))
        self.reporter = Reporter(self.paths)
        self.write(self.paths.console, "")
        self.write(self.paths.hostname, "node-1\n")
        self.write(self.paths.release, json.dumps({"source_date": FLOOR}))
        self.write_payload()
        Path(self.paths.devices, "eth0").mkdir(parents=True)
        Path(self.paths.data).parent.mkdir(parents=True)

    def write(self, path: str, text: str) -> None:
        """Write a file and its folders."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    def write_payload(self, **changes: object) -> None:
        """The image's payload.json."""
        document = {
            "schema": 1,
            "kind": "upstream",
            "version": "1",
            "kubernetes": "1.20.2",
            "services": ["containerd", "kubernetes"],
            "kubeconfig": f"{self.paths.pki}/admin.kubeconfig",
            "containerd": "/run/containerd/containerd.sock",
            "datastore": {"path": f"{self.paths.data}/etcd", "service": "kubernetes"},
            "images": "",
            **changes,
        }
        self.write(self.paths.payload, json.dumps(document))

    @property
    def payload(self) -> Payload:
        """As the node reads it."""
        return read_payload(self.paths.payload)

    @property
    def console(self) -> str:
        """All that was said."""
        return Path(self.paths.console).read_text()

    @property
    def problems(self) -> list[str]:
        """All that was kept for the status."""
        path = Path(self.paths.problems)
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeWorld:
    monkeypatch.setattr(address, "wait_for_address", lambda paths, known: "10.0.2.15")
    monkeypatch.setattr(address, "take_unconnected_address", lambda: True)
    return NodeWorld(tmp_path)
