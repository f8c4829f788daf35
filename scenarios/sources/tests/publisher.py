"""A publisher of releases in a folder, for tests of what carries them."""

from __future__ import annotations

from pathlib import Path

from harness.servers.registry import Registry
from product.release.cli import main
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.tests.slotfiles import make_slot

ARCHITECTURES = ("x86_64", "aarch64")


class Publisher:
    """A publisher in a folder: keys, a repository with both architectures, and its home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "repository"
        self.keys = KeyDirectory.generate(folder / "keys")
        self.repository = Repository.create(self.directory, self.keys)
        for architecture in ARCHITECTURES:
            self.publish("0.2.0", architecture)

    def publish(self, version: str, architecture: str = "x86_64", channel: str = "stable") -> None:
        slot = make_slot(self.folder / f"{version}-{architecture}-{channel}", version, architecture)
        least = None if version == "0.2.0" else "0.2.0"
        self.repository.publish(
            slot, channel=channel, notes="A new\nkernel", min_compatible_version=least
        )

    def push(self, registry: Registry, *more: str, name: str = "os/kubesolo:stable") -> int:
        scheme = [] if registry.url.startswith("https") else ["--plain-http"]
        return main(["push", str(self.directory), f"{registry.host}/{name}", *scheme, *more])
