"""The service that sees to Kubernetes while it runs: the image's script, under this host's shell.

Minutes pass at once: a sleep of the script is one. Paths of the node are moved into a directory,
and the programs that it calls are stand-ins on PATH, which write down the minute.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

IMAGES = Path(__file__).resolve().parents[3] / "images"
CONFINE = IMAGES / "overlay/usr/lib/kubesolo/confine"
SCRIPT = (IMAGES / "payload/upstream/usr/lib/kubesolo/services/upkeep/run").read_text()

# The last sleep fails, as one that is killed does: that ends the loop.
PRELUDE = """
export minute=0
sleep() {{
    [ "$#:$1" = 1:60 ] || exit 99
    if [ $minute = {minutes} ]; then
        echo $minute > {root}/ended
        return 1
    fi
    minute=$((minute + 1))
    {each_minute}
}}
{script}
"""
IP = """case "$*" in
    '-4 -o addr show') cat {root}/address ;;
    *) echo "$minute ip $*" >> {root}/log; exit 1 ;;
esac"""
# `kubesolo-node address` says what stands in a file; the others are only noted.
NODE = """case "$*" in
    address) cat {root}/chosen ;;
    *) echo "$minute kubesolo-node $*" >> {root}/log; exit {code} ;;
esac"""


def address(*found: str) -> str:
    """What ip(8) prints of eth0 in one line an address."""
    lines = [
        f"2: eth0    inet {a}/24 brd 10.0.0.255 scope global eth0\\       valid_lft forever\n"
        for a in found
    ]
    return "".join(lines)


class Node:
    """What the script finds; ``run`` lets minutes pass and says what it did in which."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known = root / "run/kubesolo/kubernetes/address"
        self.console = root / "console"
        self.console.touch()
        (root / "address").write_text(address("10.0.0.5"))
        (root / "chosen").write_text("10.0.0.9\n")
        (root / "uptime").write_text("0.00 0.00\n")
        (root / "now").write_text("1793491200\n")
        (root / "bin").mkdir()
        self.program("ip", IP.format(root=root))
        self.program("date", f"cat {root}/now")

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def noting(self, name: str, code: int, also: str = ":") -> None:
        """A program that only writes down how it was called."""
        note = f'echo "$minute {name} $*" >> {self.root}/log'
        self.program(name, f"{note}\n{also}\nexit {code}")

    def knows(self, text: str) -> None:
        self.known.parent.mkdir(parents=True, exist_ok=True)
        self.known.write_text(text)

    def run(
        self,
        minutes: int,
        *,
        node_code: int = 0,
        sv_code: int = 0,
        restart: str = ":",
        each_minute: str = ":",
    ) -> list[str]:
        script = SCRIPT.replace("/run/kubesolo/", f"{self.root}/run/kubesolo/")
        script = script.replace("/usr/lib/kubesolo/confine", str(CONFINE))
        script = script.replace("/proc/uptime", f"{self.root}/uptime")
        # What is written to a console stays on it.
        script = script.replace("> /dev/console", f">> {self.console}")
        assert script.count(str(self.root)) == 3, "other paths than the test moves"
        self.program("kubesolo-node", NODE.format(root=self.root, code=node_code))
        self.noting("sv", sv_code, restart)
        text = PRELUDE.format(
            root=self.root, minutes=minutes, each_minute=each_minute, script=script
        )
        subprocess.run(
            ["/bin/sh", "-c", text],
            check=False,
            timeout=60,
            stdout=subprocess.DEVNULL,
            env={
                "PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "KUBESOLO_CONFINED": "1",
            },
        )
        # Nothing else has ended it.
        assert (self.root / "ended").read_text() == f"{minutes}\n"
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


RESTART = "sv -w 20 try-restart /run/service/kubernetes"
DAY = 24 * 60


def minutes_of(lines: list[str], what: str) -> list[int]:
    return [int(line.split(" ", 1)[0]) for line in lines if line.split(" ", 1)[1] == what]


@pytest.mark.parametrize("code", [0, 1])
def test_certificates_each_day_and_images_each_hour(node: Node, code: int) -> None:
    """Also where the program fails, and while Kubernetes was not started: no address is known."""
    lines = node.run(2 * DAY + 30, node_code=code)
    assert minutes_of(lines, "kubesolo-node renew") == [DAY, 2 * DAY]
    assert minutes_of(lines, "kubesolo-node import") == list(range(60, 2 * DAY + 1, 60))
    assert len(lines) == 2 + 48


def test_an_import_that_hangs_is_ended(node: Node) -> None:
    node.program("timeout", f'echo "$minute limit $1" >> {node.root}/log; shift; exec "$@"')
    assert node.run(61) == ["60 limit 900", "60 kubesolo-node import"]


def test_an_address_that_stays_is_left_alone(node: Node) -> None:
    node.knows("10.0.0.5\n")
    assert node.run(5) == []
    assert node.console.read_text() == ""


def test_kubernetes_follows_the_nodes_address(node: Node) -> None:
    node.knows("10.0.0.5\n")
    change = f"if [ $minute = 3 ]; then sed -i 's/10.0.0.5/10.0.0.9/' {node.root}/address; fi"
    restart = f"echo 10.0.0.9 > {node.known}"
    assert node.run(6, each_minute=change, restart=restart) == [f"3 {RESTART}"]
    assert node.console.read_text() == (
        "kubesolo: kubernetes follows the node's address from 10.0.0.5 to 10.0.0.9\n"
    )


def test_a_restart_that_fails_is_tried_each_minute(node: Node) -> None:
    node.knows("10.0.0.4\n")
    assert node.run(3, sv_code=1) == [f"{minute} {RESTART}" for minute in (1, 2, 3)]


def test_of_several_addresses_the_known_one_stays(node: Node) -> None:
    node.knows("10.0.0.77\n")
    (node.root / "address").write_text(address("10.0.0.5", "10.0.0.77"))
    assert node.run(2) == []


@pytest.mark.parametrize("found", ["", address("10.0.0.55"), address("110.0.0.5")])
def test_without_another_address_it_keeps_its_own(node: Node, found: str) -> None:
    node.knows("10.0.0.5\n")
    (node.root / "address").write_text(found)
    (node.root / "chosen").write_text("")
    assert node.run(3) == []


def test_the_address_of_a_node_without_a_network_is_left_for_a_real_one(node: Node) -> None:
    node.knows("192.0.2.1\n")
    own = "1: lo    inet 192.0.2.1/32 scope global lo\\       valid_lft forever\n"
    (node.root / "address").write_text(own)
    assert node.run(1) == [f"1 {RESTART}"]


def test_an_ip_that_fails_ends_nothing(node: Node) -> None:
    node.knows("10.0.0.5\n")
    (node.root / "address").unlink()
    (node.root / "chosen").unlink()
    assert node.run(61) == ["60 kubesolo-node import"]


@pytest.mark.parametrize("moved", [-7200, 7200])
def test_a_clock_that_is_set_by_hours_has_certificates_looked_at(node: Node, moved: int) -> None:
    change = f"if [ $minute = 3 ]; then echo $((1793491200 + {moved})) > {node.root}/now; fi"
    assert node.run(6, each_minute=change) == ["3 kubesolo-node renew"]


def test_a_clock_that_is_set_by_less_is_not_noticed(node: Node) -> None:
    change = f"if [ $minute = 3 ]; then echo $((1793491200 + 3000)) > {node.root}/now; fi"
    assert node.run(6, each_minute=change) == []


def test_a_look_that_failed_is_taken_again(node: Node) -> None:
    change = f"if [ $minute = 3 ]; then echo 1893491200 > {node.root}/now; fi"
    expected = [f"{minute} kubesolo-node renew" for minute in (3, 4)]
    assert node.run(4, node_code=1, each_minute=change) == expected
