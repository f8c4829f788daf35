"""Serving pods that want the agent: files in ``/var/lib/kubesolo/requests``.

A pod that has only this directory writes ``NAME.request``, one JSON object with ``action`` (check,
apply, healthcheck) and perhaps ``server``; it reads ``NAME.reply``: ``exit`` as the agent's command
line exits, ``outcome``, ``text``. It may not be trusted: whatever it leaves here is read bounded,
never followed, and removed. What a release must prove is not its to say: gates and signatures are
the agent's own. The directory is a small tmpfs, so that no request outlives the boot that it leads
to.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from product.agent.config import load_config
from product.agent.errors import (
    EXIT_AVAILABLE,
    EXIT_BUSY,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_USAGE,
    AgentError,
)
from product.agent.node import Node
from product.errors import KubesoloError

ACTIONS = ("check", "apply", "healthcheck")
OUTCOMES = {
    EXIT_DONE: "done",
    EXIT_FAILED: "failed",
    EXIT_USAGE: "invalid",
    EXIT_AVAILABLE: "available",
    EXIT_REFUSED: "refused",
    EXIT_BUSY: "busy",
}
MAX_BYTES = 4096
MAX_TEXT = 2000
# A round serves no more; the directory itself is bounded by its file system.
MAX_SERVED = 64
# What a pod that ended early left behind goes after this many seconds.
STALE = 3600
# How long a pod has to take its answer before the node reboots: seconds, looked at each tenth.
TAKEN_WITHIN = 10.0
_NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,62})\.request")
_SERVER = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?")


class RequestError(AgentError):
    """A request that is not one."""

    code = "bad-request"
    exit_code = EXIT_USAGE


class Request(NamedTuple):
    """``server`` is None where the node's own configuration counts."""

    action: str
    server: str | None


class Reply(NamedTuple):
    """``exit`` is an exit code of kubesolo-update."""

    exit: int
    outcome: str
    text: str


class Desk:
    """The directory, held open: names are looked up in it and nowhere else."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def waiting(self) -> list[str]:
        """Requests by file name, the oldest first; what can be none of ours is removed."""
        found: list[tuple[int, str]] = []
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                try:
                    status = os.lstat(entry.name, dir_fd=self._descriptor)
                except OSError:
                    continue
                if _NAME.fullmatch(entry.name):
                    found.append((status.st_mtime_ns, entry.name))
                elif entry.name.endswith(".request"):
                    print(f"removed {entry.name!r}: no name of a request", flush=True)
                    self.remove(entry.name)
        return [name for _, name in sorted(found)[:MAX_SERVED]]

    def sweep(self, now: float) -> None:
        """Remove what nobody waits for any more."""
        for name in os.listdir(self._descriptor):
            try:
                old = os.lstat(name, dir_fd=self._descriptor).st_mtime < now - STALE
            except OSError:
                continue
            if old and not name.endswith(".request"):
                self.remove(name)

    def take(self, file: str) -> Request:
        """Read a request and remove it, so that it is served once. Raises RequestError."""
        try:
            data = self._read(file)
        finally:
            self.remove(file)
        try:
            document = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the request is not JSON: {error}") from None
        return _parse(document)

    def reply(self, name: str, reply: Reply, owner: tuple[int, int]) -> None:
        """Leave ``NAME.reply``, whole or not at all. Raises OSError."""
        document = {**reply._asdict(), "text": _plain(reply.text)}
        # One key a line: the pod's end reads it with sed.
        data = (json.dumps(document, indent=1) + "\n").encode()
        temporary = f".reply-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o640, dir_fd=self._descriptor)
        try:
            try:
                os.write(descriptor, data)
                os.fchown(descriptor, *owner)
            finally:
                os.close(descriptor)
            target = f"{name}.reply"
            self.remove(target)
            here = self._descriptor
            os.rename(temporary, target, src_dir_fd=here, dst_dir_fd=here)
        except OSError:
            self.remove(temporary)
            raise

    def owner(self, name: str) -> tuple[int, int]:
        """User and group of an entry; root's where it is gone."""
        try:
            status = os.lstat(name, dir_fd=self._descriptor)
        except OSError:
            return 0, 0
        return status.st_uid, status.st_gid

    def holds(self, name: str) -> bool:
        """Whether an entry of that name is there."""
        try:
            os.lstat(name, dir_fd=self._descriptor)
        except OSError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove an entry, whatever it is, following nothing."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except IsADirectoryError:
            import shutil

            shutil.rmtree(name, ignore_errors=True, dir_fd=self._descriptor)
        except OSError:
            return

    def _read(self, file: str) -> bytes:
        # Without O_NONBLOCK a named pipe would be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(file, flags, dir_fd=self._descriptor)
        except OSError as error:
            raise RequestError(f"the request cannot be read: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RequestError("the request is no regular file")
            data = os.read(descriptor, MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > MAX_BYTES:
            raise RequestError(f"the request is larger than {MAX_BYTES} bytes")
        return data


@contextmanager
def opened(path: str) -> Iterator[Desk]:
    """The directory at ``path``. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        yield Desk(descriptor)
    finally:
        os.close(descriptor)


def _parse(document: object) -> Request:
    if not isinstance(document, dict):
        raise RequestError("the request is no JSON object")
    unknown = sorted(set(document) - {"action", "server"})
    if unknown:
        raise RequestError(f"the request has an unknown key {unknown[0]!r}")
    action = document.get("action")
    if action not in ACTIONS:
        raise RequestError(f"the action is {action!r}, there are: {', '.join(ACTIONS)}")
    server = document.get("server")
    if server is not None and not (
        isinstance(server, str) and len(server) <= 512 and _SERVER.fullmatch(server)
    ):
        raise RequestError("the server is no http or https address")
    return Request(str(action), server)


def serve(node: Node, path: str) -> int:
    """Serve what waits at ``path``, one request after the other; how many those were."""
    served = 0
    with opened(path) as desk:
        desk.sweep(node.clock.now())
        for file in desk.waiting():
            _serve_one(node, desk, file)
            served += 1
    return served


def _serve_one(node: Node, desk: Desk, file: str) -> None:
    name = file.removesuffix(".request")
    owner = desk.owner(file)
    reboot = False
    try:
        request = desk.take(file)
        print(f"{name}: {request.action} {request.server or ''}".rstrip(), flush=True)
        reply, reboot = _perform(node, request)
    except KubesoloError as error:
        reply = Reply(error.exit_code, OUTCOMES.get(error.exit_code, "failed"), error.message)
    except Exception as error:
        # The pod is told, and the next one is served.
        reply = Reply(EXIT_FAILED, "failed", f"the agent failed: {type(error).__name__}: {error}")
    print(f"{name}: {reply.outcome} ({reply.exit}) {_plain(reply.text)}", flush=True)
    try:
        desk.reply(name, reply, owner)
    except OSError as error:
        print(f"{name}: the reply cannot be written: {error.strerror}", flush=True)
    if reboot:
        _reboot(node, desk, name)


def _perform(node: Node, request: Request) -> tuple[Reply, bool]:
    """Do what was asked; the reply, and whether the node is to reboot after it."""
    from product.agent.gates import (
        LABEL_GATE,
        WINDOW_GATE,
        GateContext,
        ask,
        describe_bypassed,
        require,
    )
    from product.agent.record import Record
    from product.agent.state import Phase

    flags = ["--server", request.server] if request.server else []
    if request.action != "apply":
        code, output, errors = _command(node, [request.action, *flags])
        return _reply(code, output + errors), False
    state = Record(node).state
    if state.phase is Phase.ACTIVATED:
        # The node did not reboot after an earlier request, because the window had closed, say.
        staged = {
            "staged": state.to_version,
            "slot": state.to_slot,
            "bypassed": state.bypassed,
        }
    else:
        code, output, errors = _command(node, ["apply", "--json", *flags])
        if code != EXIT_DONE:
            return _reply(code, errors), False
        staged = json.loads(output)
        if staged["staged"] is None:
            return _reply(code, f"{staged['version']} is up to date"), False
    # As ``activate --reboot`` would, but the pod is to hear of it before the reboot.
    # The gates were asked before a download that may have taken hours, or at another request.
    context = GateContext(node, load_config(node.paths.config), force=False)
    verdicts = ask((WINDOW_GATE, LABEL_GATE), context)
    require(verdicts)
    code, _, errors = _command(node, ["activate"])
    if code != EXIT_DONE:
        return _reply(code, errors), False
    text = f"{staged['staged']} is staged in slot {staged['slot']}; the node reboots into it"
    if bypassed := describe_bypassed(verdicts) or staged["bypassed"]:
        text += f"; bypassed {bypassed}"
    return Reply(EXIT_DONE, "rebooting", text), True


def _command(node: Node, argv: list[str]) -> tuple[int, str, str]:
    """Run a command of kubesolo-update; its exit code, and what it printed to either side."""
    from contextlib import redirect_stderr, redirect_stdout

    from product.agent.cli import main

    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main(argv, node)
    return code, output.getvalue(), errors.getvalue()


def _reply(code: int, text: str) -> Reply:
    return Reply(code, OUTCOMES.get(code, "failed"), text.strip())


def _plain(text: str) -> str:
    """The end of ``text`` in characters that any terminal and sed take."""
    kept = "".join(c if " " <= c <= "~" or c == "\n" else "?" for c in text.strip())
    return kept[-MAX_TEXT:]


def _reboot(node: Node, desk: Desk, name: str) -> None:
    """Let the pod take its reply, then reboot as ``activate --reboot`` does."""
    waited = 0.0
    while desk.holds(f"{name}.reply") and waited < TAKEN_WITHIN:
        node.clock.pause(0.1)
        waited += 0.1
    code, _, errors = _command(node, ["activate", "--reboot"])
    # The window has closed or a label was set meanwhile: the slot is tried at the next reboot.
    print(f"{name}: not rebooted ({code}): {_plain(errors)}", flush=True)


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
