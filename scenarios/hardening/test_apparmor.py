"""Programs of the node are confined: what one that was taken over does is denied and logged."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko
import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.image.apparmor import FEATURES
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from scenarios.hardening.node import apparmor

if TYPE_CHECKING:
    from conftest import Images

CONF = "/etc/kubesolo/security.conf"
LOADED = "/sys/kernel/security/apparmor"
# The profile of each process of the program, and its mode.
PROFILES = "for process in $(pidof {}); do cat /proc/$process/attr/current; done"
# What a program that was taken over could do: Python, in that program's profile.
TAKEN_OVER = "/usr/lib/kubesolo/confined {} python3 -ISB -c {!r}"
# What is possible to root on any other system, lockdown or not. Opening it does nothing.
SYSRQ = "/proc/sysrq-trigger"
OPEN = f'open("{SYSRQ}", "w")'


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image with an SSH server."""
    from conftest import Images

    return Images(cache, host_tools, recipe=IMAGES / "appliance-ssh.toml")


def _configure(node: Node, text: str) -> None:
    node.put(text, CONF)
    node.succeed("sync")
    node.reboot()
    node.wait_ready()


def _mode(node: Node, profile: str) -> str:
    """What the kernel says of a profile that is loaded; empty for one that is not."""
    return node.run(f"sed -n 's/^{profile} (\\(.*\\))$/\\1/p' {LOADED}/profiles").text


def _until(node: Node, holds: Callable[[], bool], what: str) -> None:
    deadline = node.deadline(60)
    while not holds():
        assert deadline.remaining, what
        time.sleep(0.5)


def _profiles(node: Node, program: str) -> set[str]:
    return set(node.run(PROFILES.format(program)).text.splitlines())


def _as(profile: str, code: str) -> str:
    """A command that runs ``code`` of Python in ``profile``."""
    return TAKEN_OVER.format(profile, code)


@scenario(tier="core", core_arch="x86_64")
def test_each_service_is_in_its_profile(node: Node) -> None:
    node.at(State.READY)
    # Whose key may log in: without one there is no server.
    key = paramiko.ECDSAKey.generate()
    node.put(f"{key.get_name()} {key.get_base64()}\n", "/etc/kubesolo/authorized_keys", mode=0o600)
    node.succeed("sync")
    node.reboot()
    node.wait_ready()
    wanted = {
        "chronyd": "chronyd",
        "dhcpcd": "dhcpcd",
        "dropbear": "dropbear",
    }
    for program, profile in wanted.items():
        _until(node, lambda p=program: bool(_profiles(node, p)), f"{program} to run")  # type: ignore[misc]
        assert _profiles(node, program) == {f"{profile} (enforce)"}
    # Programs in Python are told by what they serve.
    for profile in ("kubesolo-agent", "kubesolo-metrics", "kubesolo-channel"):
        wait = f"until grep -qsx '{profile} (enforce)' /proc/[0-9]*/attr/current; do sleep 1; done"
        node.succeed(wait, seconds=120)
    # What an administrator runs, by the channel or a login, is confined by nothing.
    assert node.succeed("cat /proc/self/attr/current").text == "unconfined"
    reads = ["python3", "-c", "print(open('/proc/self/attr/current').read())"]
    assert node.succeed(reads).text.strip() == "unconfined"
    with node.ssh(host_key=node.status().ssh.host_key, key=key) as ssh:
        said = ssh.exec(["cat", "/proc/self/attr/current"], node.deadline(60))
        assert (said.exit, said.text) == (0, "unconfined")
    assert node.status().problems == []
    # Nothing that the services do in a boot is against their profiles.
    assert apparmor(node, '"DENIED"') == []


@scenario()
def test_what_a_program_that_was_taken_over_does_is_denied_and_logged(node: Node) -> None:
    node.at(State.READY)
    node.succeed("echo secret > /var/lib/kubesolo/ssh-host; mkdir -p /var/lib/kubesolo/ssh")
    node.succeed("echo secret > /var/lib/kubesolo/ssh/host_ed25519")
    attempts = {
        # The whole machine.
        ("kubesolo-agent", OPEN): SYSRQ,
        ("kubesolo-agent", 'open("/dev/mem", "rb")'): "/dev/mem",
        ("kubesolo-agent", 'open("/var/lib/kubesolo/ssh/host_ed25519")'): "host_ed25519",
        ("kubesolo-agent", 'open("/etc/kubesolo/authorized_keys", "w")'): "authorized_keys",
        # What serves a network reads and writes what it serves, and no disk.
        ("kubesolo-metrics", 'open("/dev/vda2", "rb")'): "/dev/vda2",
        ("kubesolo-metrics", 'open("/etc/shadow")'): "/etc/shadow",
        ("kubesolo-metrics", 'import os; os.execv("/usr/bin/busybox", ["sh"])'): "busybox",
        ("kubesolo-channel", 'open("/dev/vda2", "wb")'): "/dev/vda2",
    }
    for (profile, code), named in attempts.items():
        # The same is possible to root whom nothing confines.
        assert node.run(_as(profile, code)).exit != 0, (profile, code)
        words = ('"DENIED"', f'profile="{profile}"', named)
        _until(node, lambda words=words: bool(apparmor(node, *words)), f"{words} to be logged")  # type: ignore[misc]
    # An operator finds them, as the documents say.
    said = node.succeed("kubesolo-update logs --service audit | grep apparmor=", seconds=120).text
    assert 'apparmor="DENIED"' in said


@scenario()
def test_modes_are_by_configuration(node: Node, host_tools: HostTools) -> None:
    node.at(State.READY)
    assert _mode(node, "chronyd") == "enforce"
    assert node.run(_as("kubesolo-agent", OPEN)).exit != 0
    # What the profiles were compiled for is what the kernel has.
    for line in _features(host_tools.path(FEATURES).read_text()):
        name, _, words = line.partition(" ")
        offered = node.succeed(f"cat {LOADED}/features/{name}").text.split()
        assert set(words.split()) <= set(offered), line

    _configure(node, "apparmor=complain\r\n")
    assert _mode(node, "chronyd") == "complain"
    assert _profiles(node, "chronyd") == {"chronyd (complain)"}
    node.succeed(_as("kubesolo-agent", OPEN))
    _until(node, lambda: bool(apparmor(node, '"ALLOWED"', SYSRQ)), "what is allowed to be logged")

    _configure(node, "apparmor=off\n")
    assert _profiles(node, "chronyd") == {"unconfined"}
    node.succeed(_as("kubesolo-agent", OPEN))
    assert node.status().problems == []


@scenario()
def test_a_mistake_is_a_problem_and_no_failed_boot(node: Node) -> None:
    node.at(State.READY)
    node.succeed("mkdir -p /etc/kubesolo/apparmor.d")
    node.put("profile broken {\n  nonsense\n}\n", "/etc/kubesolo/apparmor.d/broken")
    node.put(
        "#include <tunables/global>\nprofile own {\n  #include <abstractions/base>\n  file,\n}\n",
        "/etc/kubesolo/apparmor.d/own",
    )
    _configure(node, "apparmor=strict\n")
    problems = node.status().problems
    assert [("apparmor=strict" in p, "apparmor.d/broken" in p) for p in problems] == [
        (True, False),
        (False, True),
    ], problems
    assert _mode(node, "chronyd") == _mode(node, "own") == "enforce"


def _features(text: str) -> list[str]:
    """The parser's format of features, each ``path words``, as the kernel's files have them."""
    found, path, words = [], [], ""
    for character in text:
        if character == "{":
            *before, name = words.split()
            assert not before, words
            path.append(name)
            words = ""
        elif character == "}":
            if words.strip():
                found.append(f"{'/'.join(path)} {' '.join(words.split())}")
            path.pop()
            words = ""
        else:
            words += character
    return found
