"""Whether the release that runs may still be given up for the one in the other slot."""

from __future__ import annotations

import json

from product.node.paths import NodePaths


def is_on_trial(paths: NodePaths) -> bool:
    """Whether this boot spends one of the boot loader's tries and was not confirmed since."""
    try:
        with open(paths.early, encoding="ascii") as file:
            lines = file.read().split("\n")
    except (OSError, ValueError):
        return False
    # Without an environment there is no other slot to go back to.
    if "confirmed=0" not in lines or "env=ok" not in lines:
        return False
    try:
        with open(paths.report, encoding="utf-8") as report:
            return json.load(report)["confirmed"] is not True
    except (OSError, ValueError, TypeError, KeyError):
        return True
