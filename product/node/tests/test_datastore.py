"""A datastore that does not open any more."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from product.agent.datastore.copies import HEADROOM, DatastoreError
from product.image.tools import IMAGES
from product.node import datastore
from product.node.datastore import examine, is_damaged
from product.node.errors import NodeError
from product.node.space import FREE_BYTES
from product.node.tests.conftest import NodeWorld

# Speaks as etcd does: serves where the datastore is sound, else ends or hangs.
ETCD = """#!/usr/bin/env python3
import os, socket, sys, time
options = dict(word.lstrip("-").split("=", 1) for word in sys.argv[2:])
os.makedirs(options["data-dir"], exist_ok=True)
try:
    state = open(options["data-dir"] + "/db").read()
except FileNotFoundError:
    state = "sound"
if state == "killed":
    os.kill(os.getpid(), 9)
if state == "stubborn":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    state = "sound"
if state == "damaged" or "broken" in sys.argv[0]:
    sys.exit(2)
server = socket.socket(socket.AF_UNIX)
server.bind(options["listen-client-urls"].removeprefix("unix://"))
server.listen()
while True:
    client, _ = server.accept()
    client.recv(1000)
    answer = "200 OK" if state == "sound" else "503 No"
    client.sendall(f"HTTP/1.0 {answer}\\r\\n\\r\\n".encode())
    client.close()
"""


@pytest.fixture
def etcd(tmp_path: Path) -> str:
    path = tmp_path / "kubenode"
    path.write_text(ETCD)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def store(world: NodeWorld, etcd: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = Path(world.payload.datastore)
    path.mkdir(parents=True)
    (path / "db").write_text("sound")
    Path(world.paths.config).mkdir(parents=True)
    monkeypatch.setattr(datastore, "PROGRAM", etcd)
    monkeypatch.setattr(datastore, "_restore_copy", lambda: None)
    monkeypatch.setattr(datastore, "PROBE_SECONDS", 20.0)
    return path


def asides(world: NodeWorld) -> list[Path]:
    return sorted(Path(world.paths.asides).glob("aside-*/data"))


def test_a_sound_datastore_is_left_alone(world: NodeWorld, store: Path) -> None:
    examine(world.paths, world.payload, world.reporter, 15)
    assert (store / "db").read_text() == "sound"
    assert not asides(world)
    assert world.problems == ["Kubernetes ended by itself (kubelet, code 15) and is started again"]


def test_each_code_names_its_component(world: NodeWorld) -> None:
    """Those that the program itself ends with."""
    source = (IMAGES / "go/node/main.go").read_text()
    found = dict(re.findall(r'^\s*\{(?:name: )?"?([\w-]+)"?, (?:exit: )?(\w+)[,}]', source, re.M))
    names = {"etcdName": "etcd", "loadBalancerName": "load-balancer"}
    codes = {"etcdExit": 11}
    said = {codes.get(code) or int(code): names.get(name, name) for name, code in found.items()}
    assert said == {code: name for code, name in datastore.COMPONENTS.items() if code != 20}
    assert "etcdExit   = 11\n" in source
    assert "exitWait   = 20\n" in source


def test_an_etcd_that_does_not_end_is_killed(
    world: NodeWorld, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes starts again only afterwards."""
    monkeypatch.setattr(datastore, "END_SECONDS", 0.5)
    (store / "db").write_text("stubborn")
    examine(world.paths, world.payload, world.reporter, 15)
    assert not asides(world)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_damaged_one_is_kept_and_an_empty_one_used(world: NodeWorld, store: Path) -> None:
    world.write(world.paths.kill_pods, "")
    examine(world.paths, world.payload, world.reporter, 2)
    assert Path(world.paths.kill_pods).read_text() == ""
    (store / "db").write_text("damaged")
    examine(world.paths, world.payload, world.reporter, 2)
    (aside,) = asides(world)
    assert (aside / "db").read_text() == "damaged"
    assert list(store.iterdir()) == []
    # Pods would go on from what the damaged one had reached.
    assert Path(world.paths.kill_pods).read_text() == "1"
    assert "starts with an empty one, the damaged one is kept in" in world.problems[-1]


def test_a_release_on_trial_replaces_nothing(world: NodeWorld, store: Path) -> None:
    """It would be committed with an empty cluster."""
    (store / "db").write_text("damaged")
    world.write(world.paths.early, "slot=B\nconfirmed=0\nenv=ok\n")
    with pytest.raises(NodeError, match="the release is on trial"):
        examine(world.paths, world.payload, world.reporter, 11)
    world.write(world.paths.report, '{"outcome": "unhealthy", "confirmed": false}')
    with pytest.raises(NodeError, match="the release is on trial"):
        examine(world.paths, world.payload, world.reporter, 11)
    assert (store / "db").read_text() == "damaged"
    assert not asides(world)


@pytest.mark.parametrize(
    ("early", "report"),
    [
        ("confirmed=1\nenv=ok\n", None),
        ("confirmed=0\nenv=ok\n", '{"outcome": "ready", "confirmed": true}'),
        ("confirmed=0\nenv=missing\n", None),
    ],
)
def test_where_nothing_is_on_trial_it_is_replaced(
    world: NodeWorld, store: Path, early: str, report: str | None
) -> None:
    (store / "db").write_text("damaged")
    world.write(world.paths.early, early)
    if report:
        world.write(world.paths.report, report)
    examine(world.paths, world.payload, world.reporter, 11)
    assert asides(world)


def test_a_copy_goes_before_an_empty_one(
    world: NodeWorld, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "db").write_text("damaged")
    monkeypatch.setattr(datastore, "_restore_copy", lambda: "the copy of yesterday was put back")
    examine(world.paths, world.payload, world.reporter, 11)
    assert world.problems[-1] == "Kubernetes: the copy of yesterday was put back"
    assert not asides(world)


def test_a_copy_that_does_not_open_either_gives_way(
    world: NodeWorld, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "db").write_text("damaged")
    monkeypatch.setattr(datastore, "_restore_copy", lambda: "put back")
    examine(world.paths, world.payload, world.reporter, 11)
    examine(world.paths, world.payload, world.reporter, 11)
    assert len(asides(world)) == 1
    (store / "db").write_text("damaged")
    with pytest.raises(NodeError, match="was replaced 2 times in this boot"):
        examine(world.paths, world.payload, world.reporter, 11)
    assert (store / "db").read_text() == "damaged"


@pytest.mark.parametrize(
    "error",
    [
        DatastoreError("a copy takes 9 bytes, and 8 are free", code="no-space"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_copy_that_has_no_room_waits_for_it(
    world: NodeWorld, store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    (store / "db").write_text("damaged")
    monkeypatch.setattr(datastore, "_restore_copy", fail)
    for _ in range(4):
        with pytest.raises(NodeError, match="its copy cannot be put back"):
            examine(world.paths, world.payload, world.reporter, 11)
    assert (store / "db").read_text() == "damaged"
    monkeypatch.setattr(datastore, "_restore_copy", lambda: "the copy was put back")
    examine(world.paths, world.payload, world.reporter, 11)
    assert world.problems[-1] == "Kubernetes: the copy was put back"


def test_an_etcd_that_is_killed_says_nothing_of_the_datastore(
    world: NodeWorld, store: Path
) -> None:
    (store / "db").write_text("killed")
    with pytest.raises(NodeError, match="etcd was killed while it opened"):
        examine(world.paths, world.payload, world.reporter, 11)
    assert (store / "db").read_text() == "killed"


def test_a_copy_leaves_the_room_that_kubernetes_needs() -> None:
    assert HEADROOM > FREE_BYTES


def test_a_failed_restore_is_said(
    world: NodeWorld, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise NodeError("the copies are garbage")

    (store / "db").write_text("damaged")
    monkeypatch.setattr(datastore, "_restore_copy", fail)
    examine(world.paths, world.payload, world.reporter, 11)
    assert "no copy of the datastore could be put back" in world.problems[-2]
    assert len(asides(world)) == 1


def test_a_full_disk_is_not_taken_for_damage(
    world: NodeWorld, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 100, 4096

    (store / "db").write_text("damaged")
    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    with pytest.raises(NodeError, match="full"):
        examine(world.paths, world.payload, world.reporter, 11)
    assert not asides(world)


def test_one_that_is_slow_is_not_damaged(
    world: NodeWorld, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "db").write_text("electing")
    monkeypatch.setattr(datastore, "PROBE_SECONDS", 1.0)
    assert not is_damaged(world.paths, str(store))


def test_an_etcd_that_opens_nothing_proves_nothing(
    world: NodeWorld, store: Path, etcd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datastore, "PROGRAM", str(Path(etcd).rename(f"{etcd}-broken")))
    with pytest.raises(NodeError, match=r"neither .* nor an empty datastore"):
        examine(world.paths, world.payload, world.reporter, -1)
    assert (store / "db").read_text() == "sound"
    assert list(store.parent.iterdir()) == [store]


def test_the_probe_leaves_no_process(world: NodeWorld, store: Path) -> None:
    assert not is_damaged(world.paths, str(store))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
