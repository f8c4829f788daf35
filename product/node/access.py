"""Who may reach the API server and the kubelet over the network: the setting ``api-access``.

A chain of the packet filter in front of their ports. The node itself and its pods reach them in any
case; ``node`` leaves it at that, networks and addresses add to it. Without the setting there is no
chain.
"""

from __future__ import annotations

import os

from product.agent.errors import AgentError
from product.agent.system import program
from product.node.console import Reporter
from product.node.paths import NodePaths

ALL, NODE = "all", "node"
PORTS = (6443, 10250)
_CHAIN = "KUBESOLO-API"
# The bridge of the CNI configuration, /etc/cni/net.d.
_PODS = "cni0"
_FAMILIES = {4: "iptables", 6: "ip6tables"}


def rules(version: int, allowed: tuple[str, ...]) -> str:
    """What ``iptables-restore --noflush`` of IP ``version`` reads: the chain, filled anew."""
    lines = ["*filter", f":{_CHAIN} - [0:0]"]
    lines += [f"-A {_CHAIN} -i {name} -j RETURN" for name in ("lo", _PODS)]
    for entry in allowed:
        if entry != NODE and (":" in entry) == (version == 6):
            lines.append(f"-A {_CHAIN} -s {entry} -j RETURN")
    return "\n".join([*lines, f"-A {_CHAIN} -j DROP", "COMMIT", ""])


def restrict(paths: NodePaths, allowed: tuple[str, ...], reporter: Reporter) -> None:
    """Let those of ``allowed`` alone reach the ports; all where it is empty.

    What cannot be closed is said, and Kubernetes starts all the same.
    """
    closed = bool(allowed) and ALL not in allowed
    if not closed and not os.path.exists(paths.api_filter):
        return
    for version, family in _FAMILIES.items():
        try:
            if closed:
                _close(paths, version, family, allowed)
            else:
                _open(family)
        except AgentError as error:
            what = "is open to every network" if closed else "is not open again"
            reporter.problem(f"Kubernetes: api-access: the API server {what}: {error.message}")
    if not closed:
        os.unlink(paths.api_filter)


def _close(paths: NodePaths, version: int, family: str, allowed: tuple[str, ...]) -> None:
    with open(paths.api_filter, "w", encoding="ascii") as file:
        file.write(rules(version, allowed))
    program.require([f"{family}-restore", "--wait", "--noflush", paths.api_filter])
    for jump in _jumps():
        if program.run([family, "--wait", "--check", *jump])[0] != 0:
            program.require([family, "--wait", "--insert", *jump])


def _open(family: str) -> None:
    for jump in _jumps():
        if program.run([family, "--wait", "--check", *jump])[0] == 0:
            program.require([family, "--wait", "--delete", *jump])


def _jumps() -> list[list[str]]:
    return [["INPUT", "-p", "tcp", "--dport", str(port), "-j", _CHAIN] for port in PORTS]
