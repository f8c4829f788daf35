"""Root's part of the service: write down where to serve, and the figures.

``/run/kubesolo/metrics/listen`` holds the port and the addresses, a word each; none where nothing
is served. ``kubesolo.prom`` beside it holds the figures in the text format, replaced as a whole.
Both may be read by anybody, so nothing secret stands in them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from product.agent.config import Config, load_config
from product.agent.errors import EXIT_DONE, EXIT_FAILED
from product.agent.node import Node
from product.agent.settings import metrics_addresses
from product.agent.system.files import read_bounded, write_atomic
from product.errors import KubesoloError

# The name is for node_exporter, too: a folder of its textfile collector may be this one.
LISTEN, FACTS = "listen", "kubesolo.prom"
_MAX = 4096


def collected_text(node: Node) -> str:
    """What root alone can tell, in the text format. Raises BootInfoError."""
    from product.agent.figures import read_figures
    from product.agent.metrics.families import collected_families
    from product.agent.metrics.text_format import encode

    return encode(collected_families(read_figures(node)))


def collect(node: Node, config: Config) -> bool:
    """Renew both files; whether anything is to be served. Raises KubesoloError, OSError."""
    addresses = metrics_addresses(config.metrics_address)
    line = " ".join([str(config.metrics_port), *addresses] if addresses else []) + "\n"
    folder = node.paths.metrics
    if _held(f"{folder}/{LISTEN}") != line.encode():
        write_atomic(f"{folder}/{LISTEN}", line.encode(), mode=0o644)
    if addresses:
        write_atomic(f"{folder}/{FACTS}", collected_text(node).encode(), mode=0o644)
    return bool(addresses)


def _held(path: str) -> bytes | None:
    try:
        return read_bounded(path, _MAX)
    except (OSError, ValueError):
        return None


def main(arguments: Sequence[str], node: Node | None = None) -> int:
    """Collect once; prints ``on`` or ``off``, or why it failed."""
    del arguments
    node = node or Node()
    try:
        print("on" if collect(node, load_config(node.paths.config)) else "off")
    except KubesoloError as error:
        print(f"error: the figures cannot be collected: {error.message}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"error: the figures cannot be collected: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE
