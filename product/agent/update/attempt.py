"""One attempt to update: find a release, pass the gates, write it into the passive slot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from product.agent.bootloader.protocol import Environment
from product.agent.config import Config
from product.agent.errors import AgentError, ConfigError, RefusedError, as_state_error
from product.agent.node import Node
from product.agent.records.counters import COPIED
from product.agent.records.state import Phase
from product.agent.slots.store import SlotStore
from product.agent.slots.writer import Fetch, SlotWriter
from product.agent.system.lock import give_way
from product.agent.update.baseline import take_baseline
from product.agent.update.deltas import DeltaFetch, choose
from product.agent.update.gates import (
    GATES,
    Gate,
    GateContext,
    Verdict,
    describe_bypassed,
    evaluate,
    require,
)
from product.agent.update.hooks import BEFORE_APPLY, require_hooks
from product.agent.update.reconcile import reconcile
from product.agent.update.record import AFTER_APPLY, Record
from product.agent.update.tally import Tally
from product.agent.update.token import make_token
from product.manifest import Artifact, Manifest
from product.version import is_version, parse_version

if TYPE_CHECKING:
    from product.agent.sources.protocol import Source
    from product.agent.trust.client import TrustedRelease

Say = Callable[[str], None]


class Offer(NamedTuple):
    """A release that is not the running one, and what the gates said to it."""

    release: TrustedRelease
    verdicts: list[Verdict]


def find_release(
    node: Node, config: Config, source: Source, metadata: str
) -> TrustedRelease | None:
    """The channel's release for this node; None where it has none, or the running one.

    ``metadata`` is the folder of what was proved so far. Raises AgentError by the name of what is
    wrong with the network or the metadata.
    """
    if not config.pubkey:
        raise ConfigError("no pubkey is configured", hint="set pubkey= in update.conf, or --pubkey")
    from product.agent.trust import client as trust

    key = None
    if config.require_cosign == "yes":
        from product.agent.trust.cosign import demanded_key

        key = demanded_key(config)
    release = trust.find_release(
        source,
        config,
        architecture=node.release.architecture,
        metadata_dir=metadata,
        release_file=node.paths.release,
        known_time=node.paths.known_time,
    )
    if release is None or _runs(node, release):
        return None
    if key is not None:
        from product.agent.trust.cosign import require_signed_release

        require_signed_release(source, release.digest, key)
    return release


def open_source(config: Config, interrupt: Callable[[], None] | None = None) -> Source:
    """What has the node's releases. Raises ConfigError where nothing is configured.

    ``interrupt`` is called while it is waited for, and raises what ends that.
    """
    if not config.source:
        raise ConfigError(
            "no server is configured, and no registry",
            hint="set server= or registry= in update.conf, or --server or --registry",
        )
    from product.agent.sources.configured import configured_source

    return configured_source(config, interrupt=interrupt)


def _runs(node: Node, release: TrustedRelease) -> bool:
    """Whether the running system is ``release``; another build of it counts where that is a respin.

    Only a respin is worth a look into the slot.
    """
    own, offered = node.release.version, release.version
    if not (is_version(own) and is_version(offered)):
        return own == offered
    if parse_version(own) != parse_version(offered):
        return False
    if not release.terms.allow_respin:
        return True
    content = SlotStore(node.paths, node.volumes, node.boot).inspect(node.boot.slot)
    return content.digest in (None, release.digest)


def find_unlocked(node: Node, config: Config) -> TrustedRelease | None:
    """The same for whoever does not hold the lock: no server keeps an update waiting."""
    from product.agent.trust.borrow import borrowed

    with (
        borrowed(node.paths.metadata, node.paths.run, node.paths.lock) as metadata,
        open_source(config) as source,
    ):
        return find_release(node, config, source, metadata)


def check(node: Node, config: Config) -> Offer | None:
    """What is offered, without the lock, and without changing or recording anything.

    Only the gates that judge the release itself are asked, all of them.
    """
    config.require_usable()
    release = find_unlocked(node, config)
    if release is None:
        return None
    context = GateContext(node, config, release=release)
    gates = [gate for gate in GATES if gate.needs_release and not gate.needs_system]
    return Offer(release, [gate.evaluate(context) for gate in gates])


class Attempt:
    """``kubesolo-update apply``; the caller holds the lock, but for ``rehearse``.

    While a server is waited for, and before anything is written, a rollback ends it.
    """

    def __init__(self, node: Node, config: Config, *, force: bool, say: Say) -> None:
        self._node = node
        self._config = config
        self._force = force
        self._say = say
        self._store = SlotStore(node.paths, node.volumes, node.boot)
        self._verdicts: list[Verdict] = []
        self._tally = Tally()
        self._began = 0.0

    @property
    def bypassed(self) -> str | None:
        """Which gates ``run`` passed unasked, and why."""
        return describe_bypassed(self._verdicts)

    def rehearse(self) -> Offer | None:
        """Everything up to the first write, recording nothing. Raises AgentError."""
        self._config.require_usable()
        context = GateContext(self._node, self._config, self._force)
        verdicts = evaluate([gate for gate in GATES if not gate.needs_release], context)
        require(verdicts)
        release = find_unlocked(self._node, self._config)
        if release is None:
            return None
        context = context._replace(release=release)
        verdicts += evaluate([gate for gate in GATES if gate.needs_release], context)
        return Offer(release, verdicts)

    def run(self) -> TrustedRelease | None:
        """Bring the channel's release into the passive slot; None where the node is up to date.

        The state ends as staged, idle or failed. Raises AgentError; RefusedError for a gate.
        """
        self._config.require_usable()
        record = Record(self._node)
        record.source = self._config.source
        env = self._node.boot_env.read()
        reconcile(record, env, self._node.boot.slot)
        _require_confirmed(env, self._node.boot.slot)
        now = self._node.clock.now()
        self._began = self._node.clock.monotonic()
        record.save(record.state.begin(self._node.release.version, now))
        record.count_attempt()
        try:
            release = self._stage(record, env)
        except (AgentError, OSError) as error:
            failure = error if isinstance(error, AgentError) else _from_os(error)
            reason = as_state_error(failure)
            record.try_save(record.state.fail(reason))
            refused = isinstance(failure, RefusedError)
            gate = failure.code if refused else None
            self._note(record, "refused" if refused else "failed", reason, gate)
            raise failure from None
        for problem in record.problems:
            self._say(f"problem: {problem}")
        return release

    def _stage(self, record: Record, env: Environment) -> TrustedRelease | None:
        context = GateContext(self._node, self._config, self._force)
        self._pass([gate for gate in GATES if not gate.needs_release], context, record)
        with open_source(self._config, self._give_way) as source:
            return self._bring(source, context, record, env)

    def _bring(
        self, source: Source, context: GateContext, record: Record, env: Environment
    ) -> TrustedRelease | None:
        """Everything that the source is needed for."""
        release = find_release(self._node, self._config, source, self._node.paths.metadata)
        if release is None:
            record.save(record.state.to(Phase.IDLE)._replace(attempt_count=0))
            self._note(record, "up-to-date")
            return None
        record.save(record.state.set_target(release.version, release.digest))
        gates = [gate for gate in GATES if gate.needs_release]
        self._pass(gates, context._replace(release=release), record)
        require_hooks(self._node, self._config, BEFORE_APPLY, record.state)
        passive = self._node.boot.passive
        trial = make_token(passive, release.digest)
        take_baseline(self._node, self._config, trial, self._say)
        self._give_way()
        record.save(record.state.download(passive, trial))
        self._write(passive, env, release, partial(self._fetch, source), record)
        record.save(record.state.to(Phase.STAGED))
        self._note(record, "staged")
        record.run_hooks(self._config, AFTER_APPLY)
        return release

    def _note(
        self, record: Record, outcome: str, reason: str | None = None, gate: str | None = None
    ) -> None:
        """The attempt's entry in the history, with what it cost."""
        record.note(
            "apply",
            outcome,
            reason,
            gate=gate,
            moved=self._tally.bytes,
            seconds=self._node.clock.monotonic() - self._began,
            bypassed=record.state.bypassed,
        )

    def _pass(self, gates: list[Gate], context: GateContext, record: Record) -> None:
        verdicts = evaluate(gates, context)
        for verdict in verdicts:
            self._say(f"gate {verdict.gate}: {verdict.result} ({verdict.reason})")
        self._verdicts += verdicts
        # Written down with the next step, whichever that is.
        record.state = record.state._replace(bypassed=self.bypassed)
        require(verdicts)

    def _write(
        self, slot: str, env: Environment, release: TrustedRelease, fetch: Fetch, record: Record
    ) -> None:
        manifest = release.manifest
        chosen = choose(self._node, self._config, self._store, release)
        if chosen.reason:
            self._say(f"no delta is used: {chosen.reason}")
        fetch = DeltaFetch(
            self._store,
            chosen,
            self._tally.fetching(fetch, manifest),
            say=self._say,
            note=record.note,
            interrupt=self._give_way,
        )
        with ExitStack() as stack:
            writer = stack.enter_context(self._store.writing(slot, env.active_slot))
            writer.invalidate(manifest, keep=chosen.files)
            for artifact in self._copy(writer, manifest):
                self._place(writer, artifact, fetch)
            writer.verify(manifest)
            writer.seal(release.manifest_bytes)
        self._say(f"slot {slot} holds {release.version}, read back and compared")

    def _copy(self, writer: SlotWriter, manifest: Manifest) -> list[Artifact]:
        """Place what the running slot holds too; what is left to fetch."""
        left = list(manifest.artifacts)
        try:
            with self._store.running() as running:
                for artifact in filter(running.holds, manifest.artifacts):
                    self._place(writer, artifact, self._tally.counting(COPIED, running.copy))
                    left.remove(artifact)
        except (AgentError, OSError) as error:
            self._say(f"not everything is copied from the running slot: {error}")
        return left

    def _place(self, writer: SlotWriter, artifact: Artifact, fetch: Fetch) -> None:
        self._give_way()
        slot = self._node.boot.passive
        if writer.place(artifact, fetch):
            self._say(f"{artifact.name}: {artifact.size} bytes written to slot {slot}")
        else:
            self._say(f"{artifact.name}: already in slot {slot}")

    def _fetch(self, source: Source, artifact: Artifact, path: str) -> int:
        from product.agent.sources import artifact as artifacts

        return artifacts.fetch_artifact(
            source,
            artifact,
            path,
            progress=_Progress(artifact.name, self._say),
            rate_limit=self._config.bytes_a_second,
            interrupt=self._give_way,
        )

    def _give_way(self) -> None:
        give_way(self._node.paths.lock)


class _Progress:
    """Says every tenth of an artifact."""

    def __init__(self, name: str, say: Say) -> None:
        self._name = name
        self._say = say
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 10
        if tenth > self._tenth:
            self._tenth = tenth
            self._say(f"{self._name}: {tenth * 10} %")


def _require_confirmed(env: Environment, booted: str) -> None:
    """The passive slot may be overwritten only while it is not needed. Raises AgentError."""
    if not env.valid:
        raise AgentError(
            f"the boot environment cannot be relied on: {'; '.join(env.problems)}",
            hint="kubesolo-update healthcheck --boot repairs it",
            code="environment-unreadable",
        )
    if env.tries(booted):
        raise AgentError(
            f"slot {booted} is on trial, and the other slot is the only known-good one",
            hint="wait until the health check has confirmed it; kubesolo-update status shows it",
            code="unconfirmed-boot",
        )
    if env.active_slot != booted:
        raise AgentError(
            f"slot {env.active_slot} boots next, while slot {booted} runs",
            hint="reboot into it, or kubesolo-update rollback to leave it",
            code="update-pending",
        )


def _from_os(error: OSError) -> AgentError:
    codes = {28: "no-space", 30: "read-only", 5: "input-output-error"}
    code = codes.get(error.errno or 0, "system-error")
    where = f" ({error.filename})" if error.filename else ""
    return AgentError(f"{error.strerror or error}{where}", code=code)
