"""A plan put into effect: which commands, what is recorded, what is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from product.netconf.cli import main
from product.netconf.effect import Effect, NetworkPaths, plan_for, say

ROUTE = "ip -4 route replace 198.51.100.0/24 via 10.9.9.9 dev eth0 metric 1002 proto static"


class Machine:
    """A node's files in a directory, and the programs that it would run."""

    def __init__(self, root: Path) -> None:
        self.paths = NetworkPaths(str(root))
        self.root = root
        self.ran: list[str] = []
        self.answers: dict[str, tuple[int, str]] = {}
        self.plug_in("eth0", "52:54:00:00:00:01", 2)
        Path(self.paths.console).parent.mkdir()
        Path(self.paths.console).touch()
        Path(self.paths.image_client).parent.mkdir(parents=True)
        Path(self.paths.image_client).write_text("noarp\nallowinterfaces eth*\n")

    def plug_in(self, name: str, mac: str, index: int) -> None:
        folder = Path(self.paths.sys, "class/net", name)
        (folder / "device").mkdir(parents=True)
        (folder / "address").write_text(f"{mac}\n")
        (folder / "ifindex").write_text(f"{index}\n")
        settings = Path(self.paths.settings, "ipv4/conf", name)
        settings.mkdir(parents=True)

    def configure(self, *interfaces: dict[str, object]) -> None:
        Path(self.paths.file).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema": 1, "interfaces": interfaces})
        Path(self.paths.file).write_text(text)

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        command = " ".join(argv)
        self.ran.append(command)
        return self.answers.get(command, (0, ""))

    def take(self) -> list[str]:
        return Effect(self.paths, self.run).take(plan_for(self.paths))

    @property
    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(Path(self.paths.state).read_text())
        return found

    @property
    def console(self) -> list[str]:
        return Path(self.paths.console).read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


STATIC: dict[str, object] = {
    "id": "eth0",
    "addresses": ["10.0.0.5/24"],
    "routes": [{"to": "198.51.100.0/24", "via": "10.9.9.9"}],
    "nameservers": {"addresses": ["10.0.0.1"], "search": ["site.example"]},
}


def test_a_static_address_is_set_recorded_and_said_once(machine: Machine) -> None:
    machine.configure(STATIC)
    assert machine.take() == []
    assert ROUTE in machine.ran
    assert machine.ran[-1] == f"sv -w 7 down {machine.paths.service}"
    assert machine.state["interfaces"] == {"eth0": {"kind": "ethernet", "mode": "static"}}
    assert Path(machine.paths.dns, "0-0000-eth0").read_text() == (
        "nameserver 10.0.0.1\nsearch site.example\n"
    )
    setting = "ipv4/conf/eth0/ignore_routes_with_linkdown"
    assert Path(machine.paths.settings, setting).read_text() == "1\n"
    machine.take()
    assert machine.console == ["kubesolo: network eth0 10.0.0.5"]


def test_a_route_that_cannot_be_set_is_named_and_the_rest_is_done(machine: Machine) -> None:
    machine.configure(STATIC)
    machine.answers[ROUTE] = (2, "Error: Nexthop has invalid gateway.")
    problem = (
        "eth0: the route to 198.51.100.0/24 via 10.9.9.9 cannot be set: Nexthop has invalid gateway"
    )
    for _ in range(2):
        assert machine.take() == [problem]
    assert machine.state["problems"] == [problem]
    assert machine.console.count(f"kubesolo: problem: network: {problem}") == 1


def test_a_route_of_an_interface_that_asks_waits_for_its_lease(machine: Machine) -> None:
    machine.configure({**STATIC, "addresses": [], "dhcp4": True})
    machine.answers[ROUTE] = (2, "Error: Nexthop has invalid gateway.")
    assert machine.take() == []
    assert ROUTE not in machine.ran
    assert Path(machine.paths.waiting).exists()
    Path(machine.paths.dns, "1-00001002-eth0.4").touch()
    (problem,) = machine.take()
    assert "cannot be set" in problem
    assert not Path(machine.paths.waiting).exists()


def test_the_client_is_started_anew_only_for_another_file(machine: Machine) -> None:
    machine.configure({"id": "eth0", "dhcp4": True, "accept_ra": False})
    machine.take()
    assert Path(machine.paths.client).read_text() == (
        "noarp\nallowinterfaces eth0\ninterface eth0\n    noipv6\n"
    )
    machine.take()
    machine.configure({"id": "eth0", "dhcp4": True})
    machine.take()
    orders = [command.split()[3] for command in machine.ran if command.startswith("sv ")]
    assert orders == ["restart", "up", "restart"]


def test_a_card_that_no_longer_asks_loses_what_it_was_given(machine: Machine) -> None:
    machine.configure({"id": "later", "match": {"name": "eth1"}, "dhcp4": True})
    machine.take()
    assert machine.state["fallback"] is True
    for folder in (machine.paths.dns, machine.paths.ntp):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, "1-00001002-eth0.4").write_text("nameserver 10.0.2.3\n")
    machine.plug_in("eth1", "52:54:00:00:00:02", 3)
    machine.ran.clear()
    assert machine.take() == []
    assert "ip addr flush dev eth0 scope global" in machine.ran
    assert list(Path(machine.paths.dns).iterdir()) == []
    assert machine.state["fallback"] is False
    assert machine.state["problems"] == []


def test_an_address_that_is_no_longer_configured_is_taken_away(machine: Machine) -> None:
    machine.configure(STATIC)
    machine.take()
    machine.configure({**STATIC, "addresses": ["10.0.0.6/24"]})
    machine.take()
    assert "ip addr del 10.0.0.5/24 dev eth0" in machine.ran
    assert machine.console[-1] == "kubesolo: network eth0 10.0.0.6"


def test_a_file_that_cannot_be_used_leaves_dhcp(machine: Machine) -> None:
    Path(machine.paths.file).parent.mkdir(parents=True)
    Path(machine.paths.file).write_text("{")
    (problem,) = machine.take()
    assert problem.startswith(f"{machine.paths.file}: it is no JSON")
    assert problem.endswith("DHCP is asked on every card")
    assert "allowinterfaces eth0" in Path(machine.paths.client).read_text()


def test_a_supervisor_that_is_only_starting_is_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.configure({"id": "eth0", "dhcp4": True})
    order = f"sv -w 7 restart {machine.paths.service}"
    machine.answers[order] = (1, "file does not exist")
    monkeypatch.setattr("time.sleep", lambda seconds: machine.answers.clear())
    assert machine.take() == []
    assert machine.ran.count(order) == 2


def test_what_ends_it_is_one_line(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    Path(machine.paths.run).parent.mkdir(parents=True)
    Path(machine.paths.run).write_text("a file")
    assert main(machine.paths) == 1
    assert machine.console[0].startswith("kubesolo: problem: network: ")
    assert "Traceback" not in machine.console[0]


def test_a_name_that_no_console_can_show_is_said_all_the_same(machine: Machine) -> None:
    machine.configure({"id": "eth0", "match": {"name": "\ud800"}, "dhcp4": True})
    machine.take()
    assert "surrogates not allowed" in "\n".join(machine.console)
    say(machine.paths, "\ud800")
    assert machine.console[-1] == "kubesolo: \\ud800"
