"""What the service ``network`` calls, at its start and whenever a card came or went."""

from __future__ import annotations

from product.errors import KubesoloError
from product.netconf.effect import Effect, NetworkPaths, plan_for, say


def main(paths: NetworkPaths | None = None) -> int:
    """0 where all that is configured is in effect, else 1; what is not is on the console."""
    paths = paths or NetworkPaths()
    try:
        return 1 if Effect(paths).take(plan_for(paths)) else 0
    except KubesoloError as error:
        problem = error.message
    except OSError as error:
        problem = f"{error.filename or 'a file'}: {error.strerror or error}"
    say(paths, f"problem: network: {problem}")
    return 1
