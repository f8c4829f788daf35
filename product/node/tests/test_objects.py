"""The image's own objects: sent once, and again when they changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.agent.system import program
from product.node.errors import NodeError, ProgramFailedError
from product.node.objects import apply, manifests
from product.node.paths import NodePaths
from product.node.payload import Payload

PAYLOAD = Payload("upstream", "1.36.3", "/c.sock", "/d", "kubernetes", "", "/admin.kubeconfig")


class Kubectl:
    """What was run instead of kubectl; it keeps the note as the cluster would."""

    def __init__(self, paths: NodePaths) -> None:
        self._paths = paths
        self.note = ""
        self.applied: list[list[str]] = []
        self.status = 0

    def __call__(self, argv: list[str]) -> tuple[int, str]:
        assert argv[:2] == ["kubectl", "--kubeconfig=/admin.kubeconfig"]
        if "get" in argv:
            return 0, self.note
        if self.status:
            return self.status, "warning: old\nerror: no such kind"
        files = [word.partition("=")[2] for word in argv if word.startswith("--filename=")]
        self.applied.append(files)
        self.note = json.loads(Path(files[-1]).read_text())["data"]["digest"]
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
    assert apply(paths, PAYLOAD)
    assert not apply(paths, PAYLOAD)
    assert kubectl.applied == [[str(folder / "a.yaml"), str(folder / "b.yaml"), paths.objects_note]]
    (folder / "a.yaml").write_text("other")
    assert apply(paths, PAYLOAD)
    assert not apply(paths, PAYLOAD)
    # A datastore that was put back knows the older note, or none.
    kubectl.note = ""
    assert apply(paths, PAYLOAD)


def test_what_the_cluster_refuses_is_said_and_tried_again(
    paths: NodePaths, kubectl: Kubectl
) -> None:
    (Path(paths.manifests) / "a.yaml").write_text("a")
    kubectl.status = 1
    with pytest.raises(ProgramFailedError, match=r"apply failed \(1\): error: no such kind"):
        apply(paths, PAYLOAD)
    kubectl.status = 0
    assert apply(paths, PAYLOAD)


def test_an_image_without_objects_sends_nothing(tmp_path: Path, kubectl: Kubectl) -> None:
    paths = NodePaths(str(tmp_path / "other"))
    assert manifests(paths.manifests) == []
    assert not apply(paths, PAYLOAD)
    assert kubectl.applied == []


def test_an_unreadable_manifest_is_an_error(paths: NodePaths, kubectl: Kubectl) -> None:
    (Path(paths.manifests) / "a.yaml").mkdir()
    with pytest.raises(NodeError, match="cannot read the image's objects"):
        apply(paths, PAYLOAD)
