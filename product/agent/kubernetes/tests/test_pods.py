"""Judging kube-system's pods, and the time that they must have been well."""

from __future__ import annotations

import pytest

from product.agent.kubernetes.pods import Fault, PodWatch, find_restless, read_pods
from product.agent.tests.support_cluster import pod

Raw = dict[str, object]


def faults(
    *pods: Raw, watch: PodWatch | None = None, now: float = 0, settle: float = 0
) -> list[Fault]:
    return (watch or PodWatch()).look(read_pods({"items": list(pods)}), now, settle)


def reasons(*pods: Raw) -> list[str]:
    return [fault.reason for fault in faults(*pods)]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (pod("a"), None),
        (pod("a", restarts=9), None),
        (pod("a", phase="Succeeded", ready=False), None),
        (pod("a", ready=False), "a container main is not ready"),
        (pod("a", phase="Pending", waiting="ContainerCreating"), "a is Pending"),
        (
            pod("a", phase="Pending", waiting="ImagePullBackOff"),
            "a container main: ImagePullBackOff",
        ),
        (
            pod("a", waiting="CrashLoopBackOff", restarts=5),
            "a container main: CrashLoopBackOff, restarted 5 times",
        ),
        (pod("a", phase="Failed"), "a is Failed"),
        (pod("a", phase="Failed", owner=("Node", "kubesolo-1")), "a is Failed"),
        (pod("a", phase="Failed", owner=("ReplicaSet", "a-1")), None),
        (pod("a", phase="Failed", owner=("Job", "a")), None),
        (pod("a", phase="Unknown", owner=("DaemonSet", "a")), "a is Unknown"),
    ],
)
def test_one_pod(raw: Raw, reason: str | None) -> None:
    assert reasons(raw) == ([reason] if reason else [])


def test_an_ended_container_of_a_running_pod() -> None:
    raw = pod("a", ready=False)
    raw["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 3}}  # type: ignore[index]
    assert reasons(raw) == ["a container main ended (3)"]


def test_an_init_container_that_fails() -> None:
    raw = pod("a", phase="Pending", waiting="PodInitializing")
    waiting = {"name": "set-up", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    raw["status"]["initContainerStatuses"] = [waiting]  # type: ignore[index]
    assert reasons(raw) == ["a container set-up: CrashLoopBackOff"]


def test_a_container_of_which_nothing_is_said() -> None:
    raw = pod("a")
    raw["spec"]["containers"].append({"name": "second"})  # type: ignore[index]
    assert reasons(raw) == ["a has containers of which nothing is known"]


def test_a_pod_that_is_being_deleted_is_not_judged() -> None:
    raw = pod("a", ready=False)
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"  # type: ignore[index]
    assert read_pods({"items": [raw]}) == []


@pytest.mark.parametrize(
    ("owner", "labels", "workload"),
    [
        (None, {}, "Pod/a"),
        (("Node", "kubesolo-1"), {}, "Pod/a"),
        (("DaemonSet", "proxy"), {}, "DaemonSet/proxy"),
        (("ReplicaSet", "dns-5d4"), {"pod-template-hash": "5d4"}, "Deployment/dns"),
        (("ReplicaSet", "dns-5d4"), {}, "ReplicaSet/dns-5d4"),
    ],
)
def test_what_stays_when_the_pod_is_replaced(
    owner: tuple[str, str] | None, labels: dict[str, str], workload: str
) -> None:
    (fault,) = faults(pod("a", ready=False, owner=owner, labels=labels))
    assert fault.workload == workload


def test_every_pod_must_be_well_for_the_settle_time() -> None:
    watch = PodWatch()
    (fault,) = faults(pod("a"), watch=watch, now=100, settle=30)
    assert fault == Fault("Pod/a", "a has been well for 0 s of 30", settling=True)
    assert faults(pod("a"), watch=watch, now=129, settle=30)[0].settling
    assert faults(pod("a"), watch=watch, now=130, settle=30) == []


def test_a_restart_begins_the_settle_time_anew() -> None:
    watch = PodWatch()
    faults(pod("a"), watch=watch, now=0, settle=30)
    (fault,) = faults(pod("a", restarts=1), watch=watch, now=29, settle=30)
    assert fault.reason == "a has been well for 0 s of 30, restarted meanwhile"
    assert faults(pod("a", restarts=1), watch=watch, now=58, settle=30)
    assert faults(pod("a", restarts=1), watch=watch, now=59, settle=30) == []


def test_a_moment_of_unreadiness_begins_it_anew_too() -> None:
    watch = PodWatch()
    faults(pod("a"), watch=watch, now=0, settle=30)
    faults(pod("a", ready=False), watch=watch, now=20, settle=30)
    assert faults(pod("a"), watch=watch, now=31, settle=30)[0].settling
    assert faults(pod("a"), watch=watch, now=50, settle=30) == []


def test_each_pod_has_its_own_time_and_an_ended_one_none() -> None:
    watch = PodWatch()
    faults(pod("a"), watch=watch, now=0, settle=30)
    found = faults(pod("a"), pod("b"), pod("c", phase="Succeeded"), watch=watch, now=30, settle=30)
    assert [fault.workload for fault in found] == ["Pod/b"]


def test_a_pod_that_went_and_came_begins_anew() -> None:
    watch = PodWatch()
    faults(pod("a"), watch=watch, now=0, settle=30)
    faults(watch=watch, now=20, settle=30)
    assert faults(pod("a"), watch=watch, now=40, settle=30)[0].settling


def test_a_pod_between_two_crashes_is_restless() -> None:
    now = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    crashed = pod("a", restarts=3)
    quiet = pod("b", restarts=3, started="2025-12-31T23:00:00Z")
    fresh, odd = pod("c"), pod("d", restarts=1, started="never")
    pods = read_pods({"items": [crashed, quiet, fresh, odd]})
    assert find_restless(pods, now + 10, 30) == [
        Fault("Pod/a", "a was restarted 10 s ago, 3 times in all")
    ]
    assert find_restless(pods, now + 31, 30) == []
