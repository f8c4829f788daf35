"""Each implementation of BootEnv over a folder, and how its file is written without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from product.agent.bootloader.grub import GrubBootEnv
from product.agent.bootloader.protocol import BootEnv
from product.agent.bootloader.tryboot import TrybootEnv

PARTITIONS = {"A": 5, "B": 6}


class Loader:
    """``size`` is that of the file; ``path`` is where it lies."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / self.name
        self.path.parent.mkdir(parents=True, exist_ok=True)

    name: str
    size: int

    @property
    def env(self) -> BootEnv:
        raise NotImplementedError

    def put(self, slot: str, counter: str, success: str, **more: str) -> None:
        """Write the file as it is documented, by code of its own."""
        raise NotImplementedError

    @contextmanager
    def _partition(self, writable: bool) -> Iterator[str]:
        yield str(self.base)


class Grub(Loader):
    """The environment block."""

    name, size = "boot/grub/grubenv", 1024

    @property
    def env(self) -> GrubBootEnv:
        return GrubBootEnv(self._partition, self.name)

    def put(self, slot: str, counter: str, success: str, **more: str) -> None:
        words = {"active_slot": slot, "boot_counter": counter, "boot_success": success, **more}
        lines = "".join(f"{name}={value}\n" for name, value in words.items())
        self.path.write_bytes(f"# GRUB Environment Block\n{lines}".encode().ljust(1024, b"#"))


class Tryboot(Loader):
    """autoboot.txt."""

    name, size = "autoboot.txt", 480

    @property
    def env(self) -> TrybootEnv:
        return TrybootEnv(self._partition)

    def put(self, slot: str, counter: str, success: str, **more: str) -> None:
        tried = more.pop("tried", "1")
        other = "B" if slot == "A" else "A"
        default = slot if success == "1" else other
        first, second = (PARTITIONS.get(name, 9) for name in (default, slot))
        words = f"active_slot={slot} boot_counter={counter} boot_success={success} tried={tried}"
        lines = "".join(f"# kubesolo {name}={value}\n" for name, value in more.items())
        text = (
            f"[all]\ntryboot_a_b=1\nboot_partition={first}\n[tryboot]\nboot_partition={second}\n"
            f"[all]\n# kubesolo {words}\n{lines}"
        )
        self.path.write_bytes(text.encode().ljust(480, b"\n"))
