"""The resident process of product.agent.services.fork_server: what it imports before it serves."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module

from product.agent.cli.main import main as command
from product.agent.services.fork_server import serve
from product.agent.system.paths import Paths
from product.agent.trust import standins

# What commands import when they run: each costs the first of them what the import takes.
MODULES = (
    "product.agent.cli.commands.activate",
    "product.agent.cli.commands.apply",
    "product.agent.cli.commands.check",
    "product.agent.cli.commands.healthcheck",
    "product.agent.cli.commands.roll_back",
    "product.agent.cli.commands.show_status",
    "product.agent.health.runner",
    "product.agent.sources.http",
    "product.agent.status",
    "product.agent.trust.client",
    "product.agent.trust.fetcher",
    "product.agent.update.trial",
    "tuf.api.metadata",
    "tuf.ngclient.updater",
)


def main(path: str | None = None) -> int:
    """Load, then serve the commands of ``kubesolo-update`` at ``path``."""
    standins.install()
    for name in MODULES:
        import_module(name)
    # What lives now lives for ever: a fork's collector need not write to its pages.
    gc.collect()
    gc.freeze()
    # It was loaded in other programs' spare time; the commands are somebody's who waits.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    path = path or Paths().agent_socket
    try:
        serve(path, command)
    except OSError as error:
        print(f"error: cannot serve {path}: {error.strerror}", file=sys.stderr)
        return 1
