"""The boot environment of a system that runs from a medium: it never changes."""

from __future__ import annotations

from product.agent.bootloader.protocol import BOOT_TRIES, BootEnvError, Environment


class LiveBootEnv:
    """The medium's one release, confirmed. Each write raises BootEnvError."""

    def read(self) -> Environment:
        """See BootEnv."""
        return Environment("A", BOOT_TRIES, True)

    def arm(self, slot: str, trial: str) -> None:
        """See BootEnv."""
        self._refuse()

    def commit(self, slot: str) -> None:
        """See BootEnv."""
        self._refuse()

    def force_rollback(self, slot: str) -> None:
        """See BootEnv."""
        self._refuse()

    def repair(self) -> None:
        """See BootEnv: it is never odd."""

    def _refuse(self) -> None:
        raise BootEnvError(
            "this system runs from a medium, which has no boot environment",
            hint="install it to a disk: kubesolo-install",
        )
