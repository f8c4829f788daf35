"""What KubeSolo would not start with is left out of its file, and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.node.cli import main
from product.node.kubesolo_limits import POLICY_OPTIONS, look_up, startable
from product.node.machine import Machine
from product.node.settings import Setting
from product.node.tests.conftest import NodeWorld

STATIC: dict[str, Setting] = {"cpu-manager-policy": "static"}
FOUR = Machine(frozenset(range(4)))


def _kept(
    values: dict[str, Setting], document: dict[str, object] | None = None, machine: Machine = FOUR
) -> tuple[list[str], str]:
    """Names of what is kept, and all that is said."""
    found, problems = startable(values, document or {}, machine)
    return sorted(found), " | ".join(problems)


def test_what_kubesolo_takes_is_kept() -> None:
    options: dict[str, str] = {"full-pcpus-only": "true", "strict-cpu-reservation": "0"}
    values: dict[str, Setting] = {
        **STATIC, "reserved-cpus": "0-2", "cpu-manager-policy-options": options,
        "system-reserved": {"cpu": "4", "memory": "200Mi"}, "d2k": True, "load-balancer": True,
        "container-mode": "auto", "pki-ca-cert": "/c", "pki-ca-key": "/k",
    }  # fmt: skip
    assert startable(values, {}, FOUR) == (values, [])
    # The rest may be said by the file.
    assert _kept({"reserved-cpus": "0"}, _cpu_manager({"policy": "static"})) == (
        ["reserved-cpus"], "",
    )  # fmt: skip
    assert _kept({"system-reserved": {"cpu": "3"}}) == (["system-reserved"], "")
    assert _kept({"pki-ca-cert": "/c"}, {"pki": {"caKey": "/k"}}) == (["pki-ca-cert"], "")


def _cpu_manager(said: dict[str, object]) -> dict[str, object]:
    return {"kubernetes": {"Kubelet": {"cpumanager": said}}}


@pytest.mark.parametrize(
    ("values", "document", "machine", "kept", "said"),
    [
        ({"reserved-cpus": "0"}, {}, FOUR, [],
         "reserved-cpus: KubeSolo takes it with cpu-manager-policy static alone"),
        ({"cpu-manager-policy-options": {"full-pcpus-only": "true"}}, {}, FOUR, [],
         "cpu-manager-policy-options: KubeSolo takes it with"),
        ({**STATIC, "container-mode": "true", "reserved-cpus": "0"}, {}, FOUR, ["container-mode"],
         "cpu-manager-policy: static is not possible in container mode | reserved-cpus: "),
        (STATIC, {"runtime": {"containerMode": True}}, FOUR, [], "in container mode"),
        ({**STATIC, "reserved-cpus": "0"}, {}, Machine(frozenset({0})), [],
         "static needs two CPUs, this machine has one | reserved-cpus: "),
        ({**STATIC, "reserved-cpus": "0-3"}, {}, FOUR, ["cpu-manager-policy"],
         "reserved-cpus: 0-3 leaves pods no CPU"),
        ({"system-reserved": {"cpu": "3001m", "pid": "9"}}, {}, FOUR, ["system-reserved"],
         "system-reserved: cpu: 3001m leaves pods no whole CPU of 4"),
        ({"system-reserved": {"cpu": "100m"}}, {}, Machine(frozenset({0})), [],
         "system-reserved: cpu: 100m leaves pods no whole CPU of 1"),
        ({**STATIC, "cpu-manager-policy-options": {"align-by-socket": "true"}}, {}, FOUR,
         ["cpu-manager-policy"], "'align-by-socket' is none of distribute-"),
        ({**STATIC, "cpu-manager-policy-options": {"full-pcpus-only": "yes"}}, {}, FOUR,
         ["cpu-manager-policy"], "full-pcpus-only is neither true nor false"),
        ({**STATIC, "cpu-manager-policy-options": dict.fromkeys(POLICY_OPTIONS, "true")}, {}, FOUR,
         ["cpu-manager-policy"], "exclude each other"),
        ({"d2k": True, "load-balancer": False}, {}, FOUR, ["load-balancer"],
         "d2k: it needs load-balancer, which is false"),
        ({"load-balancer": False}, {"d2k": {"enabled": True}}, FOUR, [],
         "load-balancer: d2k of KubeSolo's file needs it"),
        ({"pki-ca-cert": "/c"}, {}, FOUR, [], "pki-ca-cert: it needs pki-ca-key, too"),
    ],
)  # fmt: skip
def test_what_it_would_die_of_is_left_out(
    values: dict[str, Setting], document: dict[str, object], machine: Machine, kept: list[str],
    said: str,
) -> None:  # fmt: skip
    found, problems = _kept(values, document, machine)
    assert found == kept
    assert said in problems


def test_a_machine_that_says_nothing_of_itself_refuses_nothing() -> None:
    values: dict[str, Setting] = {
        **STATIC,
        "reserved-cpus": "0-99",
        "system-reserved": {"cpu": "9"},
    }
    assert startable(values, {}, Machine()) == (values, [])


def test_a_place_is_found_whatever_its_capitals() -> None:
    assert look_up({"Network": {"NODEIP": "10.0.0.5"}}, "network.nodeIP") == "10.0.0.5"
    assert look_up({"network": "none"}, "network.nodeIP") is None


def test_it_is_said_once_and_the_rest_is_written(world: NodeWorld) -> None:
    world.write(world.paths.cpus, "0-1\n")
    settings = {"reserved-cpus": "0", "node-name": "edge-7"}
    world.write(world.paths.settings, json.dumps({"schema": 1, "settings": settings}))
    world.write(base := str(world.root / "base.yaml"), "apiVersion: kubesolo.io/v1alpha1\n")
    target = world.root / "target.yaml"
    for _ in range(2):
        assert main(["settings", base, str(target)], world.paths) == 0
    assert world.problems == [
        f"Kubernetes: {world.paths.settings}: reserved-cpus: KubeSolo takes it with "
        "cpu-manager-policy static alone; it is left out"
    ]
    document = json.loads(Path(target).read_text())
    assert document["kubernetes"] == {"nodeName": "edge-7"}
