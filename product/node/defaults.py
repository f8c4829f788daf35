"""Which defaults a node has: those of a node that was set up with them, or those of before.

A node that a release without these defaults has set up keeps its ways: an update must neither
refuse pods that ran so far, nor write what the older release in the other slot cannot read. The
node's own settings overrule either (docs/decisions/0041-kubernetes-hardening.md).
"""

from __future__ import annotations

import json

from product.agent.system.files import read_bounded, write_atomic
from product.node.paths import NodePaths

SCHEMA = 1
_MAX_BYTES = 4096


def are_hardened(paths: NodePaths, *, fresh: bool) -> bool:
    """Whether this node has the hardened defaults; ``fresh`` one gets them, and keeps them.

    ``fresh``: nothing of Kubernetes was ever made on it. Raises OSError.
    """
    try:
        document = json.loads(read_bounded(paths.defaults, _MAX_BYTES).decode())
        return bool(document["hardened"] is True)
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, KeyError, RecursionError):
        # Written at once and never again: what is damaged belonged to a node that had them.
        return True
    if fresh:
        text = json.dumps({"schema": SCHEMA, "hardened": True}) + "\n"
        write_atomic(paths.defaults, text.encode())
    return fresh
