"""What may go wrong between a scenario and its machine, as one tree."""

from __future__ import annotations


class HarnessError(Exception):
    """Root of the harness's errors: something a user can understand and act on.

    ``message`` says what was tried and what was found, ``hint`` what to do. Command lines print
    both and exit with ``exit_code``; they show no traceback for it. An error that came through a
    machine's journal also has ``machine``, the ``step`` in which it came, the last lines of its
    ``console`` and, of a wait, ``decided``: the event that ended it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.machine = self.step = self.decided = ""
        self.console: tuple[str, ...] = ()


class LaunchError(HarnessError):
    """QEMU could not be started; the message carries the command's own words."""


class WaitError(HarnessError):
    """A wait ended without what it waited for.

    ``stdout`` and ``stderr`` are what a command in the guest had printed by then, if it was one's
    end that was waited for.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(message, hint=hint)
        self.stdout = stdout
        self.stderr = stderr


class DeadlineError(WaitError):
    """The deadline passed first."""


class MachineExitedError(WaitError):
    """The machine ended first."""


class GuestFailureError(WaitError):
    """The guest's console showed a failure first, such as a kernel panic."""


class ObserverError(WaitError):
    """A reader of the harness failed: what the machine says from then on may go unseen."""


class MissingFailureError(WaitError):
    """A failure that is part of the scenario did not come."""


class QmpError(HarnessError):
    """QEMU refused a command, or the connection to it broke."""


class ChannelError(HarnessError):
    """The command channel's node end refused a request, or was restarted during one."""


class LoginRefusedError(ChannelError):
    """An SSH server took neither the key nor the password that it was shown."""


class HostKeyError(ChannelError):
    """An SSH server has another host key than the pinned one."""


class CommandError(HarnessError):
    """A command ran in the guest and ended otherwise than the scenario demanded."""


class PoolError(HarnessError):
    """The machine-wide budget can never satisfy a request."""


class StateError(HarnessError):
    """A snapshot could not be made or restored."""


class UnsupportedError(HarnessError):
    """This target or machine lacks an ability that was asked for."""
