"""Serving pods that want the agent: files in ``/var/lib/kubesolo/requests``.

A pod that has only this directory writes ``NAME.request``, one JSON object with ``action`` (check,
apply, healthcheck) and perhaps ``server``, or ``registry`` and ``tag``; it reads ``NAME.reply``:
``exit`` as the agent's command line exits, ``outcome``, ``text``. It may not be trusted: whatever
it leaves here is read bounded, never followed, and removed. What a release must prove is not its to
say: gates and signatures are the agent's own. The directory is a small tmpfs, so that no request
outlives the boot that it leads to.
"""

from __future__ import annotations

import sys

from product.agent.config import Config, load_config
from product.agent.errors import (
    EXIT_AVAILABLE,
    EXIT_BUSY,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_USAGE,
    hide_logins,
)
from product.agent.node import Node
from product.agent.services.request_directory import Reply, Request, RequestDirectory, opened, plain
from product.errors import KubesoloError

OUTCOMES = {
    EXIT_DONE: "done",
    EXIT_FAILED: "failed",
    EXIT_USAGE: "invalid",
    EXIT_AVAILABLE: "available",
    EXIT_REFUSED: "refused",
    EXIT_BUSY: "busy",
}
# How long a pod has to take its answer before the node reboots: seconds, looked at each tenth.
TAKEN_WITHIN = 10.0


def serve(node: Node, path: str) -> int:
    """Serve what waits at ``path``, one request after the other; how many those were."""
    served = 0
    with opened(path) as directory:
        directory.sweep(node.clock.now())
        for file in directory.waiting():
            _serve_one(node, directory, file)
            served += 1
    return served


def _serve_one(node: Node, directory: RequestDirectory, file: str) -> None:
    name = file.removesuffix(".request")
    owner = directory.owner(file)
    reboot = False
    try:
        request = directory.take(file)
        print(
            f"{name}: {request.action} {request.server or request.registry or ''}".rstrip(),
            flush=True,
        )
        reply, reboot = _perform(node, request)
    except KubesoloError as error:
        code = error.exit_code or EXIT_FAILED
        hint = f"\nhint: {error.hint}" if error.hint else ""
        reply = _reply(code, f"{error.message}{hint}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reply = _reply(EXIT_FAILED, f"{error.strerror or error}{where}")
    except Exception as error:
        # The pod is told, and the next one is served.
        reply = Reply(EXIT_FAILED, "failed", f"the agent failed: {type(error).__name__}: {error}")
    reply = reply._replace(text=hide_logins(reply.text))
    print(f"{name}: {reply.outcome} ({reply.exit}) {plain(reply.text)}", flush=True)
    try:
        directory.reply(name, reply, owner)
    except OSError as error:
        print(f"{name}: the reply cannot be written: {error.strerror}", flush=True)
    if reboot:
        _reboot(node, directory, name)


def _perform(node: Node, request: Request) -> tuple[Reply, bool]:
    """Do what was asked; the reply, and whether the node is to reboot after it.

    Raises KubesoloError and OSError, as the operations do.
    """
    named = {"server": request.server, "registry": request.registry, "tag": request.tag}
    config = load_config(node.paths.config, named, server_from_pod=request.names_source)
    for note in config.unknown:
        _log(f"note: {note}")
    if request.action == "check":
        from product.agent.update.operations import check_for_release

        checked = check_for_release(node, config)
        return _reply(checked.exit_code, checked.as_text()), False
    if request.action == "healthcheck":
        from product.agent.health.runner import check_health

        health = check_health(node, config)
        return _reply(health.exit_code, health.as_text()), False
    return _apply(node, config)


def _apply(node: Node, config: Config) -> tuple[Reply, bool]:
    """Stage the channel's release and arm it. The pod is to hear of it before the reboot."""
    from product.agent.services.unattended import stage_and_arm

    armed = stage_and_arm(node, config, _log)
    if isinstance(armed, str):
        return _reply(EXIT_DONE, armed), False
    text = f"{armed.version} is staged in slot {armed.slot}; the node reboots into it"
    if armed.bypassed:
        text += f"; bypassed {armed.bypassed}"
    return Reply(EXIT_DONE, "rebooting", text), True


def _reply(code: int, text: str) -> Reply:
    return Reply(code, OUTCOMES.get(code, "failed"), text.strip())


def _log(text: str) -> None:
    print(text, flush=True)


def _reboot(node: Node, directory: RequestDirectory, name: str) -> None:
    """Let the pod take its reply, then reboot as ``activate --reboot`` does."""
    from product.agent.update.operations import activate_release

    waited = 0.0
    while directory.holds(f"{name}.reply") and waited < TAKEN_WITHIN:
        node.clock.pause(0.1)
        waited += 0.1
    try:
        activate_release(node, load_config(node.paths.config, {}), say=_log, reboot=True)
    except (KubesoloError, OSError) as error:
        # The window has closed or a label was set meanwhile: the slot is tried at the next reboot.
        print(f"{name}: not rebooted: {plain(str(error))}", flush=True)


def main(node: Node | None = None) -> int:
    """Serve what waits; what the service runs when there is something."""
    node = node or Node()
    path = f"{node.paths.data}/requests"
    try:
        serve(node, path)
    except OSError as error:
        print(f"error: cannot serve {path}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE
