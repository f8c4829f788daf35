"""The schedule of a node that nobody asks: install what is offered, every so many minutes.

The service ``updates`` asks for the next look with ``next``, sleeps, and calls ``run``. A node's
looks are shifted by its identity, so that the nodes of one source do not all ask at once.
"""

from __future__ import annotations

import os
import sys
from binascii import crc32
from collections.abc import Sequence
from contextlib import suppress
from math import ceil

from product.agent.config import Config, load_config
from product.agent.errors import EXIT_DONE, EXIT_FAILED
from product.agent.node import Node
from product.agent.system.files import write_atomic
from product.agent.system.identity import node_identity
from product.agent.system.zone import window_unknown
from product.agent.window import next_opening, window_is_open
from product.errors import KubesoloError

# A node that boots settles first: seconds.
FIRST_SECONDS = 15 * 60
# The share of the interval within which nodes are shifted, where no jitter is set.
SHIFT = 10
# Within how many seconds of a window's opening nodes are shifted.
WINDOW_SHIFT = 300


def seconds_until(config: Config, identity: str, *, first: bool) -> int | None:
    """How long to sleep before the next look; None where no schedule is set."""
    interval = config.check_interval * 60
    if not interval or not config.source:
        return None
    jitter = config.check_jitter
    shift = interval // SHIFT if jitter is None else jitter * 60
    own = crc32(identity.encode()) % shift if shift else 0
    return (min(interval, FIRST_SECONDS) if first else interval) + (own if first else 0)


def into_window(node: Node, config: Config, identity: str, seconds: int) -> int:
    """The same, or longer: until the maintenance window is open, which the gate asks for.

    Nodes that wait for the same window are shifted, too. A window that is not known, or never
    opens, changes nothing: the gate says so at each look.
    """
    clock, window = node.clock, config.maintenance_window
    look = clock.now() + seconds
    if not window or window_unknown(node.paths, config):
        return seconds
    opens = next_opening(window, look, clock.local_minute)
    if opens is None or opens <= look:
        return seconds
    shifted = opens + crc32(identity.encode()) % WINDOW_SHIFT
    if not window_is_open(window, clock.local_minute(shifted)):
        shifted = opens
    # Not a moment before it opens.
    return ceil(shifted - clock.now())


def run(node: Node, config: Config) -> int:
    """One look: install what is offered, and reboot into it. The exit code of ``apply``."""
    from product.agent.services.unattended import stage_and_arm
    from product.agent.update.operations import activate_release

    config.require_usable()
    armed = stage_and_arm(node, config, _log)
    if isinstance(armed, str):
        _log(armed)
        return EXIT_DONE
    node.print_console(
        f"kubesolo-update: {armed.version} is staged in slot {armed.slot}: rebooting"
    )
    activate_release(node, load_config(node.paths.config, {}), say=_log, reboot=True)
    return EXIT_DONE


def main(arguments: Sequence[str], node: Node | None = None) -> int:
    """``next FIRST``: print the seconds, or ``never``; ``run``."""
    node = node or Node()
    config = load_config(node.paths.config)
    if arguments and arguments[0] == "next":
        identity = node_identity(node.paths)
        seconds = seconds_until(config, identity, first=arguments[1:] == ["first"])
        if seconds is not None:
            seconds = into_window(node, config, identity, seconds)
        _keep_next(node, seconds)
        print("never" if seconds is None else seconds)
        return EXIT_DONE
    try:
        return run(node, config)
    except KubesoloError as error:
        # A gate that refuses, or a server that does not answer, is the usual case.
        _log(f"{error.message}" + (f"; {error.hint}" if error.hint else ""))
        return error.exit_code
    except OSError as error:
        print(f"error: the look for updates failed: {error}", file=sys.stderr)
        return EXIT_FAILED


def _keep_next(node: Node, seconds: int | None) -> None:
    """For ``status``; a look does not hang on it."""
    path = node.paths.next_check
    with suppress(OSError):
        if seconds is None:
            os.unlink(path)
        else:
            write_atomic(path, f"{int(node.clock.now()) + seconds}\n".encode(), mode=0o644)


def _log(text: str) -> None:
    print(text, flush=True)
