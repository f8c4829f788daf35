"""Putting a plan into effect, and recording it for the status.

``/run/kubesolo/network/state.json``: ``schema`` 1, ``fallback``, ``interfaces`` (name to ``kind``
and ``mode``, see product.netconf.plan) and ``problems``, those of the present alone: a card that
turns up later solves its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from product.agent.errors import AgentError
from product.agent.system import program
from product.netconf.cards import index_of, read_cards, read_names
from product.netconf.client import allowed, render
from product.netconf.document import read_configured
from product.netconf.errors import NetworkFileError
from product.netconf.plan import FILE, Plan, PlannedRoute, Servers, Step, fall_back, make_plan

Run = Callable[[Sequence[str]], tuple[int, str]]
# How long the supervisor of a service may take to be there.
SUPERVISED_SECONDS = 10.0


class NetworkPaths:
    """Where things lie; ``root`` moves all of them, which is how tests run."""

    def __init__(self, root: str = "/") -> None:
        base = root.rstrip("/")
        self.file = f"{base}{FILE}"
        self.sys = f"{base}/sys"
        self.settings = f"{base}/proc/sys/net"
        self.console = f"{base}/dev/console"
        self.image_client = f"{base}/usr/lib/kubesolo/dhcpcd.conf"
        self.name_servers = f"{base}/usr/lib/kubesolo/name-servers"
        self.run = f"{base}/run/kubesolo/network"
        self.client = f"{self.run}/dhcpcd.conf"
        self.dns = f"{self.run}/dns"
        self.ntp = f"{self.run}/ntp"
        self.state = f"{self.run}/state.json"
        self.waiting = f"{self.run}/waiting"
        self.service = f"{base}/run/service/dhcp"


def plan_for(paths: NetworkPaths) -> Plan:
    """What the file asks for, of the cards that there are now."""
    cards = read_cards(paths.sys)
    try:
        configured = read_configured(paths.file)
    except NetworkFileError as error:
        return fall_back(cards, f"{error.message}: DHCP is asked on every card")
    if configured is None:
        return fall_back(cards)
    return make_plan(configured, cards, read_names(paths.sys))


class Effect:
    """One plan on its way to the kernel."""

    def __init__(self, paths: NetworkPaths, run: Run = program.run) -> None:
        self._paths = paths
        self._run = run
        self._problems: list[str] = []

    def take(self, plan: Plan) -> list[str]:
        """Do all of it, whatever of it fails; the problems."""
        paths = self._paths
        os.makedirs(paths.run, exist_ok=True)
        before = _state(paths)
        self._problems = list(plan.problems)
        said = before.get("static")
        known = {tuple(one) for one in said} if isinstance(said, list) else set()
        self._leave(plan)
        for name, address in sorted(known.difference(plan.static)):
            self._run(["ip", "addr", "del", address, "dev", name])
        self._do(plan.make)
        for path, value in plan.settings:
            self._set(f"{paths.settings}/{path}", value)
        self._do(plan.switch_on)
        self._do(plan.addresses)
        self._do(one.step(index_of(one.interface, paths.sys)) for one in self._due(plan))
        self._name_servers(plan.servers)
        self._client(plan)
        for name, address in plan.static:
            if (name, address) not in known:
                say(paths, f"network {name} {address.partition('/')[0]}")
        told = before.get("problems")
        for problem in self._problems:
            if not isinstance(told, list) or problem not in told:
                say(paths, f"problem: network: {problem}")
        self._record(plan)
        return self._problems

    def _do(self, steps: Iterable[Step]) -> None:
        for step in steps:
            try:
                status, output = self._run(step.argv)
            except AgentError as error:
                status, output = 1, error.message
            if status != 0:
                text = " ".join(output.split()).removeprefix("Error: ").rstrip(".")
                self._problems.append(f"{step.what} cannot be set: {text or f'exit {status}'}")

    def _due(self, plan: Plan) -> list[PlannedRoute]:
        """The routes that can be set by now: those of an interface that asks wait for its lease,
        with which the client's script has all of this done again."""
        asking = {one.interface for one in plan.asked}
        told = [name.partition("-")[2].partition("-")[2] for name in _entries(self._paths.dns)]
        leased = {name.rpartition(".")[0] for name in told}
        late = [one for one in plan.routes if one.interface in asking - leased]
        with suppress(FileNotFoundError):
            os.unlink(self._paths.waiting)
        if late:
            _write(self._paths.waiting, "")
        return [one for one in plan.routes if one not in late]

    def _set(self, path: str, value: str) -> None:
        # A kernel without IPv6, or an interface that could not be made, which is said elsewhere.
        with suppress(OSError), open(path, "w") as file:
            file.write(f"{value}\n")

    def _leave(self, plan: Plan) -> None:
        """Interfaces that no longer ask lose what they were given."""
        asking = {one.interface for one in plan.asked}
        for name in allowed(_text(self._paths.client)):
            if name in asking:
                continue
            if os.path.exists(f"{self._paths.sys}/class/net/{name}"):
                self._run(["ip", "addr", "flush", "dev", name, "scope", "global"])
            for folder in (self._paths.dns, self._paths.ntp):
                for file in _entries(folder):
                    if file.startswith("1-") and f"-{name}." in file:
                        os.unlink(f"{folder}/{file}")

    def _name_servers(self, wanted: Sequence[Servers]) -> None:
        folder = self._paths.dns
        os.makedirs(folder, exist_ok=True)
        for file in _entries(folder):
            if file.startswith("0-"):
                os.unlink(f"{folder}/{file}")
        for number, one in enumerate(wanted):
            lines = [f"nameserver {server}" for server in one.servers]
            if one.search:
                lines.append("search " + " ".join(one.search))
            _write(f"{folder}/0-{number:04}-{one.interface}", "\n".join(lines) + "\n")
        self._run(["sh", "-c", '. "$0"; set_name_servers', self._paths.name_servers])

    def _client(self, plan: Plan) -> None:
        paths = self._paths
        if not plan.asked:
            # Without a card, or for one that has nothing to ask.
            with suppress(FileNotFoundError):
                os.unlink(paths.client)
            self._supervisor("down")
            return
        text = render(_text(paths.image_client), plan.asked)
        changed = text != _text(paths.client)
        if changed:
            _write(paths.client, text)
        self._supervisor("restart" if changed else "up")

    def _supervisor(self, order: str) -> None:
        """Its own supervisor may only be starting, at boot."""
        end = time.monotonic() + SUPERVISED_SECONDS
        while True:
            status, output = self._run(["sv", "-w", "7", order, self._paths.service])
            if status == 0:
                return
            if time.monotonic() >= end:
                self._problems.append(f"the DHCP client cannot be started ({order}): {output}")
                return
            time.sleep(0.2)

    def _record(self, plan: Plan) -> None:
        document = {
            "schema": 1,
            "fallback": plan.fallback,
            "interfaces": {
                name: {"kind": plan.kinds[name], "mode": mode} for name, mode in plan.modes.items()
            },
            "static": [list(one) for one in plan.static],
            "problems": self._problems,
        }
        _write(self._paths.state, json.dumps(document, indent=1) + "\n")


def say(paths: NetworkPaths, text: str) -> None:
    """One line for whoever watches the console; nothing depends on its being seen."""
    with suppress(OSError), open(paths.console, "a", errors="backslashreplace") as console:
        console.write(f"kubesolo: {text}\n")


def _state(paths: NetworkPaths) -> dict[str, object]:
    try:
        document = json.loads(_text(paths.state) or "{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _write(path: str, text: str) -> None:
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
