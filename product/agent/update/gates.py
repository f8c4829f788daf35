"""The gates that a release passes before it is written.

They stand in a fixed order, and each has a name that appears in the state, the history and JSON.
Window and inhibitors are asked before any network traffic and again at the moment of a reboot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from product.agent.config import Config
from product.agent.errors import AgentError, RefusedError
from product.agent.node import Node
from product.agent.records.quarantine import Quarantine
from product.agent.slots.store import SlotStore
from product.agent.system.zone import window_unknown
from product.agent.window import window_is_open
from product.errors import KubesoloError
from product.version import is_version, parse_version, rank

if TYPE_CHECKING:
    from product.agent.trust.client import TrustedRelease
    from product.manifest import Manifest

BLOCK_LABEL = "updates.kubesolo.io/block"
# A slot wants some air: ext4's own blocks, and the manifest.
HEADROOM_PERCENT = 10
# How long each wait for the API server may last.
LABEL_SECONDS = 10

PASS = "pass"
REFUSE = "refuse"
BYPASSED = "bypassed"
NOT_APPLICABLE = "not_applicable"


class Verdict(NamedTuple):
    """What a gate said: ``result`` is pass, refuse, bypassed or not_applicable."""

    gate: str
    result: str
    reason: str


class GateContext(NamedTuple):
    """What gates look at; ``release`` is None before the network was asked."""

    node: Node
    config: Config
    force: bool = False
    release: TrustedRelease | None = None

    @property
    def offered(self) -> TrustedRelease:
        """The release; gates that need one are asked only when there is one."""
        assert self.release is not None
        return self.release


class Gate(NamedTuple):
    """One gate; ``judge`` returns (result, reason)."""

    name: str
    judge: Callable[[GateContext], tuple[str, str]]
    forcible: bool = False
    needs_release: bool = True
    # Whether it asks a partition or the cluster, which a passive query leaves alone.
    needs_system: bool = False
    # Whether --force waits for its verdict: it costs nothing, and says what is passed.
    cheap: bool = False

    def evaluate(self, context: GateContext) -> Verdict:
        """The verdict; a question that cannot be answered refuses."""
        forced = self.forcible and context.force
        if forced and not self.cheap:
            return Verdict(self.name, BYPASSED, "--force was given")
        try:
            verdict = Verdict(self.name, *self.judge(context))
        except KubesoloError as error:
            verdict = Verdict(self.name, REFUSE, error.message)
        if forced and verdict.result == REFUSE:
            return Verdict(self.name, BYPASSED, f"{verdict.reason}; --force was given")
        return verdict


def _window(context: GateContext) -> tuple[str, str]:
    if unknown := window_unknown(context.node.paths, context.config):
        return REFUSE, f"the maintenance window is not known: {unknown}"
    window = context.config.maintenance_window
    minute = context.node.clock.local_minute()
    clock = f"{minute // 60:02}:{minute % 60:02}"
    if window_is_open(window, minute):
        return PASS, f"{clock} is in {window}" if window else "no window is set"
    return REFUSE, f"it is {clock}, outside the maintenance window {window}"


def _inhibitor(context: GateContext) -> tuple[str, str]:
    from product.agent.update.inhibitors import MAX_NAMED, find_inhibitors

    folder = context.node.paths.inhibitors
    found = find_inhibitors(folder)
    if not found:
        return PASS, "nobody asks for no update"
    named = "; ".join(one.describe() for one in found[:MAX_NAMED])
    return REFUSE, f"{len(found)} in {folder}: {named}"


def _channel(context: GateContext) -> tuple[str, str]:
    offered, wanted = context.offered.channel, context.config.channel
    if offered == wanted:
        return PASS, f"channel {wanted}"
    return REFUSE, f"the release is of channel {offered}, this node follows {wanted}"


def _architecture(context: GateContext) -> tuple[str, str]:
    own = context.node.release.architecture
    signed, listed = context.offered.architecture, context.offered.manifest.architecture
    if signed == own and listed == own:
        return PASS, own
    found = signed if signed != own else listed
    return REFUSE, f"the release is for {found}, this node is {own}"


def _downgrade(context: GateContext) -> tuple[str, str]:
    own, release = context.node.release.version, context.offered
    offered, running = parse_version(release.version), rank(own)
    if not is_version(own):
        return PASS, f"{own} is no release, so this node takes any"
    if offered < running:
        reason = f"{release.version} is older than the running {own}"
        if release.terms.allow_downgrade:
            return PASS, f"{reason}, and published as a downgrade"
        return REFUSE, reason
    if offered == running:
        reason = f"{release.version} is another build of the running {own}"
        if release.terms.allow_respin:
            return PASS, f"{reason}, and published as a respin"
        return REFUSE, reason
    return PASS, f"{own} to {release.version}"


def _min_compatible_version(context: GateContext) -> tuple[str, str]:
    own, least = context.node.release.version, context.offered.min_compatible_version
    if not least:
        return PASS, "the release asks for no version"
    needed = parse_version(least)
    if not is_version(own):
        return PASS, f"{own} is no release, so this node takes any"
    # A pre-release brings what its release does.
    if rank(own).core < needed.core:
        return REFUSE, f"{context.offered.version} needs at least {least}, this node runs {own}"
    return PASS, f"{own} is at least {least}"


def _kubernetes_downgrade(context: GateContext) -> tuple[str, str]:
    from product.agent.kubernetes.payload import PayloadError, parse_minor, read_payload

    offered = context.offered.manifest.kubernetes
    if not offered:
        return PASS, "the release does not say which Kubernetes it brings, if any"
    try:
        payload = read_payload(context.node.paths)
    except PayloadError:
        payload = None
    if payload is None:
        # Where it is damaged, another release is what mends the node.
        return PASS, "this node has no Kubernetes that says its version"
    if parse_minor(offered) < payload.minor:
        return REFUSE, (
            f"{context.offered.version} brings Kubernetes {offered}, which is not made for the "
            f"datastore of the running {payload.kubernetes}"
        )
    return PASS, f"{payload.kubernetes} to {offered}"


def _quarantine(context: GateContext) -> tuple[str, str]:
    digest = context.offered.digest
    entry = Quarantine(context.node.paths.quarantine).entries().get(digest)
    if entry is None:
        return PASS, "never rolled back here"
    return REFUSE, (
        f"{entry.version} is quarantined since {entry.since}: {entry.reason}; "
        f"kubesolo-update quarantine clear {digest[:12]} lifts it"
    )


def _rollout(context: GateContext) -> tuple[str, str]:
    from product.agent.system.identity import node_identity
    from product.terms import EVERYBODY, cohort

    release, terms = context.offered, context.offered.terms
    if terms.paused is not None:
        why = f": {terms.paused}" if terms.paused else ""
        return REFUSE, f"{release.version} is paused by its publisher{why}"
    if terms.start is not None and context.node.clock.now() < terms.start.timestamp():
        return REFUSE, f"{release.version} is rolled out from {terms.start:%Y-%m-%d %H:%M} UTC on"
    if terms.percent == EVERYBODY:
        return PASS, "the release is for every node"
    place = cohort(node_identity(context.node.paths), release.digest)
    share = f"{release.version} is rolled out to {terms.percent} of 100 nodes"
    if place < terms.percent:
        return PASS, f"{share}, this one is number {place + 1}"
    return REFUSE, f"{share}, and this one is number {place + 1}"


def room_needed(manifest: Manifest) -> int:
    """Bytes that a slot must have for a release. A delta that does not fit beside it is not used,
    and so never keeps a node from a release that fits."""
    return manifest.total_size * (100 + HEADROOM_PERCENT) // 100


def _free_space(context: GateContext) -> tuple[str, str]:
    node = context.node
    store = SlotStore(node.paths, node.volumes, node.boot)
    passive = node.boot.passive
    need = room_needed(context.offered.manifest)
    have = store.capacity(passive)
    reason = f"slot {passive} has room for {have} bytes, the release takes {need} with headroom"
    return (PASS if have >= need else REFUSE), reason


def _node_block_label(context: GateContext) -> tuple[str, str]:
    from product.agent.kubernetes.cluster import Cluster
    from product.agent.kubernetes.payload import read_payload

    paths = context.node.paths
    try:
        payload = read_payload(paths)
        if payload is None and not os.path.exists(paths.kubeconfig):
            return NOT_APPLICABLE, "the image carries no Kubernetes"
        cluster = Cluster(context.node, payload.kubeconfig if payload else paths.kubeconfig)
        try:
            value = cluster.labels(LABEL_SECONDS).get(BLOCK_LABEL)
        finally:
            cluster.close()
    except AgentError as error:
        # A node whose Kubernetes is broken is the one that needs an update.
        return BYPASSED, f"{error.message}, so {BLOCK_LABEL} cannot be asked for"
    if str(value).lower() == "true":
        return REFUSE, f"the node carries the label {BLOCK_LABEL}={value}"
    return PASS, f"the node's {BLOCK_LABEL} is {value or 'not set'}"


GATES = (
    Gate("maintenance_window", _window, forcible=True, needs_release=False),
    Gate("inhibitor", _inhibitor, needs_release=False),
    Gate("channel", _channel),
    Gate("architecture", _architecture),
    Gate("downgrade", _downgrade),
    Gate("min_compatible_version", _min_compatible_version),
    Gate("kubernetes_downgrade", _kubernetes_downgrade),
    Gate("quarantine", _quarantine),
    Gate("rollout", _rollout, forcible=True, cheap=True),
    Gate("free_space", _free_space, needs_system=True),
    Gate("node_block_label", _node_block_label, forcible=True, needs_system=True),
)
WINDOW_GATE = GATES[0]
INHIBITOR_GATE = GATES[1]
LABEL_GATE = GATES[-1]
# What the moment of a planned reboot is asked for, without the cluster.
REBOOT_GATES = (WINDOW_GATE, INHIBITOR_GATE)


def evaluate(gates: Sequence[Gate], context: GateContext) -> list[Verdict]:
    """The verdicts of ``gates`` in order, up to the first refusal."""
    verdicts: list[Verdict] = []
    for gate in gates:
        verdicts.append(gate.evaluate(context))
        if verdicts[-1].result == REFUSE:
            break
    return verdicts


def describe_bypassed(verdicts: Sequence[Verdict]) -> str | None:
    """``gate: reason`` of every bypassed gate; None where there is none."""
    return "; ".join(f"{v.gate}: {v.reason}" for v in verdicts if v.result == BYPASSED) or None


def require(verdicts: Sequence[Verdict]) -> None:
    """Raise RefusedError, named for the gate, where the last verdict is a refusal."""
    if verdicts and verdicts[-1].result == REFUSE:
        last = verdicts[-1]
        forcible = any(gate.name == last.gate and gate.forcible for gate in GATES)
        hint = "--force passes this gate" if forcible else None
        raise RefusedError(last.reason, hint=hint, code=last.gate)
