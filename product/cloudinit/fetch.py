"""The service ``seed``: fetch a configuration that the firmware names by URL, and apply it.

The files come by the network, and stage 45 runs before there is one. So they are fetched once,
kept, applied by the same code, and the node reboots: what is new counts from the first stage on.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence

from product.agent.errors import AgentError, hide_logins
from product.agent.net.connections import Connections, TransientError
from product.agent.sources.exchange import new_connections, open_url
from product.agent.system import program
from product.agent.system.files import (
    make_directories,
    read_bounded,
    sync_directory,
    write_atomic,
)
from product.cloudinit.boot import Boot
from product.cloudinit.errors import CloudInitError
from product.cloudinit.sources import FETCHED, FILES, MAX_BYTES, URL_NAME, USER_DATA, Where

# Seconds between two tries: a node may have to wait for its site's network.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
_MISSING = (403, 404, 410)


def fetch(url: str, where: Where, connections: Connections) -> None:
    """Keep the files below ``url``; only user-data must be there.

    Raises CloudInitError where the server has none, or what it has cannot be one; AgentError where
    it cannot be reached.
    """
    folder = where.under(FETCHED)
    partial = f"{folder}.part"
    shutil.rmtree(partial, ignore_errors=True)
    make_directories(partial)
    os.chmod(partial, 0o700)
    for name in FILES:
        content = _get(connections, f"{url.rstrip('/')}/{name}")
        if content is not None:
            write_atomic(os.path.join(partial, name), content, mode=0o600)
        elif name == USER_DATA:
            raise CloudInitError(
                f"the seed {url} has no {USER_DATA}", hint="put it there; the node asks again"
            )
    write_atomic(os.path.join(partial, URL_NAME), f"{url}\n".encode(), mode=0o600)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)
    sync_directory(os.path.dirname(folder))


def _get(connections: Connections, url: str) -> bytes | None:
    response = open_url(connections, url)
    try:
        if response.status in _MISSING:
            return None
        if response.status != 200:
            raise TransientError(f"{url} answered {response.status}")
        content = bytearray()
        while chunk := response.read1(65536):
            content += chunk
            if len(content) > MAX_BYTES:
                raise CloudInitError(f"{url} has more than {MAX_BYTES} bytes")
    finally:
        response.close()
    return bytes(content)


def fetch_patiently(
    url: str,
    where: Where,
    say: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Try until it is done; the first failure, and any other one, is said."""
    wait, said = FIRST_PAUSE, None
    while True:
        try:
            with new_connections() as connections:
                fetch(url, where, connections)
            return
        except (CloudInitError, AgentError, OSError, ValueError) as error:
            text = hide_logins(str(error))
            if text != said:
                say(f"configuration: cannot fetch the seed yet: {text}")
            said = text
        pause(wait)
        wait = min(wait * 2, LONGEST_PAUSE)


def main(arguments: Sequence[str], where: Where | None = None) -> int:
    """``URL DISK ESP``; reboots where something was applied."""
    url, boot_disk, esp = arguments
    place = where or Where()

    def say(text: str) -> None:
        print(text, flush=True)

    fetch_patiently(url, place, say)
    found = Boot(place, boot_disk, esp).run()
    for line in [*found.lines, *(f"problem: {problem}" for problem in found.problems)]:
        say(line)
    if found.problems:
        # The server's files may be mended: the next boot fetches them again.
        shutil.rmtree(place.under(FETCHED), ignore_errors=True)
    if not found.fresh:
        return 0
    if not _is_kept(place):
        say("problem: applied to memory alone: there is no data partition, and no restart for it")
        return 0
    say("configuration: applied; the node restarts with it")
    program.require(["/sbin/reboot"])
    return 0


def _is_kept(where: Where) -> bool:
    """Whether what was applied is there after a restart; without that it would never end."""
    try:
        early = read_bounded(where.under("run/kubesolo/early"), 65536).decode(errors="replace")
    except (OSError, ValueError):
        return False
    return "data=persistent" in early.splitlines()
