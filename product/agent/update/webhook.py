"""Telling a server of each step of an update: a POST of one JSON object to ``webhook_url``.

Keys: ``schema`` (1), ``event`` (transition), ``node`` (the host's name), ``identity`` (see
product.agent.system.identity), ``time`` (ISO 8601, UTC), ``version`` (that runs), ``from`` and
``phase`` (of the state file), ``from_version``, ``to_version``, ``reason`` (its ``last_error``,
without logins). Absent values are null.

A process of its own sends it and tries again for ``SECONDS``, so that no server keeps an update
waiting. Nothing is sent twice on purpose, and a reboot may lose what was not sent: who must know
all of it reads the history. No redirect is followed.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import NoReturn

from product.agent.config import Config, load_config
from product.agent.errors import AgentError, hide_logins
from product.agent.node import Node
from product.agent.records.state import Phase, UpdateState
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded

SCHEMA = 1
# From the first try to the last, a boot's network being up by then; one try; between two.
SECONDS = 60
TRY_SECONDS = 10
PAUSE_SECONDS = 3


def tell(node: Node, before: Phase, state: UpdateState) -> str | None:
    """Send the step if a server is configured; why nothing can be sent, or None."""
    config = load_config(node.paths.config)
    url = config.webhook_url
    if not url:
        return None
    try:
        body = json.dumps(_document(node, before, state)).encode()
        _send(url, body, config)
    except (AgentError, OSError) as error:
        return f"the webhook is not told of {state.phase}: {error}"
    return None


def _document(node: Node, before: Phase, state: UpdateState) -> dict[str, object]:
    from product.agent.system.identity import node_identity

    try:
        name = read_bounded(node.paths.hostname, 256).decode(errors="replace").strip()
    except (OSError, ValueError):
        name = ""
    return {
        "schema": SCHEMA,
        "event": "transition",
        "node": name or None,
        "identity": node_identity(node.paths),
        "time": timestamp(node.clock.now()),
        "version": node.release.version,
        "from": before,
        "phase": state.phase,
        "from_version": state.from_version,
        "to_version": state.to_version,
        "reason": hide_logins(state.last_error) if state.last_error else None,
    }


def _send(url: str, body: bytes, config: Config) -> None:
    """In a grandchild, which nobody waits for and which holds nothing of the agent's, the lock
    among it. Raises OSError where there can be no child."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if not os.fork():
            _post_until_taken(url, body, config)
    finally:
        os._exit(0)


def _post_until_taken(url: str, body: bytes, config: Config) -> NoReturn:
    import signal

    try:
        # It ends the process wherever that waits.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        while True:
            with suppress(Exception):
                if _post(url, body, config) < 500:
                    break
            time.sleep(PAUSE_SECONDS)
    finally:
        os._exit(0)


def _post(url: str, body: bytes, config: Config) -> int:
    """The status of one POST. Raises AgentError."""
    from product.agent.net.access import access_for
    from product.agent.net.connections import Connections

    headers = {"Content-Type": "application/json", "User-Agent": "kubesolo-update"}
    # Proxy and authorities are the network's; the login is the release server's.
    access = access_for(config._replace(bearer_token=None))
    if access is not None:
        access = access._replace(login=None, home=None)
    with Connections(connect=TRY_SECONDS, silence=TRY_SECONDS, access=access) as connections:
        response = connections.post(url, headers, body, time.monotonic() + TRY_SECONDS)
        response.close()
        return response.status
