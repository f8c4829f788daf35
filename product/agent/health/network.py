"""Whether a release on trial leaves the machine the network that it had before the update.

A release is blamed for an interface that is gone or has lost its driver, and where no interface
gets an address any more although there is a link. It is not blamed for a missing link alone: a
cable that somebody pulled must not cost a good release. Only what had an address before counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from product.agent.net.interfaces import Interface, Network, device_exists

if TYPE_CHECKING:
    from product.agent.node import Node

PASS, FAIL, KNOWN, NOT_APPLICABLE = "pass", "fail", "known", "not_applicable"
Verdict = tuple[str, str, tuple[str, ...], str | None]


def check_network(
    node: Node, before: Sequence[Interface] | None, unconfirmed: bool, seconds: float
) -> Verdict:
    """Result, reason, subjects and what was before. Links and addresses have ``seconds`` to come
    back before anything but a pass is the answer."""
    clock = node.clock
    end = clock.monotonic() + seconds
    while True:
        now = node.read_network()
        found = "; ".join(now.describe())
        if not unconfirmed:
            return NOT_APPLICABLE, f"the slot is confirmed; {found}", (), None
        if before is None:
            reason = f"nobody looked at the network before the update; {found}"
            return NOT_APPLICABLE, reason, (), None
        verdict = judge(before, now, node.paths.sys)
        left = end - clock.monotonic()
        if verdict[0] in (PASS, NOT_APPLICABLE) or left <= 0:
            return verdict
        clock.pause(min(1.0, left))


def judge(before: Sequence[Interface], now: Network, sys: str) -> Verdict:
    """Compare what there is ``now`` with what was ``before``, by the cards' own addresses (MAC):
    names may change with a release, but those that are configured."""
    found = "; ".join(now.describe())
    reached = [interface for interface in before if interface.addresses]
    if not reached:
        return NOT_APPLICABLE, f"no interface had an address before the update; {found}", (), None
    was = "; ".join(interface.describe() for interface in reached)
    present = {interface.key: interface for interface in now.interfaces}
    gone = [interface for interface in reached if interface.key not in present]
    if gone:
        reason = "; ".join(_gone(interface, now, sys) for interface in gone)
        return FAIL, reason, tuple(interface.key for interface in gone), was
    if _reachable(reached, now):
        return PASS, found, (), None
    still = [present[interface.key] for interface in reached]
    mute = [interface for interface in still if interface.link is not False]
    if mute:
        reason = "; ".join(interface.describe() for interface in mute)
        return FAIL, reason, tuple(interface.key for interface in mute), was
    reason = "; ".join(interface.describe() for interface in still)
    return KNOWN, f"{reason}: is the cable in?", (), was


def _reachable(before: Sequence[Interface], now: Network) -> bool:
    if any(interface.has_ipv4 for interface in before):
        return any(interface.has_ipv4 for interface in now.interfaces)
    return now.has_address


def _gone(interface: Interface, now: Network, sys: str) -> str:
    text = f"{interface.name} ({interface.driver or 'no driver'}, {interface.mac}) is gone"
    for device in now.unbound:
        if device.device == interface.device:
            return f"{text}: {device.describe()}"
    there = "is there" if device_exists(interface.device, sys) else "is gone as well"
    return f"{text}: {interface.device} {there}"
