"""What stage 25 runs: data of this release's layout, see product.agent.update.migrations."""

from __future__ import annotations

from product.agent.datastore.restore import read_early
from product.agent.errors import EXIT_DONE, EXIT_FAILED, AgentError
from product.agent.node import Node
from product.agent.update.migrations import Migrator


def main(node: Node | None = None) -> int:
    """Migrate, and print what was done, or why nothing could be."""
    node = node or Node()
    try:
        slot, data = read_early(node.paths)
        if data != "persistent":
            return EXIT_DONE
        for text in Migrator(node.paths.data, slot, node.release.version).migrate():
            node.print_console(f"kubesolo-update: {text}")
            print(text)
    except AgentError as error:
        print(error.message)
        return EXIT_FAILED
    return EXIT_DONE
