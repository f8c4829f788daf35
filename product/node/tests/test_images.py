"""Which archives containerd still has to be given."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from product.agent.system import program
from product.node.errors import NodeError, ProgramFailedError
from product.node.images import archives, import_pending, index_digest, pending

EMPTY = json.dumps({"manifests": []})
OTHER = json.dumps({"manifests": [], "other": True})


def archive(path: Path, index: str = EMPTY, *, padding: int = 5000) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in (("blobs/sha256/x", b"x" * padding), ("index.json", index.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


class Ctr:
    """What was run instead of containerd's client."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.imported: list[str] = []
        self.pinned: list[str] = []
        self.kept: list[str] = []

    def __call__(self, argv: list[str]) -> tuple[int, str]:
        if argv[-2:] == ["ls", "-q"]:
            return self.status, "\n".join(self.kept)
        if "label" in argv:
            self.pinned.append(argv[-2])
            return self.status, ""
        self.imported.append(argv[-1].rpartition("/")[2])
        return self.status, "unpacking\nctr: it broke" if self.status else ""


@pytest.fixture
def ctr(monkeypatch: pytest.MonkeyPatch) -> Ctr:
    found = Ctr()
    monkeypatch.setattr(program, "run", found)
    return found


def test_each_archive_is_imported_once_and_pause_first(tmp_path: Path, ctr: Ctr) -> None:
    folder, note = tmp_path / "images", str(tmp_path / "note.json")
    for name in ("busybox", "pause", "nginx"):
        archive(folder / f"{name}.tar", json.dumps({"manifests": [], "name": name}))
    assert import_pending(str(folder), note, "/socket") == 3
    assert ctr.imported == ["pause.tar", "busybox.tar", "nginx.tar"]
    assert import_pending(str(folder), note, "/socket") == 0
    assert len(ctr.imported) == 3


def test_an_archive_that_nothing_asks_for_stays_where_it_is(tmp_path: Path, ctr: Ctr) -> None:
    folder, note = tmp_path / "images", str(tmp_path / "note.json")
    for name in ("metrics-server", "pause"):
        archive(folder / f"{name}.tar", json.dumps({"manifests": [], "name": name}))
    unwanted = {"metrics-server"}
    assert import_pending(str(folder), note, "/socket", unwanted) == 1
    assert pending(str(folder), note, unwanted) == []
    assert ctr.imported == ["pause.tar"]
    assert pending(str(folder), note) == [f"{folder}/metrics-server.tar"]
    assert import_pending(str(folder), note, "/socket") == 1
    # It was removed since, and nothing asks for it any more.
    named = [{"annotations": {"io.containerd.image.name": "metrics"}}]
    archive(folder / "metrics-server.tar", json.dumps({"manifests": named}))
    import_pending(str(folder), note, "/socket")
    ctr.imported.clear()
    assert import_pending(str(folder), note, "/socket", unwanted) == 0
    assert ctr.imported == []


def test_what_was_removed_for_want_of_room_is_imported_again(tmp_path: Path, ctr: Ctr) -> None:
    folder, note = tmp_path / "images", str(tmp_path / "note.json")
    for name in ("pause", "agent"):
        named = {"annotations": {"io.containerd.image.name": f"kubesolo.io/{name}:1"}}
        archive(folder / f"{name}.tar", json.dumps({"manifests": [named]}))
    assert import_pending(str(folder), note, "/socket") == 2
    ctr.kept = ["kubesolo.io/pause:1", "kubesolo.io/agent:1", "sha256:1234"]
    assert import_pending(str(folder), note, "/socket") == 0
    ctr.kept.remove("kubesolo.io/agent:1")
    assert import_pending(str(folder), note, "/socket") == 1
    assert ctr.imported == ["pause.tar", "agent.tar", "agent.tar"]
    # The kubelet leaves these alone, however full the disk.
    assert ctr.pinned == ["kubesolo.io/pause:1", "kubesolo.io/agent:1", "kubesolo.io/agent:1"]


def test_a_changed_archive_is_imported_again(tmp_path: Path, ctr: Ctr) -> None:
    folder, note = tmp_path / "images", str(tmp_path / "note.json")
    archive(folder / "pause.tar")
    archive(folder / "nginx.tar")
    import_pending(str(folder), note, "/socket")
    archive(folder / "nginx.tar", OTHER)
    assert [Path(path).name for path in pending(str(folder), note)] == ["nginx.tar"]


@pytest.mark.parametrize("garbage", ["", "{", "[]", "null", "[" * 100000])
def test_a_damaged_note_costs_an_import(tmp_path: Path, ctr: Ctr, garbage: str) -> None:
    folder, note = tmp_path / "images", tmp_path / "note.json"
    archive(folder / "pause.tar")
    note.write_text(garbage)
    assert import_pending(str(folder), str(note), "/socket") == 1
    assert json.loads(note.read_text())


def test_a_refused_archive_is_no_imported_one(tmp_path: Path, ctr: Ctr) -> None:
    folder, note = tmp_path / "images", str(tmp_path / "note.json")
    archive(folder / "pause.tar")
    ctr.status = 1
    with pytest.raises(ProgramFailedError, match=r"pause\.tar' \(1\): ctr: it broke"):
        import_pending(str(folder), note, "/socket")
    assert pending(str(folder), note)


def test_no_folder_is_no_archives(tmp_path: Path) -> None:
    assert archives(str(tmp_path / "none")) == []


def test_garbage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(NodeError, match=r"x\.tar is no"):
        index_digest(str(path))
    path.write_bytes(b"\0" * 10240)
    with pytest.raises(NodeError, match="it has no index"):
        index_digest(str(path))
