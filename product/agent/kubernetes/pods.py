"""Judging the pods of kube-system, from what the API server lists.

A pod is well when it is Running with all containers ready, or Succeeded. Not judged are pods that
are being deleted, pods of Jobs (a job ends by itself, and its controller repeats it), and failed
pods that a controller has replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

Object = dict[str, object]


class Pod(NamedTuple):
    """``workload`` names what stays when the pod is replaced, such as ``Deployment/coredns``.

    ``problem`` is None for a pod that is well, ``done`` says that it ended so; ``starts`` changes
    whenever a container is started anew; ``started`` is the latest start's time, ISO 8601.
    """

    name: str
    uid: str
    workload: str
    problem: str | None
    done: bool
    starts: tuple[str, ...]
    restarts: int
    started: str


class Fault(NamedTuple):
    """What is wrong with which workload; ``settling`` where only time is missing."""

    workload: str
    reason: str
    settling: bool = False


def read_pods(document: Object) -> list[Pod]:
    """The pods of a PodList that are to be judged."""
    return [pod for item in objects(document.get("items")) if (pod := _read(item)) is not None]


def as_of_boot(pods: Iterable[Pod], booted: str) -> list[Pod]:
    """``pods``, of which those are unwell that no kubelet has started since ``booted`` (ISO 8601).

    What seems to run since before that is what the last kubelet said of it.
    """
    return [
        pod._replace(problem="was last reported before the reboot")
        if pod.problem is None and not pod.done and pod.started < booted
        else pod
        for pod in pods
    ]


class PodWatch:
    """How long each pod has been well without a restart, over several looks."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[tuple[str, ...], float]] = {}

    def look(self, pods: Iterable[Pod], now: float, settle: float) -> list[Fault]:
        """What is wrong with ``pods``, each of which must have been well for ``settle`` seconds.

        ``now`` is a time that never steps back.
        """
        before, self._since = self._since, {}
        faults = []
        for pod in pods:
            known = before.get(pod.uid)
            restarted = known is not None and known[0] != pod.starts
            # Seen but unwell counts as "well since now", so that its restart is noticed later.
            fresh = known is None or restarted or pod.problem is not None
            since = now if fresh or known is None else known[1]
            self._since[pod.uid] = (pod.starts, since)
            if pod.problem is not None:
                faults.append(Fault(pod.workload, f"{pod.name} {pod.problem}"))
            elif not pod.done and now - since < settle:
                again = ", restarted meanwhile" if restarted else ""
                seen = f"{pod.name} has been well for {now - since:.0f} s of {settle:g}{again}"
                faults.append(Fault(pod.workload, seen, settling=True))
        return faults


def find_restless(pods: Iterable[Pod], now: float, seconds: float) -> list[Fault]:
    """Pods that are well only because they were restarted within the last ``seconds``.

    ``now`` is in seconds since 1970.
    """
    from datetime import datetime

    faults = []
    for pod in pods:
        if pod.problem is not None or pod.done or not pod.restarts:
            continue
        try:
            age = now - datetime.fromisoformat(pod.started).timestamp()
        except (ValueError, OverflowError):
            continue
        if 0 <= age < seconds:
            reason = f"{pod.name} was restarted {age:.0f} s ago, {_times(pod.restarts)} in all"
            faults.append(Fault(pod.workload, reason))
    return faults


def _read(item: Object) -> Pod | None:
    metadata, status = child(item, "metadata"), child(item, "status")
    owner = next((o for o in objects(metadata.get("ownerReferences")) if o.get("controller")), None)
    kind = str(owner.get("kind")) if owner else ""
    # The owner of a static pod is its node, which replaces nothing.
    replaced = kind not in ("", "Node")
    phase = str(status.get("phase"))
    if metadata.get("deletionTimestamp") or kind == "Job" or (phase == "Failed" and replaced):
        return None
    containers = list(objects(status.get("containerStatuses")))
    name = str(metadata.get("name"))
    return Pod(
        name=name,
        uid=str(metadata.get("uid") or name),
        workload=_workload(name, kind, owner, metadata) if owner and replaced else f"Pod/{name}",
        problem=_problem(item, phase, containers),
        done=phase == "Succeeded",
        starts=tuple(f"{c.get('restartCount')} {c.get('containerID')}" for c in containers),
        restarts=sum(_count(c) for c in containers),
        started=max((_started(c) for c in containers), default=""),
    )


def _workload(name: str, kind: str, owner: Object, metadata: Object) -> str:
    holder = str(owner.get("name"))
    suffix = child(metadata, "labels").get("pod-template-hash")
    if kind == "ReplicaSet" and suffix and holder.endswith(f"-{suffix}"):
        return f"Deployment/{holder.removesuffix(f'-{suffix}')}"
    return f"{kind}/{holder}"


def _problem(item: Object, phase: str, containers: list[Object]) -> str | None:
    if phase == "Succeeded":
        return None
    status = child(item, "status")
    for container in [*objects(status.get("initContainerStatuses")), *containers]:
        waiting = child(child(container, "state"), "waiting")
        reason = str(waiting.get("reason") or "")
        # These two are how every pod begins.
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return f"container {container.get('name')}: {reason}{_restarted(container)}"
    if phase != "Running":
        reason = f" ({status['reason']})" if status.get("reason") else ""
        return f"is {phase}{reason}"
    for container in containers:
        if not container.get("ready"):
            ended = child(child(container, "state"), "terminated")
            what = f"ended ({ended.get('exitCode')})" if ended else "is not ready"
            return f"container {container.get('name')} {what}{_restarted(container)}"
    if len(containers) < len(list(objects(child(item, "spec").get("containers")))):
        return "has containers of which nothing is known"
    return None


def _restarted(container: Object) -> str:
    count = _count(container)
    return f", restarted {_times(count)}" if count else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _count(container: Object) -> int:
    count = container.get("restartCount")
    return count if isinstance(count, int) else 0


def _started(container: Object) -> str:
    return str(child(child(container, "state"), "running").get("startedAt") or "")


def child(parent: Object, key: str) -> Object:
    """The object at ``key``; an empty one where there is none."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def objects(value: object) -> Iterator[Object]:
    """The objects of a list; nothing where it is none."""
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            yield item
