"""An update that waits in the middle of its largest download."""

from __future__ import annotations

from harness.faults.http import Fault
from harness.target.protocols import Pending
from scenarios.steps import APPLY_SECONDS, Update

# Into what is asked for of the largest artifact (40 MiB), far enough to have something to resume,
# several times over.
HELD_AFTER = 5 << 20
# Until then much else is fetched and checked.
_HELD_SECONDS = 90.0


def path_of(update: Update) -> str:
    """Where the server has the largest artifact."""
    return f"/artifacts/{update.release.slot.manifest.artifact('root.squashfs').sha256}"


def apply_until_held(update: Update, *, seconds: float = APPLY_SECONDS) -> tuple[Pending, Fault]:
    """Start an apply and return in the middle of its largest download."""
    held = update.server.hold(path_of(update), HELD_AFTER)
    running = update.node.start(["kubesolo-update", "apply"], seconds=seconds)
    held.wait_fired(update.node.deadline(_HELD_SECONDS))
    return running, held
