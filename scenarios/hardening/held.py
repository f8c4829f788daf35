"""Which checks of the benchmark hold on a node that runs."""

from __future__ import annotations

import json
from typing import Any

from harness.errors import CommandError
from harness.target.node import Node
from scenarios.hardening.cis import Check, Value
from scenarios.hardening.listening import Socket, look
from scenarios.kubernetes import Cluster

PLAN = "/run/kubesolo/kubernetes/plan"
PROXY = "/run/kubesolo/kubernetes/proxy.json"
DATASTORE = "/var/lib/kubesolo/kubernetes/etcd"
SECRET = "cis-secret"

# Mode, owner and path of each file that a pattern fits.
STAT = """
import glob, os, stat, sys
for pattern in sys.argv[1:]:
    for path in glob.glob(pattern):
        status = os.stat(path)
        print(pattern, "%o" % stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, path)
"""
# The status that somebody without credentials gets of each address.
ASK = """
import ssl, sys, urllib.error, urllib.request
anyone = ssl._create_unverified_context()
for address in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(address, timeout=30, context=anyone).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
# Whether the process that runs was started after the plan was written.
RUNS_BY_PLAN = f"""
pid=$(cat /run/service/kubernetes/supervise/pid)
tr '\\0' ' ' < /proc/$pid/cmdline
[ {PLAN} -ot /proc/$pid ] && echo new
"""
# What the datastore holds for one Secret, by the first letters of its value.
STORED = r"""
import glob, re, sys
found = set()
for path in glob.glob(sys.argv[1] + "/member/*/*"):
    data = open(path, "rb").read()
    for match in re.finditer(re.escape(sys.argv[2].encode()) + rb"[^ -~]{0,16}([ -~]{3,40})", data):
        found.add(match[1].decode())
print("\n".join(sorted(found)))
"""


class Facts:
    """What a node is asked once, for all checks of a list."""

    def __init__(self, node: Node, cluster: Cluster, address: str, checks: list[Check]) -> None:
        self._cluster = cluster
        self._address = address
        ran = node.succeed(RUNS_BY_PLAN).text
        assert ran.split() == ["kubenode", "all", PLAN, "new"], ran
        self._plan: dict[str, dict[str, str]] = {}
        for line in node.get(PLAN).decode().splitlines():
            name, *words = line.split()
            pairs = (word.removeprefix("--").partition("=") for word in words if "=" in word)
            self._plan[name] = {key: value for key, _, value in pairs}
        patterns = sorted({check.files for check in checks if check.files})
        self._files: dict[str, list[tuple[int, str, str]]] = {}
        for line in node.succeed(["python3", "-c", STAT, *patterns]).text.splitlines():
            pattern, mode, uid, gid, path = line.split(" ", 4)
            self._files.setdefault(pattern, []).append((int(mode, 8), f"{uid}:{gid}", path))
        addresses = sorted({self._at(check.http) for check in checks if check.http})
        said = node.succeed(["python3", "-c", ASK, *addresses], seconds=120).text.split()
        self._http = dict(zip(addresses, said, strict=True))
        self._sockets: list[Socket] = look(node)
        self._proxy = json.loads(node.get(PROXY))
        path = f"/api/v1/nodes/{cluster.node_name}/proxy/configz"
        self._kubelet = json.loads(cluster.kubectl("get", "--raw", path).text)["kubeletconfig"]
        cluster.kubectl("create", "secret", "generic", SECRET, "--from-literal=a=b")
        key = f"/registry/secrets/default/{SECRET}"
        self._stored = node.succeed(["python3", "-c", STORED, DATASTORE, key]).text.splitlines()

    def failure(self, check: Check) -> str | None:
        """What was found instead of what the check wants; None where it holds."""
        if check.files is not None:
            return self._misfit(check)
        if check.flag is not None:
            component, _, name = check.flag.partition(" ")
            found: Value | list[str] | None = self._plan[component].get(name)
        elif check.kubelet is not None:
            found = _field(self._kubelet, check.kubelet)
        elif check.proxy is not None:
            found = _field(self._proxy, check.proxy)
        elif check.http is not None:
            found = self._http[self._at(check.http)]
        else:
            return self._behaviour(check)
        return None if check.accepts(found) else f"found {found!r}"

    def _at(self, address: str) -> str:
        return address.replace("//NODE:", f"//{self._address}:")

    def _misfit(self, check: Check) -> str | None:
        found = self._files.get(str(check.files), [])
        if not found:
            return "there is no such file"
        for mode, owner, path in found:
            if check.mode is not None and mode & ~int(check.mode, 8):
                return f"{path} has mode {mode:o}"
            if check.owner is not None and owner != check.owner:
                return f"{path} belongs to {owner}"
        return None

    def _behaviour(self, check: Check) -> str | None:
        if check.closed is not None:
            listens = [entry for entry in self._sockets if entry.port == str(check.closed)]
            return f"found {listens}" if listens else None
        if check.denied is not None:
            may = self._may(*check.denied.split())
            return "an account without rights may" if may else None
        if check.pod is not None:
            return None if self._refuses(check.pod) else "such a pod is admitted"
        if check.object is not None:
            namespace, _, name = check.object.partition(" ")
            self._cluster.get(name, "-n", namespace)
            return None
        if check.admins is not None:
            bindings = self._cluster.get("clusterrolebindings")["items"]
            names = [
                entry["metadata"]["name"] for entry in bindings
                if entry["roleRef"]["name"] == "cluster-admin"
            ]  # fmt: skip
            return None if sorted(names) == sorted(check.admins) else f"found {names}"
        wrong = [text for text in self._stored if not text.startswith(str(check.secrets))]
        return f"found {wrong or 'nothing'}" if wrong or not self._stored else None

    def _may(self, verb: str, resource: str) -> bool:
        try:
            self._cluster.kubectl(
                "auth", "can-i", verb, resource, "--all-namespaces", "--as=somebody",
                "--as-group=system:authenticated",
            )  # fmt: skip
        except CommandError as error:
            if "no" not in str(error).split():
                raise
            return False
        return True

    def _refuses(self, fields: dict[str, Any]) -> bool:
        own = dict(fields)
        container = {"name": "c", "image": "kubesolo.io/busybox:1", **own.pop("container", {})}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "cis", "namespace": "default"},
            "spec": {"containers": [container], **own},
        }
        arguments = ("create", "--dry-run=server", "--validate=false", "-f", "-")
        try:
            self._cluster.kubectl(*arguments, stdin=json.dumps(document))
        except CommandError as error:
            if "violates PodSecurity" not in str(error):
                raise
            return True
        return False


def _field(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document
