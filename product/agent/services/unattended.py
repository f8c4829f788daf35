"""An update that nobody watches: pods and the timer have the channel's release staged and armed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from product.agent.config import Config, load_config
from product.agent.node import Node


class Armed(NamedTuple):
    """A release that the next reboot starts; ``bypassed`` names the gates that let it through."""

    version: str | None
    slot: str | None
    bypassed: str | None


def stage_and_arm(node: Node, config: Config, say: Callable[[str], None]) -> Armed | str:
    """Arm the channel's release, or say why there is nothing to arm.

    What was armed before, and not rebooted into because the window had closed, is armed again. The
    gates are asked again before that: a download may have taken hours. Raises KubesoloError.
    """
    from product.agent.records.state import Phase
    from product.agent.update import operations
    from product.agent.update.gates import describe_bypassed
    from product.agent.update.looks import noted_apply
    from product.agent.update.record import Record

    state = Record(node).state
    if state.phase is Phase.ACTIVATED:
        armed = Armed(state.to_version, state.to_slot, state.bypassed)
    else:
        applied = noted_apply(
            node, lambda: operations.apply_release(node, config, force=False, say=say)
        )
        if applied.staged is None:
            return applied.as_text()
        armed = Armed(applied.staged, applied.slot, applied.bypassed)
    # A pod's own server says nothing of when this node may reboot.
    own = load_config(node.paths.config, {})
    verdicts = operations.require_reboot_allowed(node, own, force=False)
    operations.activate_release(node, own, say=say)
    return armed._replace(bypassed=describe_bypassed(verdicts) or armed.bypassed)
