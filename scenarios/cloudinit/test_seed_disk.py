"""A node takes its configuration from a seed disk at its first boot, once."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.faults.http import WebServer
from harness.journal.journal import Source
from harness.pytest_plugin.scenario import scenario
from harness.qemu.devices import SeedBus
from harness.target.node import Node
from product.image.seed import Kind
from scenarios.releases import Releases
from scenarios.steps import AVAILABLE

Seed = Callable[..., Path]
Machines = Callable[..., Node]

APPLIED = "kubesolo: configuration: .* applied"
FULL = """\
    #cloud-config
    hostname: edge-07
    timezone: Asia/Tokyo
    ntp:
      servers: [10.0.2.2]
    kubesolo:
      apiserver-extra-sans: [edge-07.example]
      portainer-edge-async: "yes"
    updates:
      server: {server}
      channel: stable
      maintenance_window: 22:00-02:00
      check_interval: 0
      pubkey: |
    {pubkey}
    ssh_authorized_keys:
      - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmP2fJCRCYxLPb2pvBYJBwhuY2TF7Zb4gZFfIWKCQ/H operator
    write_files:
      - path: /etc/kubesolo/site/note
        permissions: "0640"
        content: |
          rack 3
    final_message: edge-07 is up
    """
META = "instance-id: edge-07-1\n"


def full(server: str, pubkey: bytes) -> str:
    """Every block of user-data, with a server of updates."""
    text = textwrap.dedent(FULL)
    return text.format(server=server, pubkey=textwrap.indent(pubkey.decode(), "    "))


def replug(node: Node, seed: Path | None) -> None:
    """Another seed disk, or none, while the node is off."""
    node.succeed("sync")
    node.target.quit()
    node.machine.insert_seed(seed)
    node.boot()


def said(node: Node, pattern: str, since: int) -> list[str]:
    """Lines of the console that match."""
    events = node.journal.events(since=since)
    lines = [event.text for event in events if event.source is Source.CONSOLE]
    return [line for line in lines if re.search(pattern, line)]


@scenario(tier="core", core_arch="aarch64")
def test_a_full_seed_is_applied_once(
    machine_factory: Machines,
    seed: Seed,
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    server = webserver(releases.good.repository)
    user_data = full(server.url, releases.good.pubkey)
    node = machine_factory(seed=seed({"user-data": user_data, "meta-data": META}))
    node.boot()
    node.wait_console("kubesolo: edge-07 is up", since=0)
    configuration = node.status().configuration
    assert configuration.outcome == "applied", configuration.problems
    assert configuration.instance_id == "edge-07-1"
    assert configuration.source == "the seed disk /dev/vdb"
    assert node.succeed("hostname").text == "edge-07"
    assert node.succeed("date +%Z").text == "JST"
    assert node.succeed("cat /etc/kubesolo/site/note").text == "rack 3"
    modes = "stat -c %a /etc/kubesolo/site/note /etc/kubesolo/kubernetes.json"
    assert node.succeed(modes).text.split() == ["640", "600"]
    assert "operator" in node.succeed("cat /etc/kubesolo/authorized_keys").text
    node.fail(["kubesolo-update", "check"], exit=AVAILABLE)
    # What is edited on the node stays, with the seed disk still in.
    node.succeed("echo healthcheck_deadline=200 >> /etc/kubesolo/update.conf")
    node.succeed("sync")
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    assert node.status().configuration.outcome == "unchanged"
    assert said(node, APPLIED, since) == []
    assert "healthcheck_deadline=200" in node.succeed("cat /etc/kubesolo/update.conf").text
    assert node.succeed("hostname").text == "edge-07"


@scenario(tier="core", core_arch="aarch64")
def test_a_static_address_from_a_seed_image(machine_factory: Machines, seed: Seed) -> None:
    network = """\
        network:
          version: 2
          ethernets:
            lan:
              match: {macaddress: "52:54:00:12:34:56"}
              addresses: [10.0.2.77/24]
              routes: [{to: default, via: 10.0.2.2}]
              nameservers: {addresses: [10.0.2.3], search: [site.example]}
        """
    files = {"network-config": textwrap.dedent(network), "meta-data": META}
    node = machine_factory(seed=seed(files, "iso9660"))
    node.boot()
    node.wait_console("kubesolo: network eth0 10.0.2.77", since=0)
    status = node.status()
    assert (status.configuration.outcome, status.problems) == ("applied", [])
    (card,) = status.network.interfaces
    assert [address for address in card.addresses if ":" not in address] == ["10.0.2.77/24"]
    route = node.succeed("ip -4 route show default").text
    assert "via 10.0.2.2 dev eth0" in route, route
    assert "site.example" in node.succeed("cat /etc/resolv.conf").text


@scenario(tier="core", core_arch="x86_64")
def test_a_bad_seed_applies_nothing_and_says_where_it_is_bad(
    machine_factory: Machines, seed: Seed, read_seed: Callable[..., str]
) -> None:
    bad = "#cloud-config\nhostname: Edge_07\nupdatez:\n  server: http://x.example\n"
    node = machine_factory(seed=seed({"user-data": bad, "meta-data": META}))
    ready = node.boot()
    assert ready.confirmed
    node.wait_console("kubesolo: network eth0 10.0.2.15", since=0)
    node.wait_console("problem: configuration: user-data .*, line 2, column 11: hostname", since=0)
    configuration = node.status().configuration
    assert configuration.outcome == "refused"
    assert [re.findall(r"line (\d+)", text) for text in configuration.problems] == [["2"], ["3"]]
    problems = node.status().problems
    assert all(any(text in problem for problem in problems) for text in ("hostname", "updatez"))
    # The folder of an operator's hooks is there at each boot.
    assert node.succeed("ls -A /etc/kubesolo").text == "hooks.d"
    assert node.succeed("hostname").text != "Edge_07"
    # The seed tells it to whoever takes it out.
    node.succeed("sync")
    node.target.quit()
    result = read_seed(node, "kubesolo-result.txt")
    assert "line 2" in result
    assert "line 3" in result
    # It was never applied, so the corrected file counts, with the same instance-id.
    good = "#cloud-config\nhostname: edge-07\n"
    node.machine.insert_seed(seed({"user-data": good, "meta-data": META}))
    node.boot()
    assert node.status().configuration.outcome == "applied"
    assert node.succeed("hostname").text == "edge-07"


@scenario()
@pytest.mark.parametrize(
    ("kind", "partitioned"), [("vfat", True), ("iso9660", False)], ids=["stick", "image"]
)
def test_a_seed_on_usb(
    machine_factory: Machines, seed: Seed, kind: Kind, partitioned: bool
) -> None:
    disk = seed(
        {"user-data": "#cloud-config\nhostname: edge-08\n", "meta-data": META},
        kind,
        partitioned=partitioned,
        rock_ridge=False,
    )
    node = machine_factory(seed=disk, seed_bus=SeedBus.USB)
    node.boot()
    assert node.status().configuration.outcome == "applied", node.status().problems
    assert node.succeed("hostname").text == "edge-08"


@scenario()
def test_what_counts_again(machine_factory: Machines, seed: Seed) -> None:
    """Pulled, changed under the same instance-id, another instance-id, two seeds at once."""

    def data(name: str, instance: str, more: str = "") -> Path:
        files = {"user-data": f"#cloud-config\nhostname: {name}\n{more}"}
        return seed({**files, "meta-data": f"instance-id: {instance}\n"})

    node = machine_factory(seed=data("edge-01", "1", "timezone: Asia/Tokyo\n"))
    node.boot()
    assert node.succeed("hostname").text == "edge-01"
    replug(node, None)
    assert (node.succeed("hostname").text, node.status().problems) == ("edge-01", [])
    replug(node, data("edge-02", "1"))
    assert node.succeed("hostname").text == "edge-01"
    problems = node.status().problems
    held = "user-data of the seed disk /dev/vdb has changed, and instance-id is 1 as before"
    assert [held in problem for problem in problems] == [True], problems
    replug(node, data("edge-03", "2"))
    assert node.status().configuration.outcome == "applied"
    assert node.succeed("hostname").text == "edge-03"
    # What only the instance before asked for is gone with it.
    assert node.succeed("date +%Z").text == "UTC"


@scenario()
def test_two_seed_disks_apply_nothing(machine_factory: Machines, seed: Seed) -> None:
    files = {"user-data": "#cloud-config\nhostname: edge-01\n", "meta-data": META}
    other = seed({**files, "meta-data": "instance-id: other\n"})
    more = ("-drive", f"if=virtio,format=raw,readonly=on,file={other}")
    node = machine_factory(seed=seed(files), extra=more)
    node.boot()
    problems = "; ".join(node.status().problems)
    assert re.search(r"two seed disks are there, /dev/vd[bc] \(vfat\) and /dev/vd[bc]", problems), (
        problems
    )
    # The folder of an operator's hooks is there at each boot.
    assert node.succeed("ls -A /etc/kubesolo").text == "hooks.d"
