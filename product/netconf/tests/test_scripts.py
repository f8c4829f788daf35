"""The image's scripts of network, name and time, under this host's shell.

Paths of the node are moved into a directory; the programs that the scripts call are stand-ins on
PATH, and write down how they were called. A second of a service takes 20 ms.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OVERLAY = Path(__file__).resolve().parents[3] / "images/overlay/usr/lib/kubesolo"
SECONDS = 20.0
# What a script names, and stands in the machine's directory here.
MOVED = (
    "/sys/class", "/sys/bus", "/sys/firmware", "/proc/device-tree", "/run/",
    "/var/lib/", "/etc/kubesolo", "/etc/ssl", "/usr/share/zoneinfo",
)  # fmt: skip


class Machine:
    """Interfaces as sysfs shows them, files of the node, and the scripts' doings."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        self.log.touch()
        (root / "console").touch()
        for name in ("bin", "run/kubesolo/network/dns", "run/kubesolo/network/ntp"):
            (root / name).mkdir(parents=True)
        for name in ("run/kubesolo/network/problems", "run/kubesolo/dhcp", "etc/kubesolo"):
            (root / name).mkdir(parents=True)
        for name in ("network", "time"):
            (root / "var/lib/kubesolo" / name).mkdir(parents=True)
        (root / "lib").mkdir()
        self.write("run/kubesolo/early", "")
        said = f'say() {{ echo "say $*" >> {self.log}; }}\n'
        said += f'problem() {{ echo "problem $*" >> {self.log}; }}\n'
        self.write("lib/lib.sh", self.script("lib.sh") + said)
        self.write("lib/dhcpcd.conf", "allowinterfaces eth*\n")
        self.write("lib/ntp.sources", "pool pool.example iburst\n")
        for name in ("name-servers", "time-servers", "confine"):
            self.write(f"lib/{name}", self.script(name)).chmod(0o755)
        self.program("ip", f'echo "ip $*" >> {self.log}')
        self.program("chpst", '[ "$1:$2" = -n:19 ] && shift 2 && exec "$@"')
        self.program("sleep", "exec /bin/sleep 0.02")
        self.program("python3", 'echo "eth1 (e1000e, 52:54): no link"')
        self.program("chronyc", f'echo "chronyc $*" >> {self.log}')
        self.program("hostname", f'echo "hostname $*" >> {self.log}')

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def program(self, name: str, text: str) -> None:
        self.write(f"bin/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)

    def plug_in(self, name: str, *, index: int = 2, mac: str = "52:54:00:00:00:01",
                bus: str = "pci0000:00/0000:00:03.0") -> Path:  # fmt: skip
        folder = self.root / "sys/class/net" / name
        device = self.root / "sys/devices" / bus
        device.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True)
        (folder / "device").symlink_to(device)
        (folder / "ifindex").write_text(f"{index}\n")
        (folder / "address").write_text(f"{mac}\n")
        return folder

    def script(self, path: str) -> str:
        text = (OVERLAY / path).read_text()
        text = text.replace("/usr/lib/kubesolo/", f"{self.root}/lib/")
        for place in MOVED:
            text = text.replace(place, f"{self.root}{place}")
        text = text.replace("/usr/sbin/ip", "ip")
        return text.replace("> /dev/console", f">> {self.root}/console")

    def run(self, path: str, **variables: str) -> None:
        """Run a script to its end; a stage has lib.sh's functions."""
        text = self.script(path)
        if path.startswith("stages/"):
            text = f". {self.root}/lib/lib.sh\n{text}"
        command = ["/bin/sh", "-c", text, path]
        environment = {**self.environment, **variables}
        done = subprocess.run(
            command, check=False, timeout=SECONDS, env=environment, capture_output=True, text=True
        )
        assert done.stderr == ""

    def event(self, reason: str, interface: str = "eth0", **variables: str) -> None:
        """dhcpcd calls its script."""
        metric = {"eth0": "1002", "usb0": "1011"}.get(interface, "1003")
        self.run("dhcp", reason=reason, interface=interface, ifmetric=metric, **variables)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "KUBESOLO_CONFINED": "1"}

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def console(self) -> list[str]:
        return (self.root / "console").read_text().splitlines()

    @property
    def resolver(self) -> str:
        return (self.root / "run/kubesolo/network/resolv.conf").read_text()

    @property
    def sources(self) -> list[str]:
        path = self.root / "run/kubesolo/time/sources/kubesolo.sources"
        return path.read_text().splitlines()

    def problems(self) -> list[str]:
        folder = self.root / "run/kubesolo/network/problems"
        return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


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


# The service.


def test_what_has_no_network_is_said_once(machine: Machine, service: Callable[[], object]) -> None:
    machine.plug_in("eth1")
    service()
    said = "say network: eth1 (e1000e, 52:54): no link"
    until(lambda: said in machine.lines)
    time.sleep(0.3)
    assert machine.lines.count(said) == 1


def test_what_is_configured_is_set_up_anew_for_a_card_that_comes_or_goes(
    machine: Machine, service: Callable[[], object]
) -> None:
    machine.program("python3", f'case $2 in *netconf*) echo "set up" ;; esac >> {machine.log}')
    machine.program("python3", f'echo "$*" | grep -q netconf && echo "set up" >> {machine.log}')
    machine.write("etc/kubesolo/network.json", "{}")
    machine.plug_in("eth0")
    service()
    until(lambda: machine.lines == ["set up"])
    time.sleep(0.2)
    assert machine.lines == ["set up"]
    late = machine.plug_in("usb0", index=9)
    until(lambda: machine.lines == ["set up"] * 2)
    late.rename(machine.root / "unplugged")
    until(lambda: machine.lines == ["set up"] * 3)
    # A lease came that configured routes waited for.
    machine.write("run/kubesolo/network/waiting", "")
    machine.run("dhcp", reason="RENEW", interface="eth0", ifmetric="1002")
    until(lambda: machine.lines == ["set up"] * 4)
    assert not (machine.root / "run/kubesolo/network/again").exists()


def test_what_is_plugged_in_on_usb_gets_its_driver(
    machine: Machine, service: Callable[[], object]
) -> None:
    machine.program("modprobe", f'echo "modprobe $*" >> {machine.log}')
    service()
    time.sleep(0.2)
    assert not any(line.startswith("modprobe") for line in machine.lines)
    machine.write("sys/bus/usb/devices/1-1:1.0/modalias", "usb:v0525pA4A2\n")
    until(lambda: "modprobe -q -a -b usb:v0525pA4A2" in machine.lines)
    time.sleep(0.2)
    assert sum(line.startswith("modprobe") for line in machine.lines) == 1


# What dhcpcd calls.


def test_servers_of_names_in_the_order_of_the_cards(machine: Machine) -> None:
    machine.event("BOUND", "usb0", new_ip_address="10.1.0.9", new_domain_name_servers="b d")
    machine.event(
        "BOUND", new_ip_address="10.0.0.9", new_domain_name_servers="a c",
        new_domain_name="lease.example", new_domain_search="x.example y.example",
    )  # fmt: skip
    assert machine.resolver == (
        "nameserver a\nnameserver c\nnameserver b\nsearch x.example y.example\n"
    )
    assert machine.console == ["kubesolo: network usb0 10.1.0.9", "kubesolo: network eth0 10.0.0.9"]
    machine.event("RENEW", new_ip_address="10.0.0.9", new_domain_name_servers="a")
    assert machine.resolver == "nameserver a\nnameserver b\nnameserver d\n"
    assert len(machine.console) == 2


def test_configured_servers_go_first_and_none_is_asked_twice(machine: Machine) -> None:
    dns = "run/kubesolo/network/dns"
    machine.write(f"{dns}/0-0000-eth1", "nameserver a\nsearch site.example\n")
    machine.event(
        "BOUND", new_ip_address="10.0.0.9", new_domain_name_servers="a b",
        new_domain_name="site.example",
    )  # fmt: skip
    machine.event("BOUND6", new_dhcp6_name_servers="fd00::1 fd00::2", new_dhcp6_domain_search="s6")
    machine.event("ROUTERADVERT", nd1_rdnss1_servers="fd00::3")
    assert machine.resolver == (
        "nameserver a\nnameserver b\nnameserver fd00::1\nsearch site.example s6\n"
    )


@pytest.mark.parametrize("reason", ["NOCARRIER", "DEPARTED", "EXPIRE", "NAK"])
def test_a_lease_that_is_lost_takes_its_servers_along(machine: Machine, reason: str) -> None:
    machine.event("CARRIER")
    machine.event("CARRIER", "eth1")
    machine.event(
        "BOUND", new_ip_address="10.0.0.9", new_domain_name_servers="a", new_ntp_servers="10.0.0.1"
    )
    machine.event("BOUND", "eth1", new_ip_address="10.1.0.9", new_domain_name_servers="b")
    machine.event(reason)
    assert machine.resolver == "nameserver b\n"
    assert machine.sources == ["pool pool.example iburst"]
    begun = {path.name for path in (machine.root / "run/kubesolo/dhcp").iterdir()}
    assert begun == ({"eth1"} if reason == "DEPARTED" else {"eth0", "eth1"})


OFF = "Error: Nexthop has invalid gateway."
LEASE = {"new_ip_address": "172.31.9.7", "new_subnet_cidr": "32", "new_routers": "172.31.9.1"}
OWN = "dev eth0 src 172.31.9.7 metric 1002 proto dhcp"


def test_a_route_that_dhcpcd_set_is_left_as_it_is(machine: Machine) -> None:
    machine.program(
        "ip", f'echo "ip $*" >> {machine.log}; echo "RTNETLINK answers: File exists"; exit 2'
    )
    machine.event("BOUND", **LEASE)
    assert machine.lines == [f"ip -4 route add 0.0.0.0/0 via 172.31.9.1 {OWN}"]
    assert machine.problems() == []


def test_a_router_off_the_link_is_reached_on_it(machine: Machine) -> None:
    refuse = f'[ -e {machine.root}/linked ] || {{ echo "{OFF}"; exit 2; }}'
    note = f'case $* in *link*) : > {machine.root}/linked ;; esac; echo "ip $*" >> {machine.log}'
    machine.program("ip", f"{note}; {refuse}")
    machine.event("BOUND", **LEASE)
    assert machine.lines == [
        f"ip -4 route add 0.0.0.0/0 via 172.31.9.1 {OWN}",
        f"ip -4 route add 172.31.9.1 scope link {OWN}",
        f"ip -4 route add 0.0.0.0/0 via 172.31.9.1 {OWN}",
    ]
    assert machine.problems() == []


def test_classless_routes_go_before_the_router(machine: Machine) -> None:
    routes = "0.0.0.0/0 172.31.9.2 203.0.113.0/24 172.31.9.3 10.9.0.0/16 0.0.0.0"
    machine.event("BOUND", **LEASE, new_classless_static_routes=routes)
    assert machine.lines == [
        f"ip -4 route add 0.0.0.0/0 via 172.31.9.2 {OWN}",
        f"ip -4 route add 203.0.113.0/24 via 172.31.9.3 {OWN}",
    ]


def test_a_route_that_cannot_be_set_is_a_problem_until_it_can(machine: Machine) -> None:
    machine.program("ip", f'echo "{OFF}"; exit 2')
    for _ in range(2):
        machine.event("BOUND", **LEASE)
    problem = (
        "eth0: the route to 0.0.0.0/0 via 172.31.9.1 that DHCP named cannot be set: "
        "Nexthop has invalid gateway."
    )
    assert machine.problems() == [problem]
    assert machine.console.count(f"kubesolo: problem: network: {problem}") == 1
    machine.program("ip", "exit 0")
    machine.event("RENEW", **LEASE)
    assert machine.problems() == []


# Time.


def test_servers_of_time_by_configuration_firmware_dhcp_image(machine: Machine) -> None:
    machine.run("time-servers")
    assert machine.sources == ["pool pool.example iburst"]
    machine.event("BOUND", new_ip_address="10.0.0.9", new_ntp_servers="10.0.0.1 10.0.0.2")
    assert machine.sources == ["server 10.0.0.1 iburst", "server 10.0.0.2 iburst"]
    raw = "sys/firmware/dmi/entries/11-0/raw"
    machine.write(raw, "\x0b\x00io.kubesolo.channel=virtio\0io.kubesolo.ntp=10.0.0.3 a.example\0")
    machine.run("time-servers")
    assert machine.sources == ["server 10.0.0.3 iburst", "server a.example iburst"]
    machine.write(raw, "\x0b\x00io.kubesolo.ntp=none\0")
    machine.run("time-servers")
    assert machine.sources == []
    # A board has a device tree in place of those tables.
    (machine.root / raw).unlink()
    machine.write("proc/device-tree/chosen/kubesolo,ntp", "10.0.0.5\0")
    machine.run("time-servers")
    assert machine.sources == ["server 10.0.0.5 iburst"]
    machine.write("proc/device-tree/chosen/kubesolo,ntp", "none\0")
    machine.run("time-servers")
    assert machine.sources == []
    machine.write(
        "etc/kubesolo/ntp",
        "# ours\r\nntp.example\r\n10.0.0.4:1123\n[fd00::1]:1123\nfd00::2\n\nevil; rm\n$(x)\n",
    )
    machine.run("time-servers")
    assert machine.sources == [
        "server ntp.example iburst",
        "server 10.0.0.4 port 1123 iburst",
        "server fd00::1 port 1123 iburst",
        "server fd00::2 iburst",
    ]
    assert (machine.root / "run/kubesolo/time/from").read_text() == "configuration\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_servers_that_were_edited_on_windows(machine: Machine, end: str) -> None:
    machine.write("etc/kubesolo/ntp", f"\ufeffntp.example{end}")
    machine.run("time-servers")
    assert machine.sources == ["server ntp.example iburst"]
    assert machine.console == []


def test_servers_of_which_none_can_be_asked_are_a_problem(machine: Machine) -> None:
    machine.write("etc/kubesolo/ntp", "ntp.example iburst\nevil; rm\n")
    for _ in range(2):
        machine.run("time-servers")
    assert machine.sources == []
    (line,) = machine.console
    assert line.startswith("kubesolo: problem: time: ")
    assert line.endswith("/etc/kubesolo/ntp names no server that can be asked")
    problem = machine.root / "run/kubesolo/time/problem"
    assert line == f"kubesolo: problem: {problem.read_text().strip()}"
    machine.write("etc/kubesolo/ntp", "ntp.example\n")
    machine.run("time-servers")
    assert not problem.exists()


def test_a_file_of_comments_alone_asks_nobody_on_purpose(machine: Machine) -> None:
    machine.write("etc/kubesolo/ntp", "\ufeff# nobody\r\n\r\n")
    machine.run("time-servers")
    assert machine.sources == []
    assert machine.console == []
    assert not (machine.root / "run/kubesolo/time/problem").exists()


def test_chronyd_hears_of_other_servers_and_of_a_network(machine: Machine) -> None:
    (machine.root / "run/chrony").mkdir()
    with socket.socket(socket.AF_UNIX) as chronyd:
        chronyd.bind(str(machine.root / "run/chrony/chronyd.sock"))
        machine.run("time-servers")
        machine.run("time-servers")
        assert machine.lines == ["chronyc reload sources"]
        machine.event("BOUND", new_ip_address="10.0.0.9")
        until(lambda: machine.lines[-2:] == ["chronyc refresh", "chronyc burst 2/6"])


@pytest.mark.parametrize(
    ("known", "now", "start", "said"),
    [
        (None, 1700000000, 1793491200, "problem the clock stood before the image's build date"),
        ("1793500000 clock", 1700000000, 1793500000, "say the clock stood before what this node"),
        ("1793500000 synchronised", 1793600000, None, None),
        ("1700000000 clock", 1793600000, None, None),
        ("99999999999 clock", 1793600000, None, None),
        ("garbage", 1700000000, 1793491200, "problem the clock stood before the image's"),
        ("", 1793600000, None, None),
    ],
)
def test_the_clock_starts_where_it_was_last_known(
    machine: Machine, known: str | None, now: int, start: int | None, said: str | None
) -> None:
    machine.write("lib/release.json", '{"version": "1", "source_date": 1793491200}\n')
    if known is not None:
        machine.write("var/lib/kubesolo/time/known", known and f"{known}\n")
    machine.program("date", f'[ "$1" = +%s ] && echo {now} || echo "date $*" >> {machine.log}')
    machine.run("stages/70-clock")
    expected = [] if start is None else [f"date -s @{start}"]
    assert [line for line in machine.lines if line.startswith("date")] == expected
    assert [line for line in machine.lines if not line.startswith("date")] == [
        line for line in machine.lines if said and line.startswith(said)
    ]


# The name.


def test_the_name_is_that_of_the_first_card_built_in_and_stays(machine: Machine) -> None:
    machine.plug_in("eth0", index=9, mac="52:54:00:00:00:01", bus="pci0000:00/a")
    machine.plug_in("eth1", index=3, mac="52:54:00:00:00:02", bus="pci0000:00/b")
    usb = "pci0000:00/c/usb1/1-1"
    machine.plug_in("aaa0", index=2, mac="52:54:00:00:00:03", bus=usb)
    (machine.root / "sys/class/net/lo").mkdir()
    machine.run("stages/60-hostname")
    assert machine.lines == ["hostname kubesolo-525400000002"]
    machine.plug_in("aab0", index=1, mac="52:54:00:00:00:04", bus="pci0000:00/d")
    machine.run("stages/60-hostname")
    assert machine.lines[-1] == "hostname kubesolo-525400000002"
    machine.write("etc/kubesolo/hostname", "edge-07\n")
    machine.run("stages/60-hostname")
    assert machine.lines[-1] == "hostname edge-07"


@pytest.mark.parametrize(
    "text",
    ["edge-07\r\n", "\ufeffedge-07\r\n", "\r\n\n  edge-07 \nother\n", "edge-07", "edge-07\r"],
)
def test_a_name_that_was_edited_on_windows(machine: Machine, text: str) -> None:
    machine.write("etc/kubesolo/hostname", text)
    machine.run("stages/60-hostname")
    assert machine.lines == ["hostname edge-07"]


@pytest.mark.parametrize("text", ["\n", "\ufeff", "\ufeff\r\n \r\n"])
def test_a_file_that_names_nothing_leaves_the_kept_name(machine: Machine, text: str) -> None:
    machine.write("var/lib/kubesolo/network/hostname", "kubesolo-525400000002\n")
    machine.write("etc/kubesolo/hostname", text)
    machine.run("stages/60-hostname")
    assert machine.lines == ["hostname kubesolo-525400000002"]


def test_a_machine_without_a_card_has_no_name_to_keep(machine: Machine) -> None:
    machine.run("stages/60-hostname")
    machine.plug_in("usb0", index=2, mac="52:54:00:00:00:03", bus="pci0000:00/c/usb1/1-1")
    machine.run("stages/60-hostname")
    assert machine.lines == ["hostname kubesolo", "hostname kubesolo-525400000003"]


# The site.


@pytest.mark.parametrize(
    ("zone", "taken"),
    [
        ("Europe/Berlin", True),
        ("Europe/Nowhere", False),
        ("../secret", False),
        ("/etc/passwd", False),
        ("zone.tab", False),
    ],
)
def test_a_time_zone_is_one_of_the_images(machine: Machine, zone: str, taken: bool) -> None:
    machine.write("usr/share/zoneinfo/Europe/Berlin", "TZif2...")
    machine.write("usr/share/zoneinfo/zone.tab", "# a table")
    machine.write("usr/share/secret", "TZif2")
    machine.write("etc/kubesolo/timezone", f"{zone}\n")
    machine.run("stages/46-site")
    link = machine.root / "run/kubesolo/localtime"
    assert link.is_symlink() is taken
    assert len(machine.lines) == (0 if taken else 1)
    if not taken:
        assert f"names '{zone}'" in machine.lines[0]


@pytest.mark.parametrize("text", ["Europe/Berlin\r\n", "\ufeffEurope/Berlin\r", "\n Europe/Berlin"])
def test_a_zone_that_was_edited_on_windows(machine: Machine, text: str) -> None:
    machine.write("usr/share/zoneinfo/Europe/Berlin", "TZif2...")
    machine.write("etc/kubesolo/timezone", text)
    machine.run("stages/46-site")
    assert (machine.root / "run/kubesolo/localtime").is_symlink()
    assert machine.lines == []


def test_authorities_of_the_site_come_on_top_of_the_images(machine: Machine) -> None:
    bundle = machine.write("etc/ssl/certs/ca-certificates.crt", "IMAGE\n")
    own = "\ufeff-----BEGIN CERTIFICATE-----\r\nOWN\r\n-----END CERTIFICATE-----"
    machine.write("etc/kubesolo/ca-certificates.crt", own)
    machine.program("mount", f'echo "mount $*" >> {machine.log}')
    machine.run("stages/46-site")
    made = machine.root / "run/kubesolo/ca-certificates.crt"
    assert made.read_text() == f"IMAGE\n\n{own[1:]}\n".replace("\r", "")
    assert not (made.parent / "own.crt").exists()
    assert machine.lines == [f"mount --bind {made} {bundle}"]


def test_what_is_no_certificate_is_said(machine: Machine) -> None:
    machine.write("etc/kubesolo/ca-certificates.crt", "hello\n")
    machine.run("stages/46-site")
    (line,) = machine.lines
    assert line.startswith("problem ")
    assert "holds no certificate in PEM" in line
