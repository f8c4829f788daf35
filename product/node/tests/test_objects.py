"""The image's own objects: sent once, and again when they changed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from product.agent.system import program
from product.image.oci.images import image_name
from product.image.tools import IMAGES
from product.node import pki
from product.node.console import Reporter
from product.node.errors import NodeError, ProgramFailedError
from product.node.objects import apply, apply_patiently, manifests
from product.node.paths import NodePaths
from product.node.payload import Payload
from product.node.pki import Identity
from product.node.portainer import objects
from product.node.settings import Setting, Settings
from product.node.upstream import configuration

METRICS_SERVER = IMAGES / "go/metrics-server/manifests/metrics-server.yaml"
PAYLOAD = Payload("upstream", "1.36.3", "/c.sock", "/d", "kubernetes", "", "/admin.kubeconfig")


class Kubectl:
    """What was run instead of kubectl; it keeps the note as the cluster would."""

    def __init__(self, paths: NodePaths) -> None:
        self._paths = paths
        self.note: dict[str, str] = {}
        self.refused = ""
        self.applied: list[list[str]] = []
        self.deleted: list[str] = []
        self.created: list[list[str]] = []
        self.answer = (0, "")
        self.status = 0

    def __call__(self, argv: list[str]) -> tuple[int, str]:
        assert argv[:2] == ["kubectl", "--kubeconfig=/admin.kubeconfig"]
        if "get" in argv:
            assert argv[-1] == "--raw=/api/v1/namespaces/kube-system/configmaps/kubesolo-objects"
            if self.refused or not self.note:
                return 1, self.refused or 'Error from server (NotFound): configmaps "k" not found'
            return 0, f"W1201 a warning of kubectl\n{json.dumps({'data': self.note})}"
        if "delete" in argv:
            assert "--ignore-not-found" in argv
            path = next(word.partition("=")[2] for word in argv if word.startswith("--filename="))
            self.deleted.append(Path(path).read_text())
            return 0, ""
        if self.status and "apply" in argv:
            return self.status, "warning: old\nerror: no such kind"
        if "create" in argv:
            path = argv[-1].partition("=")[2]
            assert os.stat(path).st_mode & 0o777 == 0o600
            items = json.loads(Path(path).read_text())["items"]
            self.created.append([f"{item['kind']}/{item['metadata']['name']}" for item in items])
            return self.answer
        files = [word.partition("=")[2] for word in argv if word.startswith("--filename=")]
        self.applied.append(files)
        self.note = json.loads(Path(files[-1]).read_text())["data"]
        return 0, ""


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    made = NodePaths(str(tmp_path))
    for folder in (made.manifests, made.config):
        Path(folder).mkdir(parents=True)
    return made


@pytest.fixture
def kubectl(paths: NodePaths, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    found = Kubectl(paths)
    monkeypatch.setattr(program, "run", found)
    return found


def test_objects_are_sent_once_and_again_when_they_changed(
    paths: NodePaths, kubectl: Kubectl
) -> None:
    folder = Path(paths.manifests)
    for name in ("b.yaml", "a.yaml", "README"):
        (folder / name).write_text(name)
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert not apply(paths, PAYLOAD, Reporter(paths))
    assert kubectl.applied == [[paths.objects_applied, paths.objects_note]]
    assert Path(paths.objects_applied).read_text() == "a.yaml---\nb.yaml"
    (folder / "a.yaml").write_text("other")
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert not apply(paths, PAYLOAD, Reporter(paths))
    # A datastore that was put back knows the older note, or none.
    kubectl.note = {}
    assert apply(paths, PAYLOAD, Reporter(paths))
    kubectl.note = {"digest": "that of an older image"}
    assert apply(paths, PAYLOAD, Reporter(paths))


def test_an_api_server_that_does_not_answer_is_no_missing_note(
    paths: NodePaths, kubectl: Kubectl
) -> None:
    (Path(paths.manifests) / "a.yaml").write_text("a")
    kubectl.refused = "Error from server (Timeout): the request did not complete"
    with pytest.raises(ProgramFailedError, match=r"kubectl get failed \(1\): .*Timeout"):
        apply(paths, PAYLOAD, Reporter(paths))
    assert kubectl.applied == []


def test_metrics_are_served_while_the_setting_asks_for_them(
    paths: NodePaths, kubectl: Kubectl
) -> None:
    """With the manifest that the image has."""
    (Path(paths.manifests) / "a.yaml").write_text("a")
    manifest = Path(shutil.copy(METRICS_SERVER, paths.manifests))
    text = manifest.read_text()
    applied = Path(paths.objects_applied)
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert applied.read_text() == "a"
    _settings(paths, {"metrics-server": True})
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert applied.read_text() == f"a---\n{text}"
    assert kubectl.deleted == []
    _settings(paths, {"metrics-server": False})
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert kubectl.deleted == [text]
    assert applied.read_text() == "a"
    assert not apply(paths, PAYLOAD, Reporter(paths))
    # Also an image that does not bring it: the objects are those that the note has.
    _settings(paths, {"metrics-server": True})
    assert apply(paths, PAYLOAD, Reporter(paths))
    manifest.unlink()
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert kubectl.deleted == [text, text]
    assert not apply(paths, PAYLOAD, Reporter(paths))


def test_metrics_servers_way_to_the_kubelet_is_what_the_certificates_allow(
    paths: NodePaths,
) -> None:
    """It asks for the node's address, and trusts what the cluster's authority signed."""
    objects = list(yaml.safe_load_all(METRICS_SERVER.read_text()))
    (deployment,) = (one for one in objects if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = dict(word.removeprefix("--").partition("=")[::2] for word in container["args"])
    assert "kubelet-insecure-tls" not in given
    assert given["kubelet-preferred-address-types"] == "InternalIP"
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert given["kubelet-certificate-authority"] == f"{folder}/ca.crt"
    identity = Identity("node-1", "10.0.2.15")
    (leaf,) = (leaf for leaf in pki.leaves(identity) if leaf.name == "kubelet")
    assert (leaf.authority, leaf.server) == (pki.CLUSTER_AUTHORITY, True)
    assert identity.address in leaf.addresses
    Path(paths.pki).mkdir(parents=True)
    for name in pki.files(identity):
        (Path(paths.pki) / name).write_text("")
    made = configuration(paths, identity, datastore="/d")
    kubelet = json.loads(made.files["kubelet.json"])
    assert kubelet["tlsCertFile"] == f"{paths.pki}/kubelet.crt"
    # What pods get as ca.crt.
    assert f"root-ca-file={paths.pki}/ca.crt" in made.plan
    # Its account's token is judged by the API server.
    assert kubelet["authentication"]["webhook"]["enabled"]
    assert kubelet["authorization"]["mode"] == "Webhook"
    # Its certificate lies where it may write, and a name finds its image without a registry.
    assert f"{given['cert-dir']}" in [one["mountPath"] for one in container["volumeMounts"]]
    assert container["image"] == image_name("metrics-server")
    assert container["imagePullPolicy"] == "Never"


def test_what_the_cluster_refuses_is_said_and_tried_again(
    paths: NodePaths, kubectl: Kubectl
) -> None:
    (Path(paths.manifests) / "a.yaml").write_text("a")
    kubectl.status = 1
    with pytest.raises(ProgramFailedError, match=r"apply failed \(1\): error: no such kind"):
        apply(paths, PAYLOAD, Reporter(paths))
    kubectl.status = 0
    assert apply(paths, PAYLOAD, Reporter(paths))


def test_an_image_without_objects_sends_nothing(tmp_path: Path, kubectl: Kubectl) -> None:
    paths = NodePaths(str(tmp_path / "other"))
    assert manifests(paths.manifests) == []
    assert not apply(paths, PAYLOAD, Reporter(paths))
    assert kubectl.applied == []


def test_an_unreadable_manifest_is_an_error(paths: NodePaths, kubectl: Kubectl) -> None:
    (Path(paths.manifests) / "a.yaml").mkdir()
    with pytest.raises(NodeError, match="cannot read the image's objects"):
        apply(paths, PAYLOAD, Reporter(paths))


def _edge(paths: NodePaths, **more: object) -> None:
    _settings(paths, {"portainer-edge-id": "00123", "portainer-edge-key": "c2VjcmV0", **more})


def _settings(paths: NodePaths, settings: dict[str, object]) -> None:
    Path(paths.settings).parent.mkdir(parents=True, exist_ok=True)
    Path(paths.settings).write_text(json.dumps({"schema": 1, "settings": settings}))


def test_portainers_agent_is_set_up_by_the_settings(paths: NodePaths, kubectl: Kubectl) -> None:
    (Path(paths.manifests) / "a.yaml").write_text("a")
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert kubectl.created == []
    _edge(paths)
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert not apply(paths, PAYLOAD, Reporter(paths))
    assert kubectl.created == [
        [
            "Namespace/portainer", "ServiceAccount/portainer-sa-clusteradmin",
            "ClusterRoleBinding/portainer-crb-clusteradmin", "ConfigMap/portainer-agent-edge",
            "Secret/portainer-agent-edge-key", "Service/portainer-agent",
            "Deployment/portainer-agent",
        ]
    ]  # fmt: skip
    # The key lies nowhere else.
    assert not os.path.exists(paths.objects_made)
    assert "c2VjcmV0" not in Path(paths.objects_note).read_text()


ALREADY = (
    'Error from server (AlreadyExists): error when creating "x": namespaces "portainer" already '
    "exists"
)


def test_what_is_there_stays_and_any_other_refusal_is_an_error(
    paths: NodePaths, kubectl: Kubectl
) -> None:
    _edge(paths)
    (Path(paths.manifests) / "a.yaml").write_text("a")
    kubectl.answer = (1, f"{ALREADY}\nError from server (Forbidden): no")
    with pytest.raises(ProgramFailedError, match="kubectl create failed"):
        apply(paths, PAYLOAD, Reporter(paths))
    assert not os.path.exists(paths.objects_made)
    kubectl.answer = (1, "unable to connect")
    with pytest.raises(ProgramFailedError, match="unable to connect"):
        apply(paths, PAYLOAD, Reporter(paths))
    kubectl.answer = (1, f"secret/portainer-agent-edge-key created\n{ALREADY}")
    assert apply(paths, PAYLOAD, Reporter(paths))


def test_the_agents_objects_say_what_the_settings_say() -> None:
    values: dict[str, Setting] = {"portainer-edge-id": "00123"}
    assert objects(Settings(values)) == []
    values |= {"portainer-edge-key": "c2VjcmV0", "portainer-edge-async": True}
    made = {str(item["kind"]): item for item in objects(Settings(values))}
    assert made["ConfigMap"]["data"] == {
        "EDGE_ID": "00123", "EDGE_INSECURE_POLL": "true", "EDGE_ASYNC": "true",
    }  # fmt: skip
    assert made["Secret"]["stringData"] == {"edge.key": "c2VjcmV0"}
    assert '"image": "docker.io/portainer/agent:lts"' in json.dumps(made["Deployment"])
    values["portainer-edge-image"] = "registry.example/agent:2"
    made = {str(item["kind"]): item for item in objects(Settings(values))}
    assert '"image": "registry.example/agent:2"' in json.dumps(made["Deployment"])


def test_storage_is_as_the_settings_say(paths: NodePaths, kubectl: Kubectl) -> None:
    """With the manifest that the image has."""
    manifest = IMAGES / "go/local-path-provisioner/manifests/local-path.yaml"
    shutil.copy(manifest, paths.manifests)
    (Path(paths.manifests) / "metrics-server.yaml").write_text("metrics")
    (Path(paths.manifests) / "other.yaml").write_text("other")
    applied = Path(paths.objects_applied)
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert applied.read_text() == f"{manifest.read_text()}---\nother"
    _settings(paths, {"local-storage-shared-path": "/mnt/shared"})
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert '\n    {"sharedFileSystemPath": "/mnt/shared"}\n' in applied.read_text()
    assert "nodePathMap" not in applied.read_text()
    _settings(paths, {"local-storage": False})
    assert apply(paths, PAYLOAD, Reporter(paths))
    assert applied.read_text() == "other"


def test_a_busy_api_server_is_asked_again(
    paths: NodePaths, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(paths.manifests) / "a.yaml").write_text("a")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            kubectl.status = 0

    monkeypatch.setattr(time, "sleep", sleep)
    kubectl.status = 1
    assert apply_patiently(paths, PAYLOAD, Reporter(paths))
    assert len(slept) == 2
    (Path(paths.manifests) / "a.yaml").write_text("b")
    kubectl.status = 1
    slept += [0.0, 0.0]
    with pytest.raises(ProgramFailedError):
        apply_patiently(paths, PAYLOAD, Reporter(paths))


def test_an_api_server_that_stays_busy_is_asked_until_kubernetes_starts_anew(
    paths: NodePaths, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the objects no name is resolved, for as long as the node runs."""
    (Path(paths.manifests) / "a.yaml").write_text("a")
    ready = Path(paths.ready)
    ready.touch()
    slept: list[float] = []

    class Busy:
        def __init__(self, attempts: int, then: Callable[[], None]) -> None:
            self.attempts, self.then = attempts, then

        def __call__(self, seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == self.attempts:
                self.then()

    kubectl.status = 1
    monkeypatch.setattr(time, "sleep", Busy(20, lambda: setattr(kubectl, "status", 0)))
    assert apply_patiently(paths, PAYLOAD, Reporter(paths))
    assert slept == [15.0] * 4 + [300.0] * 16
    [problem] = Path(paths.problems).read_text().splitlines()
    assert problem.endswith("; it is tried again")

    (Path(paths.manifests) / "a.yaml").write_text("b")
    kubectl.status = 1
    slept.clear()
    monkeypatch.setattr(time, "sleep", Busy(7, ready.unlink))
    with pytest.raises(ProgramFailedError):
        apply_patiently(paths, PAYLOAD, Reporter(paths))
    assert len(slept) == 7
