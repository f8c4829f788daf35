"""One session outside pytest: for the demo and the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.qemu import accel
from harness.qemu.arch import Arch, Firmware
from harness.qemu.machine import Host
from harness.qemu.pool import Pool
from harness.qemu.snapshots import States
from harness.qemu.spec import MachineSpec
from harness.target.session import Session
from product.image.build import Builder, Image
from scenarios.profile import KUBESOLO


@dataclass(frozen=True, slots=True)
class Bench:
    """A built image and the host's way to run it."""

    builder: Builder
    image: Image
    host: Host

    @classmethod
    def prepare(cls, builder: Builder) -> Bench:
        """Build the factory image and probe the accelerator."""
        image = builder.image("0.1.0")
        root = builder.cache.root / "harness"
        found = accel.probe(builder.tools, image.kernel, Arch(builder.arch.value), root)
        host = Host(builder.tools, found.name, found.scale, root / "runs", profile=KUBESOLO)
        return cls(builder, image, host)

    @contextmanager
    def session(self, name: str, artefacts: Path, reproduce: str) -> Iterator[Session]:
        """A session whose evidence is written however it ends."""
        arch = Arch(self.builder.arch.value)
        root = self.builder.cache.root / "harness"
        session = Session(
            name,
            MachineSpec(arch=arch, image=self.image.disk, firmware=Firmware.UEFI),
            self.host,
            image=self.image.digest,
            states=States(root / "states"),
            pool=Pool(root / "pool"),
            artefacts=artefacts.absolute(),
            reproduce=reproduce,
        )
        failure: str | None = None
        try:
            yield session
            session.end()
        except KeyboardInterrupt:
            failure = "interrupted"
            # Who ends it waits for no evidence of the nodes.
            for node in session.nodes:
                if node.started and node.target.running:
                    node.power_cut()
            raise
        except BaseException as error:
            failure = str(error) or type(error).__name__
            raise
        finally:
            session.close(failure)
