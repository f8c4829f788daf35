"""The gates: their order, their names, and what --force may pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from product.agent.config import Config
from product.agent.errors import RefusedError
from product.agent.kubernetes.tests.test_payload import GOOD as PAYLOAD
from product.agent.system.identity import node_identity
from product.agent.tests.support_cluster import Cluster
from product.agent.tests.world import SLOT_DEVICES, FakeRelease, World
from product.agent.update.gates import (
    BLOCK_LABEL,
    GATES,
    GateContext,
    describe_bypassed,
    evaluate,
    require,
)
from product.terms import Terms, cohort

if TYPE_CHECKING:
    from product.agent.trust.client import TrustedRelease


NAMES = [
    "maintenance_window",
    "inhibitor",
    "channel",
    "architecture",
    "downgrade",
    "min_compatible_version",
    "kubernetes_downgrade",
    "quarantine",
    "rollout",
    "free_space",
    "node_block_label",
]


def context(world: World, release: FakeRelease, *, force: bool = False) -> GateContext:
    return GateContext(world.node(), Config(), force, cast("TrustedRelease", release))


def results(verdicts: object) -> dict[str, str]:
    return {v.gate: v.result for v in verdicts}  # type: ignore[attr-defined]


def test_order_and_names() -> None:
    assert [gate.name for gate in GATES] == NAMES


def test_a_good_release_passes_all(world: World) -> None:
    verdicts = evaluate(GATES, context(world, FakeRelease("0.2.0")))
    assert results(verdicts) == {
        **dict.fromkeys(NAMES, "pass"),
        "node_block_label": "not_applicable",
    }
    assert verdicts[-1].reason == "the image carries no Kubernetes"
    assert describe_bypassed(verdicts) is None
    require(verdicts)


def test_kubernetes_without_its_kubeconfig_is_said_to_be_bypassed(world: World) -> None:
    world.write_file(world.paths.payload, json.dumps(PAYLOAD))
    verdict = evaluate(GATES, context(world, FakeRelease("0.2.0")))[-1]
    assert (verdict.result, "no kubeconfig" in verdict.reason) == ("bypassed", True)


def test_without_kubernetes_nothing_is_said_of_its_label(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    assert world.state()["bypassed"] is None
    assert world.run("status") == 0
    assert "bypassed" not in "".join(capsys.readouterr())


def closed(world: World, release: FakeRelease) -> None:
    world.clock.minute = 0


def other_channel(world: World, release: FakeRelease) -> None:
    release.channel = "beta"


def other_architecture(world: World, release: FakeRelease) -> None:
    release.architecture = "aarch64"


def foreign_content(world: World, release: FakeRelease) -> None:
    manifest = release.manifest._replace(architecture="aarch64")
    release.forced_manifest = manifest


def older(world: World, release: FakeRelease) -> None:
    release.version = "0.0.9"


def needs_more(world: World, release: FakeRelease) -> None:
    release.min_compatible_version = "v0.1.1-rc1"


def older_kubernetes(world: World, release: FakeRelease) -> None:
    world.write_file(world.paths.payload, json.dumps({**PAYLOAD, "kubernetes": "v1.21.0"}))
    release.forced_manifest = release.manifest._replace(kubernetes="1.20.99")


def quarantined(world: World, release: FakeRelease) -> None:
    world.write_file(
        world.paths.quarantine,
        json.dumps({release.digest: {"version": "0.2.0", "reason": "panics", "since": "2026"}}),
    )


def paused(world: World, release: FakeRelease) -> None:
    release.terms = Terms(paused="it reboots too often")


def for_nobody_yet(world: World, release: FakeRelease) -> None:
    release.terms = Terms(percent=0)


def rolled_out_tomorrow(world: World, release: FakeRelease) -> None:
    release.terms = Terms(start=datetime.fromtimestamp(world.clock.now() + 86400, UTC))


def unreadable_quarantine(world: World, release: FakeRelease) -> None:
    world.write_file(world.paths.quarantine, "{")


def too_small(world: World, release: FakeRelease) -> None:
    world.volumes.unmountable.add(SLOT_DEVICES["B"])
    # Nine tenths of this are the release's bytes and 9 % more: just short of the headroom.
    world.volumes.bytes = release.manifest.total_size * 109 * 10 // 900


@pytest.mark.parametrize(
    ("gate", "change", "forcible"),
    [
        ("maintenance_window", closed, True),
        ("channel", other_channel, False),
        ("architecture", other_architecture, False),
        ("architecture", foreign_content, False),
        ("downgrade", older, False),
        ("min_compatible_version", needs_more, False),
        ("kubernetes_downgrade", older_kubernetes, False),
        ("quarantine", quarantined, False),
        ("quarantine", unreadable_quarantine, False),
        ("rollout", paused, True),
        ("rollout", for_nobody_yet, True),
        ("rollout", rolled_out_tomorrow, True),
        ("free_space", too_small, False),
    ],
)
def test_each_gate_refuses_by_its_name_and_force_skips_some(
    world: World, gate: str, change: Callable[[World, FakeRelease], None], forcible: bool
) -> None:
    release = FakeRelease("0.2.0")
    change(world, release)
    asked = context(world, release)._replace(config=Config(maintenance_window="11:00-13:00"))
    verdicts = evaluate(GATES, asked)
    assert [v.gate for v in verdicts] == NAMES[: NAMES.index(gate) + 1]
    with pytest.raises(RefusedError) as refused:
        require(verdicts)
    assert refused.value.code == gate
    assert refused.value.exit_code == 11
    forced = results(evaluate(GATES, asked._replace(force=True)))
    assert forced[gate] == ("bypassed" if forcible else "refuse")


def verdict_of(gate: str, world: World, release: FakeRelease) -> tuple[str, str]:
    [verdict] = [v for v in evaluate(GATES, context(world, release)) if v.gate == gate]
    return verdict.result, verdict.reason


def runs(world: World, version: str) -> None:
    world.write_file(
        world.paths.release, json.dumps({"version": version, "architecture": "x86_64"})
    )


@pytest.mark.parametrize(
    ("own", "offered", "terms", "result", "reason"),
    [
        ("0.2.0-rc.1", "0.2.0", Terms(), "pass", "0.2.0-rc.1 to 0.2.0"),
        ("0.2.0-rc.2", "0.2.0-rc.10", Terms(), "pass", "0.2.0-rc.2 to 0.2.0-rc.10"),
        (
            "0.2.0", "0.2.0-rc.9", Terms(), "refuse",
            "0.2.0-rc.9 is older than the running 0.2.0",
        ),
        (
            "0.2.0", "0.1.9", Terms(allow_respin=True), "refuse",
            "0.1.9 is older than the running 0.2.0",
        ),
        (
            "0.2.0", "0.1.9", Terms(allow_downgrade=True), "pass",
            "0.1.9 is older than the running 0.2.0, and published as a downgrade",
        ),
        (
            "0.2.0", "0.2.0", Terms(allow_downgrade=True), "refuse",
            "0.2.0 is another build of the running 0.2.0",
        ),
        (
            "0.2.0", "0.2.0+2", Terms(allow_respin=True), "pass",
            "0.2.0+2 is another build of the running 0.2.0, and published as a respin",
        ),
        ("dev", "0.0.1", Terms(), "pass", "dev is no release, so this node takes any"),
        (
            "1.2.202611301230", "1.2.3", Terms(), "pass",
            "1.2.202611301230 is no release, so this node takes any",
        ),
    ],
)  # fmt: skip
def test_which_versions_follow_which(
    world: World, own: str, offered: str, terms: Terms, result: str, reason: str
) -> None:
    runs(world, own)
    release = FakeRelease(offered)
    release.terms = terms
    assert verdict_of("downgrade", world, release) == (result, reason)


@pytest.mark.parametrize(
    ("own", "least", "result"),
    [
        ("0.1.1-rc.1", "0.1.1", "pass"),
        ("0.1.0", "v0.1.1-rc.1", "refuse"),
        ("dev", "0.1.1", "pass"),
        ("0.1.1", "soon", "refuse"),
    ],
)
def test_the_least_version_passes_over_pre_releases(
    world: World, own: str, least: str, result: str
) -> None:
    runs(world, own)
    release = FakeRelease("0.2.0")
    release.min_compatible_version = least
    assert verdict_of("min_compatible_version", world, release)[0] == result


def test_a_respin_is_installed_and_then_is_what_runs(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offered = FakeRelease("0.1.0", salt="another build")
    assert world.run("check") == 0  # the same version: up to date
    world.offered.terms = Terms(allow_respin=True)
    assert world.run("check", "--json") == 10
    assert "published as a respin" in capsys.readouterr().out
    assert world.run("check") == 10
    said = "0.1.0 is another build of the running 0.1.0, and published as a respin"
    assert said in capsys.readouterr().out.splitlines()
    world.update(world.offered)
    assert world.power_on() == "B"
    assert world.boot_service() == 0
    assert world.run("apply") == 0
    assert world.state()["phase"] == "idle"
    assert world.run("check") == 0


def test_a_node_built_as_dev_updates(world: World) -> None:
    runs(world, "dev")
    release = FakeRelease("0.0.5")
    release.min_compatible_version = "0.0.4"
    world.offered = release
    assert world.run("check") == 10
    assert world.run("apply") == 0
    assert world.state()["from_version"] == "dev"


def test_a_rollout_reaches_some_nodes_first(world: World) -> None:
    release = FakeRelease("0.2.0")
    place = cohort(node_identity(world.paths), release.digest)
    number = f"is number {place + 1}"
    release.terms = Terms(percent=place)
    assert verdict_of("rollout", world, release) == (
        "refuse", f"0.2.0 is rolled out to {place} of 100 nodes, and this one {number}",
    )  # fmt: skip
    release.terms = Terms(percent=place + 1)
    assert verdict_of("rollout", world, release) == (
        "pass", f"0.2.0 is rolled out to {place + 1} of 100 nodes, this one {number}",
    )  # fmt: skip
    begun = datetime.fromtimestamp(world.clock.now(), UTC)
    release.terms = Terms(start=begun)
    assert verdict_of("rollout", world, release) == ("pass", "the release is for every node")


def test_just_enough_space_is_enough(world: World) -> None:
    release = FakeRelease("0.2.0")
    too_small(world, release)
    world.volumes.bytes = release.manifest.total_size * 1101 * 10 // 9000 + 10
    assert results(evaluate(GATES, context(world, release)))["free_space"] == "pass"


def test_an_equal_minimum_passes(world: World) -> None:
    release = FakeRelease("0.2.0")
    release.min_compatible_version = "v0.1.0"
    assert results(evaluate(GATES, context(world, release)))["min_compatible_version"] == "pass"


@pytest.mark.parametrize(
    ("own", "offered", "reason"),
    [
        ("1.20.2", "1.20.1", "1.20.2 to 1.20.1"),
        ("1.9.7", "1.20.2", "1.9.7 to 1.20.2"),
        ("1.20.2", "", "the release does not say which Kubernetes it brings, if any"),
        (None, "1.19.0", "this node has no Kubernetes that says its version"),
        # Another release is what mends such a node.
        ("garbage", "1.19.0", "this node has no Kubernetes that says its version"),
    ],
)
def test_a_kubernetes_that_is_not_older_passes(
    world: World, own: str | None, offered: str, reason: str
) -> None:
    release = FakeRelease("0.2.0")
    if own is not None:
        world.write_file(world.paths.payload, json.dumps({**PAYLOAD, "kubernetes": own}))
    release.forced_manifest = release.manifest._replace(kubernetes=offered)
    [verdict] = [
        v for v in evaluate(GATES, context(world, release)) if v.gate == "kubernetes_downgrade"
    ]
    assert (verdict.result, verdict.reason) == ("pass", reason)


def test_versions_that_cannot_be_read_refuse(world: World) -> None:
    release = FakeRelease("latest")
    with pytest.raises(RefusedError) as refused:
        require(evaluate(GATES, context(world, release)))
    assert refused.value.code == "downgrade"


def test_an_unreadable_window_is_closed(world: World) -> None:
    asked = context(world, FakeRelease("0.2.0"))
    asked = asked._replace(config=Config(maintenance_window="whenever"))
    assert results(evaluate(GATES, asked)) == {"maintenance_window": "refuse"}


def test_a_window_that_is_not_known_is_closed(world: World) -> None:
    asked = context(world, FakeRelease("0.2.0"))
    asked = asked._replace(config=Config(window_unknown="line 1: is not key=value"))
    [verdict] = evaluate(GATES, asked)
    assert verdict.result == "refuse"
    assert verdict.reason == "the maintenance window is not known: line 1: is not key=value"


@pytest.mark.parametrize(
    ("change", "code"),
    [(other_architecture, "architecture"), (older, "downgrade"), (other_channel, "channel")],
)
def test_a_refused_apply_writes_nothing_and_says_why(
    world: World, change: Callable[[World, FakeRelease], None], code: str
) -> None:
    world.offered = FakeRelease("0.2.0")
    change(world, world.offered)
    assert world.run("apply") == 11
    assert world.state()["phase"] == "failed"
    assert str(world.state()["last_error"]).startswith(f"{code}: ")
    assert world.history() == ["apply refused"]
    assert list(world.directory("B").iterdir()) == []
    assert world.run("check") == 11
    assert not Path(world.paths.quarantine).exists()


# What is said of "{}".
BROKEN = "contexts has no None"


def noted(world: World) -> list[object]:
    """What the history says was bypassed, by entry."""
    lines = Path(world.paths.history).read_text().splitlines()
    return [json.loads(line)["bypassed"] for line in lines]


def test_a_bypass_is_printed_noted_and_shown(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody was asked whether the node's label forbids the update."""
    world.offered = FakeRelease("0.2.0")
    world.write_file(world.paths.kubeconfig, "{}")
    assert world.run("apply") == 0
    reason = (
        f"{world.paths.kubeconfig} is no usable kubeconfig: {BROKEN}, "
        f"so {BLOCK_LABEL} cannot be asked for"
    )
    assert f"gate node_block_label: bypassed ({reason})" in capsys.readouterr().err.splitlines()
    bypassed = f"node_block_label: {reason}"
    assert noted(world) == [bypassed]
    assert world.state()["bypassed"] == bypassed
    assert world.run("history") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert f" apply 0.2.0: staged from http://server/ (bypassed {bypassed}); " in line
    assert world.run("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["update"]["bypassed"] == bypassed
    assert world.run("status") == 0
    assert f"  bypassed {bypassed}" in capsys.readouterr().out.splitlines()
    assert world.run("apply", "--json") == 0
    assert json.loads(capsys.readouterr().out)["bypassed"] == bypassed


def test_it_is_remembered_until_the_next_attempt(world: World) -> None:
    world.write_file(world.paths.kubeconfig, "{")
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    assert world.boot_service() == 0
    assert world.state()["phase"] == "success"
    assert str(world.state()["bypassed"]).startswith("node_block_label: ")
    world.offered = None
    assert world.run("apply") == 0
    assert world.state()["bypassed"] is None
    assert noted(world)[-1] is None


def test_a_gate_that_was_asked_is_not_noted_as_bypassed(world: World, cluster: Cluster) -> None:
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    assert (world.state()["bypassed"], noted(world)) == (None, [None])


def test_what_force_bypassed_is_noted_also_of_a_refused_attempt(
    world: World, cluster: Cluster
) -> None:
    world.offered = FakeRelease("0.0.1")
    assert world.run("apply", "--force") == 11
    forced = "maintenance_window: --force was given"
    assert noted(world) == [forced]
    assert world.state()["bypassed"] == forced
    assert world.history() == ["apply refused"]
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply", "--force") == 0
    assert noted(world)[-1] == f"{forced}; node_block_label: --force was given"


def test_nothing_bypassed_is_said_as_none(world: World, cluster: Cluster) -> None:
    assert describe_bypassed(evaluate(GATES, context(world, FakeRelease("0.2.0")))) is None


def test_state_and_history_of_an_older_agent_still_load(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_file(world.paths.kubeconfig, "{")
    world.update(FakeRelease("0.2.0"))
    state = world.state()
    assert state.pop("bypassed")
    world.write_file(world.paths.state, json.dumps(state))
    lines = [json.loads(line) for line in Path(world.paths.history).read_text().splitlines()]
    newer = ("bypassed", "source", "bytes", "seconds")
    old = [{key: value for key, value in line.items() if key not in newer} for line in lines]
    world.write_file(world.paths.history, "".join(json.dumps(line) + "\n" for line in old))
    world.power_on()
    assert world.boot_service() == 0
    assert (world.state()["phase"], world.state()["bypassed"]) == ("success", None)
    capsys.readouterr()
    assert world.run("history") == 0
    shown = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        "apply 0.2.0: staged",
        "activate 0.2.0: activated",
        "trial 0.2.0: success",
    ]
    assert world.run("status") == 0
    assert "bypassed" not in capsys.readouterr().out
