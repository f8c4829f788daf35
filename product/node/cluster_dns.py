"""The cluster DNS: a service of the host beside Kubernetes."""

from __future__ import annotations

from contextlib import suppress

from product.agent.errors import AgentError
from product.agent.system import program
from product.node.paths import NodePaths

KUBECONFIG = "dns.kubeconfig"


def begin_anew(paths: NodePaths) -> None:
    """End it: its supervisor starts it again, and it reads its certificate and all Services."""
    with suppress(AgentError):
        program.run(["sv", "term", f"{paths.services}/cluster-dns"])
