"""The service network and what udhcpc calls: the image's scripts, under this host's shell.

Paths of the node are moved into a directory; the programs that the scripts call are stand-ins on
PATH, and write down how they were called. A second of the service takes 20 ms.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OVERLAY = Path(__file__).resolve().parents[3] / "images/overlay/usr/lib/kubesolo"
SECONDS = 20.0


class Machine:
    """Interfaces as sysfs shows them, and the scripts' doings."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        self.log.touch()
        (root / "bin").mkdir()
        (root / "console").touch()
        (root / "lib.sh").write_text(f'say() {{ echo "say $*" >> {root}/log; }}\n')
        self.program("ip", f'echo "ip $*" >> {root}/log')
        self.program("udhcpc", f'echo "udhcpc $*" >> {root}/log; exec /bin/sleep 60')
        self.program("chpst", '[ "$1:$2" = -n:19 ] && shift 2 && exec "$@"')
        self.program("sleep", "exec /bin/sleep 0.02")
        self.program("python3", 'echo "eth1 (e1000e, 52:54): no link"')

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def plug_in(self, name: str, *, index: int = 2, carrier: int | None = 1) -> Path:
        folder = self.root / "sys/class/net" / name
        (folder / "device").mkdir(parents=True, exist_ok=True)
        (folder / "ifindex").write_text(f"{index}\n")
        if carrier is not None:
            (folder / "carrier").write_text(f"{carrier}\n")
        return folder

    def script(self, path: str) -> str:
        text = (OVERLAY / path).read_text()
        text = text.replace("/usr/lib/kubesolo/lib.sh", f"{self.root}/lib.sh")
        text = text.replace("/sys/class", f"{self.root}/sys/class")
        text = text.replace("/run/", f"{self.root}/run/")
        return text.replace("> /dev/console", f">> {self.root}/console")

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def asked_on(self) -> list[str]:
        """Interfaces in the order in which clients were begun on them."""
        calls = [line.split() for line in self.lines if line.startswith("udhcpc ")]
        return [words[words.index("-i") + 1] for words in calls]

    def lease(self, event: str, interface: str, **variables: str) -> None:
        """udhcpc calls the script."""
        (self.root / "run").mkdir(exist_ok=True)
        environment = {**self.environment, "interface": interface, **variables}
        command = ["/bin/sh", "-c", self.script("dhcp"), "dhcp", event]
        # Its status is nobody's concern.
        subprocess.run(command, check=False, timeout=SECONDS, env=environment)

    @property
    def resolvers(self) -> list[str]:
        return (self.root / "run/resolv.conf").read_text().split()[1::2]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def service(machine: Machine) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = ["/bin/sh", "-c", machine.script("services/network/run")]
        started.append(subprocess.Popen(command, env=machine.environment))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(SECONDS)


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_every_card_with_a_link_is_asked_on_also_a_late_one(
    machine: Machine, service: Callable[[], object]
) -> None:
    dead = machine.plug_in("eth0", carrier=0)
    machine.plug_in("eth1")
    bridge = machine.plug_in("cni0")
    (bridge / "device").rmdir()
    service()
    until(lambda: machine.asked_on() == ["eth1"])
    machine.plug_in("eth2")
    until(lambda: machine.asked_on() == ["eth1", "eth2"])
    (dead / "carrier").write_text("1\n")
    until(lambda: machine.asked_on() == ["eth1", "eth2", "eth0"])
    begun = (machine.root / "run/kubesolo/dhcp/eth0").read_text()
    assert float(begun) > 0


def test_a_card_that_is_switched_off_is_switched_on(
    machine: Machine, service: Callable[[], object]
) -> None:
    machine.plug_in("eth0", carrier=None)
    service()
    until(lambda: "ip link set eth0 up" in machine.lines)
    machine.plug_in("eth0")
    until(lambda: machine.asked_on() == ["eth0"])


def test_a_client_that_ended_is_begun_anew_and_one_without_interface_is_ended(
    machine: Machine, service: Callable[[], object]
) -> None:
    folder = machine.plug_in("eth0")
    noted = machine.root / "run/kubesolo/dhcp-clients/eth0"
    service()
    until(lambda: noted.exists() and noted.read_text().strip())
    first = int(noted.read_text())
    until(lambda: machine.asked_on() == ["eth0"])
    os.kill(first, 9)
    until(lambda: machine.asked_on() == ["eth0", "eth0"])
    until(lambda: noted.exists() and int(noted.read_text() or first) != first)
    second = int(noted.read_text())
    folder.rename(machine.root / "unplugged")
    until(lambda: not noted.exists())
    until(lambda: not _runs(second))


def test_a_stop_ends_every_client(
    machine: Machine, service: Callable[[], subprocess.Popen[bytes]]
) -> None:
    machine.plug_in("eth0")
    machine.plug_in("eth1")
    process = service()
    until(lambda: len(machine.asked_on()) == 2)
    notes = list((machine.root / "run/kubesolo/dhcp-clients").iterdir())
    clients = [int(note.read_text()) for note in notes]
    assert len(clients) == 2
    process.terminate()
    assert process.wait(SECONDS) == 0
    until(lambda: not any(map(_runs, clients)))


def test_what_has_no_network_is_said_once(machine: Machine, service: Callable[[], object]) -> None:
    machine.plug_in("eth1", carrier=0)
    service()
    said = "say network: eth1 (e1000e, 52:54): no link"
    until(lambda: said in machine.lines)
    time.sleep(0.3)
    assert machine.lines.count(said) == 1


def _runs(process: int) -> bool:
    """Whether it is there, and not merely waited for by nobody."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_first_of_two_cards_has_the_default_route_and_its_servers_asked_first(
    machine: Machine,
) -> None:
    machine.plug_in("eth0", index=2)
    machine.plug_in("usb0", index=11)
    machine.lease("bound", "usb0", ip="10.1.0.9", mask="24", router="10.1.0.1 10.1.0.2", dns="b")
    machine.lease("bound", "eth0", ip="10.0.0.9", mask="24", router="10.0.0.1", dns="a c")
    assert machine.lines == [
        "ip addr replace 10.1.0.9/24 dev usb0",
        "ip route replace default via 10.1.0.1 dev usb0 metric 11",
        "ip addr replace 10.0.0.9/24 dev eth0",
        "ip route replace default via 10.0.0.1 dev eth0 metric 2",
    ]
    assert machine.resolvers == ["a", "c", "b"]
    console = (machine.root / "console").read_text().splitlines()
    assert console == ["kubesolo: network usb0 10.1.0.9", "kubesolo: network eth0 10.0.0.9"]


def test_a_lease_that_is_lost_takes_its_servers_along(machine: Machine) -> None:
    machine.plug_in("eth0", index=2)
    machine.plug_in("eth1", index=3)
    machine.lease("bound", "eth0", ip="10.0.0.9", mask="24", dns="a")
    machine.lease("bound", "eth1", ip="10.1.0.9", mask="24", dns="b")
    machine.lease("deconfig", "eth0")
    assert machine.lines[-1] == "ip addr flush dev eth0"
    assert machine.resolvers == ["b"]
    machine.lease("renew", "eth0", ip="10.0.0.9", mask="24", dns="a")
    assert machine.resolvers == ["a", "b"]
