"""When Kubernetes ended by itself: say so, and see whether its datastore still opens.

Exit codes tell too little: etcd meets damage with a panic as often as with an error. So the
datastore is opened once more by etcd alone. It counts as damaged only if that fails while an empty
one opens and there is room on the disk. A damaged one is kept where the agent keeps what a restore
replaces (product/agent/datastore/restore.py).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from contextlib import suppress

from product.agent.errors import AgentError
from product.agent.system.files import make_directories, sync_directory, write_atomic
from product.errors import KubesoloError
from product.node import cluster_dns
from product.node.console import Reporter
from product.node.errors import NodeError
from product.node.paths import NodePaths
from product.node.payload import Payload
from product.node.space import require_space
from product.node.trial import is_on_trial

# The codes of kubenode, see images/go/node/main.go.
COMPONENTS = {
    11: "etcd",
    12: "kube-apiserver",
    13: "kube-controller-manager",
    14: "kube-scheduler",
    15: "kubelet",
    16: "kube-proxy",
    17: "load-balancer",
    20: "a wait",
}
PROGRAM = "/usr/bin/kubenode"
PROBE_SECONDS = 120.0
# After which one that was told to end is killed: Kubernetes waits for it.
END_SECONDS = 20.0
LOG = "/var/log/kubernetes/current"
# In one boot: once a copy, once an empty one. Where neither opens, it is not the datastore's fault.
MAX_RECOVERIES = 2


def examine(paths: NodePaths, payload: Payload, reporter: Reporter, code: int) -> None:
    """Say that Kubernetes ended with ``code``; replace a datastore that does not open.

    While a release is on trial nothing is replaced: that it cannot read what the other slot left is
    its own failure, which only the other slot can mend. Raises NodeError.
    """
    who = COMPONENTS.get(code, "kubenode")
    how = "killed by a signal" if code < 0 else f"code {code}"
    reporter.problem(f"Kubernetes ended by itself ({who}, {how}) and is started again")
    require_space(paths.data)
    os.makedirs(paths.config, exist_ok=True)
    if os.path.isdir(payload.datastore) and is_damaged(paths, payload.datastore):
        if is_on_trial(paths):
            raise NodeError(
                f"{payload.datastore} does not open, and is not replaced: the release is on trial",
                hint="the other slot opens it, or replaces it, once this one has been given up",
            )
        replace(paths, payload, reporter)
        _end_watchers(paths)


def _end_watchers(paths: NodePaths) -> None:
    """End what runs on with another datastore's state: pods, and the cluster DNS.

    Their watches go on from a revision that the new one reaches only later, or never; the kubelet
    starts pods anew.
    """
    with suppress(OSError), open(paths.kill_pods, "w", encoding="ascii") as file:
        file.write("1")
    cluster_dns.begin_anew(paths)


def is_damaged(paths: NodePaths, datastore: str) -> bool:
    """Whether etcd does not open ``datastore``, but does open an empty one.

    Raises NodeError where it opens neither: then something else is wrong.
    """
    if _opens(paths, datastore):
        return False
    control = f"{datastore}.control"
    shutil.rmtree(control, ignore_errors=True)
    try:
        if _opens(paths, control):
            return True
    finally:
        shutil.rmtree(control, ignore_errors=True)
    raise NodeError(
        f"etcd opens neither {datastore} nor an empty datastore, so that nothing was replaced",
        hint=f"see {LOG}",
    )


def _opens(paths: NodePaths, datastore: str) -> bool:
    """Whether etcd alone serves ``datastore``; one that is merely slow does."""
    with suppress(FileNotFoundError):
        os.unlink(paths.probe)
    etcd = [
        PROGRAM, "etcd", f"--data-dir={datastore}", f"--listen-client-urls=unix://{paths.probe}"
    ]  # fmt: skip
    pid = os.posix_spawn(PROGRAM, etcd, os.environ)
    end = time.monotonic() + PROBE_SECONDS
    try:
        while time.monotonic() < end:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pid = 0
                if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                    # As the kernel does where memory is short. That says nothing of the datastore.
                    raise NodeError(
                        f"etcd was killed while it opened {datastore}: nothing was replaced",
                        hint="see whether memory is short: dmesg",
                    )
                return False
            if _is_healthy(paths.probe):
                return True
            time.sleep(0.2)
        return True
    finally:
        if pid:
            _end(pid)


def _end(pid: int) -> None:
    """Stop a child, by force where it does not end: etcd opens what a killed one left."""
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + END_SECONDS
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def replace(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    """Put the newest good copy in the place of the datastore, or nothing; keep what was there.

    Raises NodeError.
    """
    tried = _count(paths)
    if tried >= MAX_RECOVERIES:
        raise NodeError(
            f"{payload.datastore} was replaced {tried} times in this boot and does not open",
            hint=f"see {LOG}; what was replaced is kept, as the problems before this one say",
        )
    # First, so that a recovery that ends this process counts too.
    _remember(paths, tried + 1)
    if not tried:
        try:
            restored = _restore_copy()
        except (KubesoloError, OSError) as error:
            if _lacks_room(error):
                # The copy is good, and waits for room; an empty datastore would take its place.
                _remember(paths, tried)
                raise NodeError(
                    f"the datastore is damaged, and its copy cannot be put back: {error}",
                    hint="free space under /mnt/data; Kubernetes starts by itself once there is",
                ) from None
            reporter.problem(f"Kubernetes: no copy of the datastore could be put back: {error}")
            restored = None
        if restored:
            reporter.problem(f"Kubernetes: {restored}")
            return
    place = payload.datastore.rstrip("/")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    aside = f"{paths.asides}/aside-{now.replace(':', '').replace('-', '')}-damaged"
    while os.path.exists(aside):
        aside += "+"
    try:
        make_directories(aside)
        about = {"time": now, "reason": "etcd did not open it, and there was no copy"}
        write_atomic(f"{aside}/about.json", (json.dumps(about, indent=2) + "\n").encode())
        os.rename(place, f"{aside}/data")
        sync_directory(aside)
        make_directories(place)
        os.chmod(place, 0o700)
        sync_directory(os.path.dirname(place))
    except OSError as error:
        raise NodeError(
            f"cannot replace the damaged datastore {place}: {error.strerror or error}"
        ) from None
    reporter.problem(
        f"Kubernetes: the datastore was damaged and there is no copy of it: Kubernetes starts "
        f"with an empty one, the damaged one is kept in {aside}/data"
    )


def _lacks_room(error: KubesoloError | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return isinstance(error, AgentError) and error.code == "no-space"


def _restore_copy() -> str | None:
    """Let the agent put its newest good copy back; what it did, or None where there is none."""
    from product.agent.datastore.restore import restore_latest
    from product.agent.node import Node

    return restore_latest(Node(), "etcd does not open it")


def _is_healthy(path: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
        except OSError:
            return False


def _count(paths: NodePaths) -> int:
    try:
        with open(paths.recoveries, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _remember(paths: NodePaths, count: int) -> None:
    os.makedirs(paths.config, exist_ok=True)
    with open(paths.recoveries, "w", encoding="ascii") as file:
        file.write(f"{count}\n")
