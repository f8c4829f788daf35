"""Pods have the container runtime's profile and filter, unless they ask for another or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from harness.errors import CommandError
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from product.image.cache import Cache
from product.image.tools import HostTools
from scenarios.hardening.node import ANY_POD, apparmor
from scenarios.kubectl import RECIPE
from scenarios.kubernetes import MACHINE, Cluster, begin
from scenarios.releases import Releases

if TYPE_CHECKING:
    from conftest import Images

PROFILE = "cri-containerd.apparmor.d"
# An operator's own profile, as the documents show it.
OWN = """#include <tunables/global>
profile no-writes flags=(attach_disconnected) {
  #include <abstractions/base>
  file,
  deny /** w,
}
"""
# The two services of Kubernetes, each in its profile.
SERVICES = {"containerd": "containerd", "kubenode": "kubenode", "coredns": "coredns"}

pytestmark = pytest.mark.machine(**MACHINE)


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image with the payload that the project builds itself."""
    from conftest import Images

    return Images(cache, host_tools, recipe=RECIPE)


@pytest.fixture(scope="session")
def releases(images: Images, releases_of: Callable[[Images], Releases]) -> Releases:
    """Signed releases of it."""
    return releases_of(images)


def _in(cluster: Cluster, pod: str, script: str) -> str:
    """What a shell in the pod says; raises CommandError where it fails."""
    return cluster.kubectl("exec", pod, "--", "sh", "-c", script).text


def _refused(cluster: Cluster, pod: str, script: str, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        _in(cluster, pod, script)


@scenario()
def test_pods_are_confined_and_may_ask_for_less(node: Node) -> None:
    cluster = begin(node)
    # The profile is loaded as it would be at a boot.
    node.succeed("mkdir -p /etc/kubesolo/apparmor.d")
    node.put(OWN, "/etc/kubesolo/apparmor.d/no-writes")
    node.succeed("apparmor_parser --config-file /dev/null -K -r /etc/kubesolo/apparmor.d/no-writes")
    # Some of them ask for what the level `baseline` refuses.
    cluster.kubectl("label", "--overwrite", "namespace", "default", ANY_POD)
    cluster.create("confined")
    pods = ("plain", "breaks-out", "unfiltered", "privileged", "own-profile")
    cluster.wait("pod", "condition=Ready", *pods)

    current = {pod: _in(cluster, pod, "cat /proc/1/attr/current") for pod in pods}
    assert current == {
        "plain": f"{PROFILE} (enforce)",
        "breaks-out": f"{PROFILE} (enforce)",
        "unfiltered": f"{PROFILE} (enforce)",
        "privileged": "unconfined",
        "own-profile": "no-writes (enforce)",
    }
    filters = {pod: _in(cluster, pod, "grep ^Seccomp: /proc/1/status").split()[1] for pod in pods}
    assert filters == {
        "plain": "2", "breaks-out": "2", "unfiltered": "0", "privileged": "0", "own-profile": "2"
    }  # fmt: skip

    # A system call that needs no right and that the filter does not let through (addresses that are
    # not random), and the same without it.
    personality = "busybox linux64 -R true"
    _refused(cluster, "plain", personality, "Operation not permitted")
    _in(cluster, "unfiltered", personality)
    # Breaking out: the right to mount is there, the profile denies it, and the kernel says so.
    _refused(cluster, "breaks-out", "mount -t tmpfs none /tmp", "(?i)permission denied")
    denied = ('"DENIED"', f'profile="{PROFILE}"', 'operation="mount"')
    deadline = node.deadline(60)
    while not apparmor(node, *denied):
        assert deadline.remaining, "the denial is in no log"
        time.sleep(0.5)
    _refused(cluster, "plain", "echo b > /proc/sysrq-trigger", "Read-only|Permission denied")
    # Who asks for all rights has them.
    _in(cluster, "privileged", "mount -t tmpfs none /tmp && umount /tmp")
    # The operator's own profile.
    _in(cluster, "plain", "echo x > /tmp-file")
    _refused(cluster, "own-profile", "echo x > /tmp-file", "Permission denied")

    for program, profile in SERVICES.items():
        said = node.succeed(f"for p in $(pidof {program}); do cat /proc/$p/attr/current; done").text
        assert set(said.splitlines()) == {f"{profile} (enforce)"}, program
    # Nothing that Kubernetes itself does is against its profiles.
    for profile in SERVICES.values():
        assert apparmor(node, '"DENIED"', f'profile="{profile}"') == []
    assert node.status().problems == []
