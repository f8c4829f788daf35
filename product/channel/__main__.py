"""``python3 -m product.channel``: serve the command channel on this node.

Exit status 100 says that this boot was not offered the channel, which is no failure; 1 is one,
with its reason on standard error.
"""

from __future__ import annotations

import os
import signal
import sys

from product.channel import credential, port
from product.channel.command import DEFAULT_PATH
from product.channel.daemon import Daemon
from product.errors import KubesoloError

NOT_OFFERED = 100
USAGE = "usage: python3 -m product.channel [--device PATH]\n"


def main(arguments: list[str]) -> int:
    """Serve until a signal; returns the exit status where serving cannot start."""
    if arguments and (len(arguments) != 2 or arguments[0] != "--device"):
        sys.stderr.write(USAGE)
        return 2
    if not credential.offered():
        sys.stderr.write("the command channel was not offered to this boot\n")
        return NOT_OFFERED
    try:
        named = arguments[1] if arguments else credential.offered_line()
        descriptor = port.open_port(named or port.find())
    except KubesoloError as error:
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"hint: {error.hint}\n")
        return error.exit_code
    os.environ.setdefault("PATH", DEFAULT_PATH)
    os.chdir("/")
    signal.signal(signal.SIGTERM, _terminate)
    # The service starts it at the lowest priority, which commands must not inherit.
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    Daemon(descriptor).run()
    return 0


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
