"""What the bundle holds. Every part reads alone; none changes the node."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.logs import boots as index
from product.agent.logs import lines
from product.agent.logs.audit import SERVICE as AUDIT
from product.agent.logs.audit import audit_lines
from product.agent.logs.boots import BootLog, Crash
from product.agent.node import Node
from product.agent.support.bundle import PART_BYTES, Part
from product.agent.system import program
from product.agent.system.isolation import IsolatedRunner
from product.agent.system.paths import Paths

# Logs of this boot and of so many before it.
BOOTS_BEFORE = 4
# Programs by the name of their part.
COMMANDS: dict[str, tuple[str, ...]] = {
    "dmesg.txt": ("dmesg",),
    "mounts.txt": ("mount",),
    "disk-use.txt": ("df", "-k"),
    "inodes.txt": ("df", "-i"),
    "partitions.txt": ("fdisk", "-l"),
    "memory.txt": ("free", "-k"),
    "processes.txt": ("ps", "w"),
    "services.txt": ("sh", "-c", "sv status /run/service/*"),
    "addresses.txt": ("ip", "addr"),
    "routes.txt": ("sh", "-c", "ip route show table all; ip -6 route show table all"),
    "neighbours.txt": ("ip", "neigh"),
    "modules.txt": ("lsmod",),
    "clock.txt": ("sh", "-c", "date -u; cat /proc/uptime; chronyc -n tracking; chronyc -n sources"),
    "containers.txt": ("sh", "-c", "ctr --namespace k8s.io containers list"),
}
FILES = (
    "/run/kubesolo/boot.json", "/run/kubesolo/early", "/run/kubesolo/agent.json",
    "/run/kubesolo/problems", "/run/kubesolo/config.json", "/run/kubesolo/fsck.log",
    "/run/kubesolo/prepare.log", "/run/kubesolo/audit.log",
    "/run/kubesolo/settle.log", "/run/kubesolo/crash.log",
    "/run/kubesolo/network/dhcpcd.conf", "/run/kubesolo/network/state.json", "/run/resolv.conf",
    "/proc/cmdline", "/proc/version", "/proc/cpuinfo", "/proc/meminfo", "/proc/interrupts",
    "/proc/partitions",
    "/usr/lib/kubesolo/release.json", "/usr/lib/kubesolo/payload.json", "/usr/lib/os-release",
    "/etc/kubesolo/hostname", "/etc/kubesolo/network.json", "/etc/kubesolo/kubernetes.json",
    "/etc/kubesolo/update.conf", "/etc/kubesolo/timezone", "/etc/kubesolo/ntp",
    "/etc/kubesolo/authorized_keys", "/etc/kubesolo/kubesolo.yaml",
    "/var/lib/kubesolo/config/applied.json", "/var/lib/kubesolo/update/state.json",
    "/var/lib/kubesolo/update/history.jsonl", "/var/lib/kubesolo/update/quarantine.json",
    "/var/lib/kubesolo/update/baseline.json", "/var/lib/kubesolo/update/counters.json",
)  # fmt: skip
# What of the cluster, by the name of its part.
KINDS = {
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "events": "/api/v1/events?limit=500",
}
API_SECONDS = 10.0
PAYLOAD = "/usr/lib/kubesolo/payload.json"
# How long the listing of a folder may take.
LOOK_SECONDS = 5.0
STATUS_SECONDS = 20.0


def parts_of(node: Node, load: Callable[[], Config]) -> Iterator[Part]:
    """Every part, what is needed most first; ``load`` reads the configuration."""
    paths, look = node.paths, _Look()
    yield Part("status.json", partial(_status, node, load), STATUS_SECONDS)
    yield Part("boot-environment.txt", partial(_environment, node))
    yield Part("boots.txt", partial(_boots, node))
    for fields in reversed(look("crash", lambda: index.list_crashes(paths))):
        crash = Crash(*fields)
        name = f"crash/{os.path.basename(crash.path)}"
        yield Part(name, partial(_crash, node, crash))
    for name in reversed(look("consoles", lambda: index.list_consoles(paths))):
        yield Part(f"crash/{name}", partial(_file, f"{paths.logs}/crash/{name}"))
    for fields in reversed(look("logs", lambda: index.list_boots(paths)[-1 - BOOTS_BEFORE :])):
        boot = BootLog(*fields)
        yield Part(f"logs/boot-{boot.number}.txt", partial(_log, boot), 40.0)
    yield Part("logs/audit.txt", partial(_audit, paths))
    # What lies in memory is there whatever the disk does.
    for name, there in (("files", _on_disk), ("files in memory", lambda path: not _on_disk(path))):
        wanted = [path for path in FILES if there(path)]
        for path in look(name, partial(_existing, paths, wanted)):
            yield Part(f"files{path}", partial(_file, paths.under(path)))
    for name, argv in COMMANDS.items():
        yield Part(f"commands/{name}", partial(_command, argv))
    if look("kubernetes", partial(_existing, paths, [PAYLOAD])):
        for kind, path in KINDS.items():
            make = partial(_kubernetes, node, kind, path)
            yield Part(f"kubernetes/{kind}.json", make, API_SECONDS + 5)
    pods = f"{paths.own_logs}/pods"
    for name in look("pods", lambda: lines.pods_in(pods)):
        yield Part(f"pods/{name}.txt", partial(_pod, pods, name))
    for name, reason in look.failed.items():
        yield Part(name, partial(_fail, f"what there is cannot be listed: {reason}"))


class _Look:
    """Asks in a child what there is, as the disk may not answer."""

    def __init__(self) -> None:
        self._runner = IsolatedRunner()
        self.failed: dict[str, str] = {}

    def __call__(self, name: str, question: Callable[[], Sequence[object]]) -> list[Any]:
        """The answer, as JSON brings it over; nothing where there is none."""
        try:
            answer = self._runner.run(
                name, LOOK_SECONDS, lambda: json.dumps(list(question())).encode()
            )
        except (AgentError, OSError) as error:
            self.failed[name] = str(error)
            return []
        found = json.loads(answer)
        return found if isinstance(found, list) else []


def _existing(paths: Paths, wanted: Sequence[str]) -> list[str]:
    return [path for path in wanted if os.path.exists(paths.under(path))]


def _on_disk(path: str) -> bool:
    return not path.startswith(("/run/", "/proc/"))


def _fail(reason: str) -> bytes:
    raise AgentError(reason)


def _status(node: Node, load: Callable[[], Config]) -> bytes:
    from product.agent.status import as_text, collect

    report = collect(node, load())
    return f"{as_text(report)}\n\n{json.dumps(report._asdict(), indent=2)}\n".encode()


def _environment(node: Node) -> bytes:
    """The boot loader's variables, as they are read."""
    return f"{node.boot_env.read()!r}\n".encode()


def _boots(node: Node) -> bytes:
    text = [f"{boot!r}" for boot in index.list_boots(node.paths)]
    text += [f"{crash!r}" for crash in index.list_crashes(node.paths)]
    return ("\n".join(text) + "\n").encode()


def _crash(node: Node, crash: Crash) -> bytes:
    return index.crash_text(node.paths, crash).encode()


def _log(boot: BootLog) -> bytes:
    return _last(
        f"{line.time or '-'} {line.service}: {line.text}\n"
        for line in lines.boot_lines(boot.folder)
    )


def _audit(paths: Paths) -> bytes:
    """Of all boots."""
    found = audit_lines(f"{paths.own_logs}/{AUDIT}")
    return _last(f"{line.time} {line.text}\n" for line in found)


def _pod(pods: str, name: str) -> bytes:
    return _last(f"{line.time} {line.text}\n" for line in lines.pod_lines(pods, name))


def _last(texts: Iterator[str]) -> bytes:
    """The end of it: some more than a part takes, so that it is seen to be cut."""
    kept = bytearray()
    for text in texts:
        kept += text.encode()
        if len(kept) > 4 * PART_BYTES:
            del kept[: len(kept) - PART_BYTES - 1]
    return bytes(kept)


def _file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(PART_BYTES + 1)


def _command(argv: tuple[str, ...]) -> bytes:
    status, output = program.run(argv)
    return f"{output}\n[exit status {status}]\n".encode()


def _kubernetes(node: Node, kind: str, path: str) -> bytes:
    from product.agent.kubernetes.api import ApiClient
    from product.agent.kubernetes.kubeconfig import read_kubeconfig
    from product.agent.kubernetes.payload import read_payload

    payload = read_payload(node.paths)
    if payload is None:
        raise AgentError("the image has no Kubernetes")
    client = ApiClient(read_kubeconfig(payload.kubeconfig))
    items = client.get_json(path, API_SECONDS).get("items")
    found = [_summary(kind, item) for item in items] if isinstance(items, list) else []
    return (json.dumps(found, indent=1) + "\n").encode()


def _summary(kind: str, item: object) -> dict[str, object]:
    """An object without what may hold secrets: variables, arguments, annotations."""
    if not isinstance(item, dict):
        return {}
    found: dict[str, object] = {
        "metadata": _pick(
            item,
            "metadata",
            "name",
            "namespace",
            "labels",
            "creationTimestamp",
            "deletionTimestamp",
        )
    }
    if kind == "events":
        keys = ("type", "reason", "message", "count", "firstTimestamp", "lastTimestamp")
        return {
            **found,
            **{key: item.get(key) for key in keys},
            "object": _pick(item, "involvedObject", "kind", "namespace", "name"),
        }
    if kind == "pods":
        found["spec"] = _pick(item, "spec", "nodeName", "restartPolicy", "hostNetwork")
    if isinstance(status := item.get("status"), dict):
        found["status"] = {key: value for key, value in status.items() if key != "images"}
    return found


def _pick(item: dict[str, object], name: str, *keys: str) -> dict[str, object]:
    part = item.get(name)
    return {key: part[key] for key in keys if key in part} if isinstance(part, dict) else {}
