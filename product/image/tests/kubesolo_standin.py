"""A program that behaves as KubeSolo's documents say it does; what its supervision is tested with.

Reads the configuration file (an unknown key is a warning, a wrong type fatal), writes the
administrator's kubeconfig, says what is ready in order, holds containerd's socket unless it is told
of another one, clears containerd's store at the start, and stops in reverse order on SIGTERM.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

SERVICES = ("containerd", "kine", "apiserver", "controller", "masquerade", "kubelet", "kubeproxy")
KNOWN = {
    "apiVersion": str, "kind": str, "path": str, "kubernetes": dict, "network": dict, "pki": dict,
    "runtime": dict, "storage": dict, "logging": dict, "metrics": dict, "api": dict,
    "portainer": dict, "d2k": dict,
}  # fmt: skip


def main() -> int:
    """Exit codes: 0 stopped when told to, 1 for anything else."""
    (argument,) = sys.argv[1:]
    path = Path(argument.removeprefix("--config="))
    if path.stat().st_mode & 0o077:
        print(f"FTL {path} can be read by others", flush=True)
        return 1
    config = json.loads(path.read_text())
    for key, value in config.items():
        if key not in KNOWN:
            print(f"WRN unknown key {key}", flush=True)
        elif not isinstance(value, KNOWN[key]):
            print(f"FTL {key} is no {KNOWN[key].__name__}", flush=True)
            return 1
    state = Path(os.environ["STANDIN_STATE"])
    store = state / "containerd"
    shutil.rmtree(store, ignore_errors=True)
    for folder in ("containerd", "kine/db", "pki/admin"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    listener = socket.socket(socket.AF_UNIX)
    endpoint = config.get("runtime", {}).get("endpoint", "").removeprefix("unix://")
    if endpoint and not Path(endpoint).is_socket():
        print(f"FTL nothing listens at {endpoint}", flush=True)
        return 1
    if not endpoint:
        listener.bind(str(store / "containerd.sock"))
        listener.listen()
    for name in SERVICES:
        print(f"INF {name} is ready...", flush=True)
    kubeconfig = state / "pki/admin/admin.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text("apiVersion: v1\nkind: Config\n")
    fails = Path(os.environ["STANDIN_STATE"]) / "fail"
    while not stopping:
        time.sleep(0.02)
        if fails.exists():
            fails.unlink()
            print("FTL kine ended", flush=True)
            return 1
    for name in reversed(SERVICES):
        print(f"INF {name} stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
