"""Whatever a seed holds, a loader answers with a configuration or with places and messages."""

from __future__ import annotations

import time
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from product.agent.config import load_config
from product.cloudinit.document import MAX_BYTES
from product.cloudinit.errors import InvalidFileError
from product.cloudinit.load import load_meta_data, load_network, load_user_data
from product.cloudinit.netplan_keys import BOND_NOTED, NOTED, REFUSED, TOP_REFUSED
from product.cloudinit.netplan_schema import SHAPES
from product.cloudinit.plan import plan_network, plan_user_data
from product.cloudinit.planned import PlannedFile
from product.cloudinit.schema import CloudConfig
from product.cloudinit.settings import SETTINGS
from product.cloudinit.tests.support import EXAMPLES, FIXTURES
from product.cloudinit.updates import Updates
from product.cloudinit.write_files import WriteFile
from product.netconf.document import parse
from product.node.settings import read_settings

# Seconds that the worst file of the largest size may take; an emulated node is 20 times slower.
SLOWEST = 6
LOADERS: tuple[Any, ...] = (load_user_data, load_network, load_meta_data)
SEEDS = [
    path.read_bytes()
    for folder in (EXAMPLES, FIXTURES)
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.suffix != ".toml"
]
many = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def require_places(error: InvalidFileError, data: bytes) -> None:
    """Each problem has a message, and stands at a line of the file."""
    assert error.problems
    lines = data.count(b"\n") + data.count(b"\r") + 2
    for problem in error.problems:
        assert 1 <= problem.line <= lines
        assert problem.column >= 1
        assert problem.message
        # They go to a console and to a terminal.
        assert str(problem).isprintable()
        assert len(str(problem)) < 1000


def require_readable(files: tuple[PlannedFile, ...]) -> None:
    """Files lie where they may, and those of services are read without a complaint."""
    for file in files:
        assert file.path.startswith(("/etc/kubesolo/", "/var/lib/kubesolo/"))
        assert ".." not in file.path.split("/")
        assert 0 <= file.mode <= 0o777
        if file.path == "/etc/kubesolo/network.json":
            parse(file.content)
        elif file.path in ("/etc/kubesolo/update.conf", "/etc/kubesolo/kubernetes.json"):
            with NamedTemporaryFile() as copy:
                copy.write(file.content)
                copy.flush()
                read = load_config if file.path.endswith(".conf") else read_settings
                assert read(copy.name).problems == ()


def judge(data: bytes, loaders: tuple[Any, ...] = LOADERS) -> None:
    """Each loader takes ``data``; what it accepts can be planned, what it refuses has a place."""
    for load in loaders:
        try:
            found = load(data, "file")
        except InvalidFileError as error:
            require_places(error, data)
            continue
        if load is load_user_data:
            require_readable(plan_user_data(found, payload_settings=frozenset()).files)
        elif load is load_network:
            require_readable(plan_network(found).files)


@many
@given(st.binary(max_size=300))
@example(b'#cloud-config\nhostname: "\\ud800"\n')
@example(b"#cloud-config\n? |\n  x\n: y\n")
@example(b"#cloud-config\n<<: {hostname: a}\n")
@example(b"#cloud-config\n! a: b\n")
def test_bytes(data: bytes) -> None:
    judge(data)
    judge(b"#cloud-config\n" + data)


@many
@given(st.text(alphabet="ab01:-[]{}#&*!|>'\"%@`,?\n\t \\~.=/<é\u2028\U0001f600", max_size=200))
def test_text_of_yamls_own_characters(text: str) -> None:
    judge(text.encode())
    judge(f"#cloud-config\n{text}".encode())


KEYS = sorted(
    {
        *CloudConfig.model_fields, *SETTINGS, *Updates.model_fields, *WriteFile.model_fields,
        *NOTED, *REFUSED, *TOP_REFUSED, *BOND_NOTED, *SHAPES, "version", "network", "renderer",
        "mode", "address", "gateway", "dns", "servers", "pools", "trusted", "ca-certs", "api",
        "portainer", "kubernetes", "pki", "instance-id", "local-hostname", "to", "via", "on-link",
        "match", "driver", "set-name", "accept-ra", "gateway4", "routes", "search", "primary",
        *(field for shape in SHAPES.values() for field in shape.model_fields),
    }
)  # fmt: skip
VALUES = [
    "2", "1", "true", "no", "static", "dhcp", "10.0.0.5/24", "10.0.0.1", "fd00::5/64", "fe80::1",
    "default", "0.0.0.0/0", "eth0", "bond0", "e*", "52:54:00:AB:CD:EF", "active-backup", "auto",
    "/etc/kubesolo/a", "/var/lib/kubesolo/../x", "b64", "gz+b64", "aGk=", "0644", "root:root",
    "https://x.example.org/", "22:00-02:00", "Europe/Berlin", "to-seed", "edge-07", "x" * 70,
    "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----", "ssh-ed25519 AAAA", "", "\0",
    "99999999999999999999", "\ud800", "1e400", "{{x}}",
]  # fmt: skip
leaves = st.one_of(st.sampled_from(VALUES), st.none(), st.text(max_size=8))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=25,
)


@many
@given(st.dictionaries(st.sampled_from(KEYS), trees, max_size=8))
def test_trees_of_known_keys_and_odd_values(tree: dict[str, Any]) -> None:
    text = yaml.safe_dump(tree, allow_unicode=False, default_flow_style=False)
    judge(text.encode())
    judge(b"#cloud-config\n" + text.encode())
    nested = yaml.safe_dump({"version": "2", "ethernets": {"eth0": tree}, "bonds": {"b": tree}})
    judge(nested.encode())


some = st.sampled_from
LINKS = {
    "dhcp4": some(["true", "no"]), "dhcp6": some(["on", "off"]), "accept-ra": some(["no", "yes"]),
    "addresses": st.lists(
        some(["10.0.0.5/24", "10.0.1.5/32", "fd00::5/64", "fd00::6/128", "169.254.1.1/16"]),
        max_size=3, unique=True,
    ),
    "routes": st.lists(
        st.fixed_dictionaries(
            {"to": some(["default", "0.0.0.0/0", "::/0", "10.9.0.0/16", "fd01::/16", "10.9.9.9"]),
             "via": some(["10.0.0.1", "10.9.0.1", "fd00::1", "fe80::1"])},
            optional={"on-link": some(["true", "false"]), "metric": some(["0", "7", "4294967295"])},
        ),
        max_size=3,
    ),
    "gateway4": some(["10.0.0.1", "10.9.0.1"]), "gateway6": some(["fd00::1", "fe80::1"]),
    "mtu": some(["68", "576", "1280", "9000", "65535"]), "optional": some(["true"]),
    "nameservers": st.fixed_dictionaries(
        {}, optional={
            "addresses": st.lists(some(["10.0.0.1", "::1", "127.0.0.53", "fe80::1"]), max_size=3),
            "search": st.lists(some(["lan", "Site.Example.Org.", "x" * 63, "1"]), max_size=3),
        },
    ),
}  # fmt: skip
MATCH = st.fixed_dictionaries(
    {},
    optional={
        "name": some(["e*", "eth[!0]", "*", "en?s0", "^x", "a" * 64, "wlan-0_1."]),
        "macaddress": some(["52:54:00:AB:CD:EF", "52-54-00-ab-cd-ef", "00:00:00:00:00:00"]),
    },
)
CARDS = some(["eth0", "eth1", "a", "x" * 64, "lan-1_2.3", "0"])
MADE = some(["bond0", "eth0.7", "v", "x" * 14])
PLAUSIBLE = st.fixed_dictionaries(
    {"version": st.just("2")},
    optional={
        "ethernets": st.dictionaries(
            CARDS, st.fixed_dictionaries({}, optional={**LINKS, "match": MATCH}), max_size=3
        ),
        "bonds": st.dictionaries(
            MADE,
            st.fixed_dictionaries(
                {"interfaces": st.lists(CARDS, min_size=1, max_size=2, unique=True)},
                optional={"parameters": st.fixed_dictionaries(
                    {}, optional={"mode": some(["active-backup", "802.3ad"]), "primary": CARDS,
                                  "mii-monitor-interval": some(["0", "100ms", "60000"])})},
            ),
            max_size=1,
        ),
        "vlans": st.dictionaries(
            MADE,
            st.fixed_dictionaries(
                {"id": some(["1", "4094"]), "link": st.one_of(CARDS, MADE)}, optional=LINKS
            ),
            max_size=2,
        ),
    },
)  # fmt: skip


@many
@given(PLAUSIBLE)
def test_networks_that_are_accepted_are_read_by_the_service(tree: dict[str, Any]) -> None:
    judge(yaml.safe_dump(tree).encode(), (load_network,))


@many
@given(st.data())
def test_published_files_and_examples_with_a_change(data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(SEEDS))
    at = data.draw(st.integers(0, len(seed)))
    cut = data.draw(st.integers(0, 12))
    piece = data.draw(
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from([b"\n", b"  ", b": ", b"- ", b"{", b"]", b"'", b"\t", b"&a ", b"\r"]),
            st.sampled_from(SEEDS).map(lambda other: other[:200]),
        )
    )
    judge(seed[:at] + piece + seed[at + cut :])


WORST = {
    "brackets": b"[" * 200_000,
    "braces": b"{a: " * 60_000,
    "dashes": b"- " * 100_000,
    "anchors": b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 9000)),
    "open quote": b'a: "' + b"x " * 100_000,
    "escapes": b'a: "' + b"\\x41" * 60_000 + b'"',
    "templates": b"a: '" + b"{{" * 100_000 + b"'",
    "comments": b"#\n" * 100_000,
    "unknown keys": b"".join(b"hostnam%d: x\n" % n for n in range(4900)),
    "one long key": b"a" * 200_000 + b": 1",
    "long words": b"hostname: " + b"a." * 100_000,
    "folded": b"final_message: >\n" + b"  x\n\n" * 40_000,
    "pem": b"ca_certs: {trusted: ['-----BEGIN A-----" + b" " * 100_000 + b"']}",
    "blank pem": b"ca_certs: {trusted: ['" + b"-----BEGIN A-----" * 7000 + b"']}",
    "ssh": b"ssh_authorized_keys: ['" + b'"\\' * 8000 + b"']",
    "interfaces": b"version: 2\nethernets:\n"
    + b"".join(b"  e%d: {addresses: [10.0.0.1/24]}\n" % n for n in range(1900)),
    "members": b"version: 2\nbonds: {b: {interfaces: [" + b"x, " * 9000 + b"x]}}",
    "names": b"kubesolo: {apiserver-extra-sans: [" + b"a.b, " * 9000 + b"x]}",
    "settings": b"kubesolo: {" + b"".join(b"debu%d: x, " % n for n in range(4500)) + b"}",
    "routes": b"version: 2\nethernets: {eth0: {dhcp4: true, routes: ["
    + b"{to: 10.0.0.0/8, via: 10.1.1.1}, " * 1900
    + b"]}}",
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_files_take_a_bounded_time(name: str) -> None:
    data = WORST[name][: MAX_BYTES - 20]
    start = time.process_time()
    judge(data, (load_network,))
    judge(b"#cloud-config\n" + data, (load_user_data,))
    assert time.process_time() - start < SLOWEST
