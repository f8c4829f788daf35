"""What was wrong before the update, and what the trial makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.health.checks import Result
from product.agent.tests.support_cluster import Cluster, pod
from product.agent.tests.world import FakeRelease, World
from product.agent.update.baseline import Baseline, BaselineError, read_baseline, take_baseline

DNS = "Deployment/coredns"
FAULT = Result("kube_system", "fail", "coredns crashes", (DNS, "Pod/x"))


def baseline(*faults: Result, complete: bool = True) -> Baseline:
    return Baseline("t", "0.1.0", "2026", complete, faults)


@pytest.mark.parametrize(
    ("now", "known"),
    [
        (FAULT, True),
        (FAULT._replace(subjects=(DNS,)), True),
        (FAULT._replace(subjects=(DNS, "Pod/y")), False),
        (FAULT._replace(subjects=("Pod/y",)), False),
        (FAULT._replace(subjects=()), False),
        (FAULT._replace(name="node_ready"), False),
    ],
)
def test_only_what_failed_before_is_known(now: Result, known: bool) -> None:
    excused = baseline(FAULT).excuse(now)
    assert excused.result == ("known" if known else "fail")
    assert excused.before == ("coredns crashes" if known else None)
    assert excused.reason == now.reason
    assert baseline(FAULT, complete=False).excuse(now).result == "fail"


def test_a_check_without_subjects_is_its_own() -> None:
    fault = Result("containerd", "fail", "no socket")
    assert baseline(fault).excuse(fault).result == "known"
    assert baseline(fault).excuse(fault._replace(subjects=("x",))).result == "fail"
    passed = fault._replace(result="pass")
    assert baseline(fault).excuse(passed) is passed


def report(world: World) -> None:
    """The boot-time service has judged this boot."""
    world.write_file(world.paths.report, json.dumps({"boot_id": f"boot-{world.boots}"}))


def take(world: World) -> Baseline:
    said: list[str] = []
    taken = take_baseline(world.node(), Config(), "token", said.append)
    assert len([line for line in said if "fails already" in line]) == len(taken.faults)
    assert read_baseline(world.node()) == taken
    return taken


def test_a_node_that_is_well_has_an_empty_one(cluster: Cluster) -> None:
    report(cluster.world)
    network = cluster.world.node().read_network().interfaces
    taken = take(cluster.world)
    assert taken == Baseline("token", "0.1.0", taken.taken_at, True, (), network)


def test_what_fails_is_kept_with_its_subjects(cluster: Cluster) -> None:
    report(cluster.world)
    cluster.api.pods = [pod("a", waiting="CrashLoopBackOff", restarts=4), pod("b")]
    (fault,) = take(cluster.world).faults
    assert (fault.name, fault.subjects) == ("kube_system", ("Pod/a",))
    assert "CrashLoopBackOff, restarted 4 times" in fault.reason


def test_a_pod_between_two_crashes_is_caught(cluster: Cluster) -> None:
    report(cluster.world)
    # The world's clock stands at 2027-01-15T08:00:00Z.
    cluster.api.pods = [pod("a", restarts=4, started="2027-01-15T07:59:55Z")]
    assert take(cluster.world).faults[0].subjects == ("Pod/a",)


def test_a_fault_that_goes_away_by_itself_is_none(cluster: Cluster) -> None:
    report(cluster.world)
    cluster.api.node_status = "False"
    pause = cluster.world.clock.pause

    def recovers(seconds: float) -> None:
        pause(seconds)
        cluster.api.node_status = "True"

    cluster.world.clock.pause = recovers  # type: ignore[method-assign]
    assert take(cluster.world).faults == ()


def test_a_node_that_still_starts_excuses_nothing(cluster: Cluster) -> None:
    cluster.api.ready = False
    taken = take(cluster.world)
    assert not taken.complete
    assert [fault.name for fault in taken.faults] == ["api_server", "node_ready", "kube_system"]
    assert taken.excuse(taken.faults[0]).result == "fail"


def test_a_full_disk_is_never_excused(world: World) -> None:
    world.break_disk()
    assert take(world).faults == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"trial": "x"}', '{"faults": 3}'])
def test_garbage_is_named(world: World, content: str) -> None:
    world.write_file(world.paths.baseline, content)
    with pytest.raises(BaselineError, match=r"baseline\.json cannot be read"):
        read_baseline(world.node())
    world.run("status", "--json")


def test_an_unwritable_one_is_an_error(world: World) -> None:
    Path(world.paths.baseline).mkdir(parents=True)
    with pytest.raises(BaselineError, match="cannot write"):
        take_baseline(world.node(), Config(), "t", print)


# Over a whole update.


def begin(cluster: Cluster) -> None:
    """On slot A, with a boot that was judged."""
    world = cluster.world
    world.write_file(
        world.paths.config,
        "server=http://x/\npubkey=y\nauto_rollback_after=1\nkube_system_settle=2\n",
    )
    assert world.boot_service() == 0


def arrive(cluster: Cluster) -> None:
    """In slot B, on trial."""
    cluster.world.update(FakeRelease("0.2.0"))
    assert cluster.world.power_on() == "B"
    cluster.api.boot_id = "boot-2"


def crashing(name: str) -> dict[str, object]:
    return pod(name, waiting="CrashLoopBackOff", restarts=4)


def test_a_fault_from_before_does_not_stop_the_commit(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    world = cluster.world
    begin(cluster)
    cluster.api.pods = [crashing("old"), pod("well")]
    arrive(cluster)
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"
    assert world.console()[-1].endswith("confirmed=1 known=kube_system")
    capsys.readouterr()
    world.run("status", "--json")
    status = json.loads(capsys.readouterr().out)
    (check,) = [c for c in status["last_boot_check"]["health"] if c["result"] == "known"]
    assert check["name"] == "kube_system"
    assert check["subjects"] == ["Pod/old"]
    assert "CrashLoopBackOff" in check["reason"]
    assert "CrashLoopBackOff" in check["before"]
    assert status["baseline"]["faults"][0]["subjects"] == ["Pod/old"]
    world.run("status")
    assert "kube_system: known (old container main: CrashLoopBackOff" in capsys.readouterr().out


def test_another_pod_than_before_stops_it(cluster: Cluster) -> None:
    world = cluster.world
    begin(cluster)
    cluster.api.pods = [crashing("old")]
    arrive(cluster)
    cluster.api.pods = [crashing("old"), crashing("new")]
    assert world.boot_service() is None
    assert world.state()["phase"] == "rolled_back"
    assert "new container main: CrashLoopBackOff" in str(world.state()["last_error"])


def test_a_kubernetes_that_was_down_before_is_waited_for(cluster: Cluster) -> None:
    """It was about to start again: the release has as long as any other to bring it up."""
    world = cluster.world
    begin(cluster)
    cluster.api.node_status = "False"
    arrive(cluster)
    began = world.clock.monotonic()
    assert world.boot_service() == 0
    assert world.console()[-1].endswith("confirmed=1 known=node_ready,kube_system")
    assert world.clock.monotonic() - began >= 5  # the deadline


def test_what_never_failed_before_stops_it(cluster: Cluster) -> None:
    begin(cluster)
    cluster.api.pods = [crashing("old")]
    arrive(cluster)
    cluster.api.node_status = "False"
    assert cluster.world.boot_service() is None
    assert cluster.world.state()["phase"] == "rolled_back"


def test_the_baseline_of_another_attempt_excuses_nothing(cluster: Cluster) -> None:
    world = cluster.world
    begin(cluster)
    cluster.api.pods = [crashing("old")]
    arrive(cluster)
    document = json.loads(Path(world.paths.baseline).read_text())
    world.write_file(world.paths.baseline, json.dumps({**document, "trial": "another"}))
    assert world.boot_service() is None
    assert world.state()["phase"] == "rolled_back"


def test_the_latest_look_before_the_reboot_counts(cluster: Cluster) -> None:
    world = cluster.world
    begin(cluster)
    cluster.api.pods = [crashing("old")]
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    cluster.api.pods = [pod("old", restarts=4)]
    assert world.run("activate", "--reboot") is None
    world.power_on()
    cluster.api.boot_id = "boot-2"
    cluster.api.pods = [crashing("old")]
    assert world.boot_service() is None
    assert world.state()["phase"] == "rolled_back"


# The boot-time service with Kubernetes.


def test_a_pod_that_crashes_within_the_settle_time_is_not_committed(cluster: Cluster) -> None:
    world = cluster.world
    begin(cluster)
    arrive(cluster)
    pause = world.clock.pause

    def crashes(seconds: float) -> None:
        """Running at every look, and never for two seconds."""
        pause(seconds)
        cluster.api.pods = [pod("loop", restarts=int(world.clock.seconds))]

    cluster.api.pods = [pod("loop")]
    world.clock.pause = crashes  # type: ignore[method-assign]
    assert world.boot_service() is None
    assert world.state()["phase"] == "rolled_back"
    assert "loop has been well for" in str(world.state()["last_error"])
    assert "restarted meanwhile" in str(world.state()["last_error"])


def test_a_trial_waits_for_the_settle_time_and_a_confirmed_boot_does_not(
    cluster: Cluster,
) -> None:
    world = cluster.world
    cluster.api.pods = [pod("well")]
    start = world.clock.seconds
    begin(cluster)
    assert world.clock.seconds - start < 1
    arrive(cluster)
    start = world.clock.seconds
    assert world.boot_service() == 0
    assert 2 <= world.clock.seconds - start < 3.5


def test_a_confirmed_boot_without_kubernetes_stays_and_says_so(cluster: Cluster) -> None:
    world = cluster.world
    begin(cluster)
    world.power_on()
    start = world.clock.seconds
    assert world.boot_service() == 1
    assert 5 <= world.clock.seconds - start < 6.5
    assert world.reboots == 0
    assert world.env()["boot_success"] == "1"
    line = world.console()[-1]
    assert line.startswith("kubesolo-update: unhealthy version=0.1.0 slot=A cause=health")
    assert "has not reported in this boot" in line
    state = json.loads(Path(world.paths.report).read_text())
    assert (state["outcome"], state["confirmed"]) == ("unhealthy", True)


def test_a_failing_probe_is_reported_on_a_confirmed_boot_and_no_more(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    world = cluster.world
    world.write_file(world.paths.config, "healthcheck_url=http://127.0.0.1:1/\n")
    assert world.boot_service() == 0
    assert world.console()[-1].endswith("ready version=0.1.0 slot=A confirmed=1")
    world.run("status", "--json")
    status = json.loads(capsys.readouterr().out)
    assert "probe_url: http://127.0.0.1:1/ gave no answer" in status["problems"][0]
    checks = {c["name"]: c["result"] for c in status["last_boot_check"]["health"]}
    assert (checks["probe_url"], checks["kube_system"]) == ("fail", "pass")


def test_an_update_can_begin_while_a_confirmed_boot_waits(cluster: Cluster) -> None:
    world = cluster.world
    begin(cluster)
    world.power_on()
    world.offered = FakeRelease("0.2.0")
    codes: list[int | None] = []
    pause = world.clock.pause

    def meanwhile(seconds: float) -> None:
        world.clock.pause = pause  # type: ignore[method-assign]
        codes.append(world.run("apply"))

    world.clock.pause = meanwhile  # type: ignore[method-assign]
    world.boot_service()
    assert codes == [0]


def test_the_command_waits_for_the_settle_time_only_where_it_may_pass(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    world = cluster.world
    cluster.api.pods = [pod("well")]
    start = world.clock.seconds
    assert world.run("healthcheck", "--json") == 0
    assert 30 <= world.clock.seconds - start < 32
    checks = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["kube_system"]["reason"] == "the pod of kube-system: well for 30 s"
    start = world.clock.seconds
    cluster.api.node_status = "False"
    assert world.run("healthcheck") == 1
    assert world.clock.seconds == start
