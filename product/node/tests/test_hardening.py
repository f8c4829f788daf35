"""Secrets, pods, the audit log and the network's access, as a start of Kubernetes settles them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from product.agent.errors import AgentError
from product.agent.system import program
from product.manifests import render
from product.node import access, encryption, objects, policies, portainer
from product.node.cli import main
from product.node.configure import configure
from product.node.rewrite import rewrite
from product.node.tests.conftest import NodeWorld
from product.node.tests.test_settings import plan_of, tell

TRIAL = "slot=B\nconfirmed=0\nenv=ok\n"


def start(world: NodeWorld) -> None:
    configure(world.paths, world.payload, world.reporter)


def document(world: NodeWorld, name: str) -> Any:
    return json.loads(Path(world.paths.config, name).read_text())


def providers(world: NodeWorld) -> list[str]:
    """Of Secrets, in order: names of keys and ``plain``; the first one writes."""
    (resource,) = document(world, "encryption.json")["resources"]
    assert resource["resources"] == ["secrets"]
    found = []
    for provider in resource["providers"]:
        if "identity" in provider:
            found.append("plain")
        else:
            found += [key["name"] for key in provider["secretbox"]["keys"]]
    return found


def flags(world: NodeWorld) -> dict[str, str]:
    words = plan_of(world, "kube-apiserver").split()[1:]
    pairs = (word.removeprefix("--").partition("=") for word in words)
    return {name: value for name, _, value in pairs}


def set_up_by_an_older_release(world: NodeWorld) -> None:
    """Certificates and a datastore, and nothing of what came later."""
    start(world)
    shutil.rmtree(world.paths.encryption, ignore_errors=True)
    Path(world.paths.defaults).unlink(missing_ok=True)
    Path(world.payload.datastore, "member").mkdir(parents=True, exist_ok=True)


def rewritten(world: NodeWorld, monkeypatch: pytest.MonkeyPatch, *said: tuple[int, str]) -> None:
    """``kubesolo-node rewrite`` against a kubectl that says so after it gave one Secret."""
    answers = list(said)

    def kubectl(argv: list[str]) -> tuple[int, str]:
        if "get" in argv:
            return 0, '{"items": [{"kind": "Secret", "data": {"a": "c2VjcmV0"}}]}'
        assert "replace" in argv
        assert stat.S_IMODE(os.stat(world.paths.secrets).st_mode) == 0o600
        return answers.pop(0) if answers else (0, "secret/s replaced")

    monkeypatch.setattr(program, "run", kubectl)
    monkeypatch.setattr("product.node.rewrite.AGAIN_SECONDS", 0.0)
    rewrite(world.paths, world.payload, world.reporter)
    assert not Path(world.paths.secrets).exists()


def test_a_new_node_never_writes_a_plain_secret(world: NodeWorld) -> None:
    start(world)
    assert providers(world) == ["key-1", "plain"]
    assert flags(world)["encryption-provider-config"] == f"{world.paths.config}/encryption.json"
    assert not Path(world.paths.rewrite_request).exists()
    for path in (world.paths.encryption, f"{world.paths.encryption}/kept"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(f"{path}/keys.json").st_mode) == 0o600
    key = document(world, "encryption.json")["resources"][0]["providers"][0]["secretbox"]["keys"][0]
    assert len(base64.b64decode(key["secret"])) == 32
    before = Path(world.paths.encryption, "keys.json").read_bytes()
    start(world)
    assert Path(world.paths.encryption, "keys.json").read_bytes() == before
    assert world.problems == []


def test_a_node_of_an_older_release_keeps_its_ways(world: NodeWorld) -> None:
    """The older release in the other slot reads what is written, and its pods are taken."""
    set_up_by_an_older_release(world)
    start(world)
    assert "encryption-provider-config" not in flags(world)
    assert not Path(world.paths.encryption).exists()
    defaults = document(world, "admission.json")["plugins"][0]["configuration"]["defaults"]
    assert (defaults["enforce"], defaults["warn"]) == ("privileged", "baseline")
    start(world)
    assert "encryption-provider-config" not in flags(world)


def test_a_release_on_trial_does_not_begin_to_encrypt(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_by_an_older_release(world)
    tell(world, secrets_encryption=True)
    world.write(world.paths.early, TRIAL)
    start(world)
    assert "encryption-provider-config" not in flags(world)
    world.write(world.paths.report, '{"confirmed": true}')
    start(world)
    assert providers(world) == ["key-1", "plain"]
    assert Path(world.paths.rewrite_request).exists()
    rewritten(world, monkeypatch)
    assert "Secrets in the datastore are encrypted with key-1 (1 written)" in world.console
    start(world)
    assert not Path(world.paths.rewrite_request).exists()
    # The next release on trial goes on with it: the one before reads it, too.
    world.write(world.paths.report, '{"confirmed": false}')
    start(world)
    assert providers(world) == ["key-1", "plain"]


def test_secrets_become_plain_again_where_the_setting_says_so(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(world)
    tell(world, secrets_encryption=False)
    start(world)
    assert providers(world) == ["plain", "key-1"]
    assert Path(world.paths.rewrite_request).exists()
    rewritten(world, monkeypatch)
    start(world)
    assert providers(world) == ["plain", "key-1"]
    assert not Path(world.paths.rewrite_request).exists()


def test_a_copy_of_the_datastore_that_is_put_back_can_be_read(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a rollback does it: by two renames. What it holds is brought to the present key."""
    start(world)
    live, copy = Path(world.payload.datastore), Path(world.paths.asides, "A", "copy-1")
    (live / "member").mkdir()
    copy.parent.mkdir(parents=True)
    shutil.copytree(live, copy)
    monkeypatch.setattr(program, "run", lambda argv: (0, ""))
    assert main(["rotate-secrets-key"], world.paths) == 0
    start(world)
    assert providers(world) == ["key-2", "key-1", "plain"]
    rewritten(world, monkeypatch)
    start(world)
    assert not Path(world.paths.rewrite_request).exists()
    live.rename(copy.parent / "aside")
    copy.rename(live)
    start(world)
    assert providers(world) == ["key-2", "key-1", "plain"]
    assert Path(world.paths.rewrite_request).exists()


def test_a_new_key_is_made_once_the_last_one_has_written_everything(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str]) -> tuple[int, str]:
        asked.append(argv)
        return 0, ""

    monkeypatch.setattr(program, "run", run)
    start(world)
    assert main(["rotate-secrets-key"], world.paths) == 0
    assert asked == [["sv", "-w", "20", "try-restart", f"{world.paths.services}/kubernetes"]]
    assert "made key-2 for Secrets" in world.console
    assert main(["rotate-secrets-key"], world.paths) == 1
    assert "not all are written with key-2 yet" in capsys.readouterr().err
    for number in range(2, 12):
        start(world)
        rewritten(world, monkeypatch)
        monkeypatch.setattr(program, "run", run)
        assert main(["rotate-secrets-key"], world.paths) == 0, number
    start(world)
    assert providers(world) == [f"key-{number}" for number in range(12, 4, -1)] + ["plain"]


def test_a_node_that_does_not_encrypt_has_no_key_to_change(
    world: NodeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_by_an_older_release(world)
    start(world)
    assert main(["rotate-secrets-key"], world.paths) == 1
    said = capsys.readouterr().err
    assert "this node does not encrypt them" in said
    assert "hint: set secrets-encryption" in said


@pytest.mark.parametrize("name", ["keys.json", "kept/keys.json"])
@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_one_damaged_file_of_keys_is_put_back(
    world: NodeWorld, name: str, damage: bytes | None
) -> None:
    start(world)
    Path(world.payload.datastore, "member").mkdir()
    path = Path(world.paths.encryption, name)
    before = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    start(world)
    assert path.read_bytes() == before
    assert providers(world) == ["key-1", "plain"]
    (problem,) = world.problems
    assert f"{path} was damaged or missing; its copy was put back" in problem


def test_a_flipped_bit_in_a_key_is_seen(world: NodeWorld) -> None:
    start(world)
    path = Path(world.paths.encryption, "keys.json")
    document = json.loads(path.read_text())
    key = document["keys"][0]
    key["secret"] = key["secret"].swapcase()
    path.write_text(json.dumps(document))
    start(world)
    assert "its copy was put back" in world.problems[0]


def test_lost_keys_are_said_and_stop_nothing(world: NodeWorld) -> None:
    start(world)
    Path(world.payload.datastore, "member").mkdir()
    for name in ("keys.json", "kept/keys.json"):
        Path(world.paths.encryption, name).write_bytes(b"\0" * 300)
    start(world)
    assert providers(world) == ["key-1", "plain"]
    assert "are damaged: Secrets that were encrypted with them cannot be read" in world.problems[0]
    kept = list(Path(world.paths.encryption).rglob("*.damaged-*"))
    assert len(kept) == 2


def test_what_changes_meanwhile_is_no_failure_and_a_refusal_is_tried_again(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(world)
    tell(world, secrets_encryption=False)
    start(world)
    changed = 'Error from server (Conflict): error when replacing "x": the object has been modified'
    refused = "Error from server (InternalError): etcdserver: request timed out"
    rewritten(world, monkeypatch, (1, refused), (1, f"{changed}\n{refused}"), (1, changed))
    assert "Secrets in the datastore are not encrypted" in world.console


@pytest.mark.parametrize(
    ("said", "enforced", "warned"),
    [
        (None, "baseline", "restricted"),
        ("privileged", "privileged", "baseline"),
        ("baseline", "baseline", "restricted"),
        ("restricted", "restricted", "restricted"),
    ],
)
def test_which_pods_are_admitted(
    world: NodeWorld, said: str | None, enforced: str, warned: str
) -> None:
    if said is not None:
        tell(world, pod_security=said)
    start(world)
    assert flags(world)["admission-control-config-file"] == f"{world.paths.config}/admission.json"
    plugin, _ = document(world, "admission.json")["plugins"]
    assert plugin["name"] == "PodSecurity"
    defaults = plugin["configuration"]["defaults"]
    found = tuple(defaults[mode] for mode in ("enforce", "warn", "audit"))
    assert found == (enforced, warned, warned)


def test_what_the_image_brings_is_exempt() -> None:
    assert {objects.NAMESPACE, portainer.NAMESPACE} < set(policies.EXEMPT)
    jobs = yaml.safe_load_all(render("updates", kubernetes="1.36.0", server="http://10.0.0.1"))
    spaces = {entry["metadata"].get("namespace") for entry in jobs} - {None}
    assert spaces <= set(policies.EXEMPT)
    folder = Path(__file__).parents[3] / "images" / "go"
    for path in folder.glob("*/manifests/*.yaml"):
        for entry in yaml.safe_load_all(path.read_text()):
            if entry["kind"] in ("Deployment", "DaemonSet"):
                assert entry["metadata"]["namespace"] in policies.EXEMPT, path


def test_the_audit_log_is_bounded_and_may_be_off(world: NodeWorld) -> None:
    start(world)
    found = flags(world)
    assert found["audit-log-path"] == f"{world.paths.audit}/audit.log"
    assert int(found["audit-log-maxsize"]) * (1 + int(found["audit-log-maxbackup"])) < 64
    assert int(found["audit-log-maxage"]) == 30
    tell(world, audit_log=False)
    start(world)
    assert not [name for name in flags(world) if name.startswith("audit")]


def level_of(user: str, groups: list[str], verb: str, group: str, resource: str) -> str:
    """The level of the first rule that fits, as the API server chooses it."""
    rules: Any = policies.audit()["rules"]
    for rule in rules:
        if "users" in rule and user not in rule["users"]:
            continue
        if "userGroups" in rule and not set(groups) & set(rule["userGroups"]):
            continue
        if "verbs" in rule and verb not in rule["verbs"]:
            continue
        if "nonResourceURLs" in rule:
            continue
        if "resources" in rule and not any(
            entry["group"] == group and resource in entry.get("resources", [resource])
            for entry in rule["resources"]
        ):
            continue
        return str(rule["level"])
    return "None"


ADMIN, NODE = ("kubernetes-admin", ["system:masters"]), ("system:node:n", ["system:nodes"])
MANAGER = ("system:kube-controller-manager", ["system:masters"])
POD = ("system:serviceaccount:shop:web", ["system:serviceaccounts:shop"])


@pytest.mark.parametrize(
    ("who", "verb", "group", "resource", "level"),
    [
        (ADMIN, "get", "", "secrets", "Metadata"),
        (ADMIN, "create", "", "secrets", "Metadata"),
        (NODE, "watch", "", "secrets", "Metadata"),
        (MANAGER, "list", "", "secrets", "Metadata"),
        (POD, "list", "", "secrets", "Metadata"),
        (ADMIN, "update", "", "configmaps", "Metadata"),
        (POD, "create", "authentication.k8s.io", "tokenreviews", "Metadata"),
        (ADMIN, "get", "", "pods/exec", "Metadata"),
        (POD, "create", "", "pods/exec", "Metadata"),
        (ADMIN, "create", "rbac.authorization.k8s.io", "clusterrolebindings", "Request"),
        (ADMIN, "delete", "apps", "deployments", "Metadata"),
        (POD, "list", "", "pods", "Metadata"),
        (NODE, "update", "coordination.k8s.io", "leases", "None"),
        (NODE, "patch", "", "nodes/status", "None"),
        (MANAGER, "watch", "", "pods", "None"),
        (NODE, "watch", "", "configmaps", "None"),
        (ADMIN, "create", "", "events", "None"),
    ],
)
def test_what_is_written_into_the_audit_log(
    who: tuple[str, list[str]], verb: str, group: str, resource: str, level: str
) -> None:
    assert level_of(*who, verb, group, resource) == level


def test_no_rule_writes_an_answer() -> None:
    rules: Any = policies.audit()["rules"]
    assert {rule["level"] for rule in rules} == {"None", "Metadata", "Request"}


def test_the_rules_of_either_family() -> None:
    allowed = ("10.0.0.0/8", "192.168.7.1", "fd00::/8")
    assert access.rules(4, allowed).splitlines() == [
        "*filter",
        ":KUBESOLO-API - [0:0]",
        "-A KUBESOLO-API -i lo -j RETURN",
        "-A KUBESOLO-API -i cni0 -j RETURN",
        "-A KUBESOLO-API -s 10.0.0.0/8 -j RETURN",
        "-A KUBESOLO-API -s 192.168.7.1 -j RETURN",
        "-A KUBESOLO-API -j DROP",
        "COMMIT",
    ]
    six = access.rules(6, allowed)
    assert "-s fd00::/8 -j RETURN" in six
    assert "10.0.0.0" not in six
    assert "-s" not in access.rules(4, ("node",)).replace("--", "")


def test_access_is_closed_and_opened_again(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    present = False

    def run(argv: list[str]) -> tuple[int, str]:
        asked.append(" ".join(argv))
        return (0 if present or "--check" not in argv else 1), ""

    monkeypatch.setattr(program, "run", run)
    start(world)
    tell(world, api_access=["all"])
    start(world)
    assert asked == []
    tell(world, api_access=["node"])
    start(world)
    for family in ("iptables", "ip6tables"):
        assert f"{family}-restore --wait --noflush {world.paths.api_filter}" in asked
        for port in (6443, 10250):
            jump = f"INPUT -p tcp --dport {port} -j KUBESOLO-API"
            assert f"{family} --wait --insert {jump}" in asked
    asked.clear()
    present = True
    start(world)
    assert not [line for line in asked if "--insert" in line]
    tell(world)
    asked.clear()
    start(world)
    assert len([line for line in asked if "--delete" in line]) == 4
    asked.clear()
    start(world)
    assert asked == []


def test_what_cannot_be_closed_is_said(world: NodeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def require(argv: list[str]) -> None:
        raise AgentError("iptables-restore failed (1): no output")

    monkeypatch.setattr(program, "require", require)
    tell(world, api_access=["10.0.0.0/8"])
    start(world)
    assert "api-access: the API server is open to every network" in world.problems[0]


def test_the_first_provider_says_how_secrets_are_written() -> None:
    keys = (encryption.Key("key-2", "x"), encryption.Key("key-1", "y"))
    assert encryption.target_of(encryption._configuration(keys, True)) == "key-2"
    assert encryption.target_of(encryption._configuration(keys, False)) == "plain"


def test_the_kubelet_listens_on_the_nodes_address_alone(world: NodeWorld) -> None:
    start(world)
    kubelet = document(world, "kubelet.json")
    assert kubelet["address"] == "10.0.2.15"
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["readOnlyPort"] == 0
    assert kubelet["tlsMinVersion"] == flags(world)["tls-min-version"] == "VersionTLS12"
    assert ",".join(kubelet["tlsCipherSuites"]) == flags(world)["tls-cipher-suites"]
