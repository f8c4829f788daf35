"""``python -m product.installer.tests.fake_machine FOLDER ...``: the installer on disks in files.

``FOLDER`` has ``medium/``, and the fake machine's ``sys/class/block`` and ``dev``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from product.agent.node import Node
from product.agent.system.paths import Paths
from product.cloudinit.sources import Seed
from product.disk.gpt import Partition
from product.installer import cli, job
from product.installer.disks import Disk, list_disks
from product.installer.machine import Machine
from product.installer.tests.test_write import FileTarget


class FakeMachine(Machine):
    """Disks are files; a seed lies in ``seed``; what would be put onto KSOLOEFI goes to ``esp``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.node = Node(Paths(str(root)))
        self._others = {}

    @contextmanager
    def medium(self) -> Iterator[str]:
        """See Machine."""
        yield str(self.root / "medium")

    def seed(self) -> Seed | None:
        """See Machine."""
        folder = self.root / "seed"
        if not folder.is_dir():
            return None
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return Seed(0, "the seed disk /dev/vdz", files, "/dev/vdz")

    def disks(self) -> list[Disk]:
        """See Machine."""
        return list_disks({}, str(self.root))

    def open(self, path: str) -> FileTarget:
        """See Machine."""
        return FileTarget(self.root / path.lstrip("/"))

    def put(self, path: str, esp: Partition, files: Mapping[str, bytes]) -> None:
        """See Machine."""
        kept = {"path": path, "esp": esp.name, **{n: d.decode() for n, d in files.items()}}
        (self.root / "esp").write_text(json.dumps(kept))

    def configuration_of(self, path: str) -> dict[str, bytes]:
        """See Machine."""
        if not (self.root / "esp").exists():
            return {}
        kept = json.loads((self.root / "esp").read_text())
        return {n: t.encode() for n, t in kept.items() if n not in ("path", "esp")}

    def restart(self, then: str) -> None:
        """See Machine."""
        (self.root / "restarted").write_text(then)


def main() -> int:
    """The installer's exit code."""
    root = Path(sys.argv[1])
    job._LOCK = str(root / "lock")
    return cli.main(sys.argv[2:], FakeMachine(root))


if __name__ == "__main__":
    sys.exit(main())
