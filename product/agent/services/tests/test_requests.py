"""Requests of pods: what is served, and what hostile ones come to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from product.agent.services.request_directory import MAX_BYTES, MAX_SERVED, MAX_TEXT, STALE, opened
from product.agent.services.requests import main, serve
from product.agent.system.lock import exclusive
from product.agent.tests.support_cluster import Cluster
from product.agent.tests.world import FakeRelease, Rebooted, World
from product.agent.update.gates import BLOCK_LABEL


class Pod:
    """Somebody who has the directory."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = Path(world.paths.data) / "requests"
        self.folder.mkdir(parents=True)

    def ask(self, text: str | bytes, name: str = "pod-1") -> None:
        data = text.encode() if isinstance(text, str) else text
        (self.folder / f"{name}.request").write_bytes(data)

    def serve(self) -> None:
        """One round of the service; a reboot ends it."""
        with contextlib.suppress(Rebooted):
            assert main(self.world.node()) == 0

    def answer(self, name: str = "pod-1") -> dict[str, object]:
        path = self.folder / f"{name}.reply"
        assert stat.S_ISREG(path.lstat().st_mode)
        document = json.loads(path.read_text())
        assert list(document) == ["exit", "outcome", "text"]
        assert not list(self.folder.glob("*.request"))
        assert not list(self.folder.glob(".reply-*"))
        assert isinstance(document, dict)
        return document

    def asked(self, text: str | bytes) -> dict[str, object]:
        self.ask(text)
        self.serve()
        return self.answer()


@pytest.fixture
def pod(world: World) -> Pod:
    # The age of files is judged by it.
    world.clock.seconds = time.time()
    return Pod(world)


def test_check(world: World, pod: Pod) -> None:
    assert pod.asked('{"action": "check"}')["exit"] == 0
    world.offered = FakeRelease("0.2.0")
    answer = pod.asked('{"action": "check"}')
    assert (answer["exit"], answer["outcome"]) == (10, "available")
    assert answer["text"] == "0.2.0 is available, 0.1.0 runs"
    assert world.reboots == 0


def test_healthcheck(world: World, pod: Pod) -> None:
    answer = pod.asked('{"action": "healthcheck"}')
    assert (answer["exit"], answer["outcome"]) == (0, "done")
    assert "disk_writable: pass" in str(answer["text"])
    world.break_disk()
    answer = pod.asked('{"action": "healthcheck"}')
    assert (answer["exit"], answer["outcome"]) == (1, "failed")
    world.mend_disk()


def test_apply_stages_answers_and_reboots(world: World, pod: Pod, cluster: Cluster) -> None:
    world.offered = FakeRelease("0.2.0")
    answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["outcome"]) == (0, "rebooting")
    assert answer["text"] == "0.2.0 is staged in slot B; the node reboots into it"
    assert world.reboots == 1
    assert world.env()["active_slot"] == "B"
    assert world.env()["boot_success"] == "0"


def test_what_was_armed_before_is_rebooted_into(world: World, pod: Pod, cluster: Cluster) -> None:
    """An earlier request armed it, and the window closed before the reboot."""
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    assert world.run("activate") == 0
    answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["outcome"]) == (0, "rebooting")
    assert answer["text"] == "0.2.0 is staged in slot B; the node reboots into it"
    assert world.reboots == 1


@pytest.mark.parametrize("armed", [False, True])
def test_the_pod_is_told_which_gate_was_bypassed(world: World, pod: Pod, armed: bool) -> None:
    """Nobody could ask whether the node's label forbids the update that reboots it."""
    world.offered = FakeRelease("0.2.0")
    world.write_file(world.paths.kubeconfig, "{}")
    if armed:
        assert world.run("apply") == 0
        assert world.run("activate") == 0
    answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["outcome"]) == (0, "rebooting")
    assert answer["text"] == (
        "0.2.0 is staged in slot B; the node reboots into it; bypassed node_block_label: "
        f"{world.paths.kubeconfig} is no usable kubeconfig: contexts has no None, "
        f"so {BLOCK_LABEL} cannot be asked for"
    )
    assert world.reboots == 1


def test_the_pod_is_told_what_apply_bypassed_although_the_label_was_read_later(
    world: World, pod: Pod, cluster: Cluster
) -> None:
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply", "--force") == 0
    assert world.run("activate") == 0
    answer = pod.asked('{"action": "apply"}')
    assert str(answer["text"]).endswith(
        "bypassed maintenance_window: --force was given; node_block_label: --force was given"
    )


def test_apply_without_news_does_not_reboot(world: World, pod: Pod) -> None:
    world.offered = None
    answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["text"]) == (0, "0.1.0 is up to date")
    assert world.reboots == 0


def test_the_reboot_waits_until_the_answer_is_taken(
    world: World, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.offered = FakeRelease("0.2.0")
    pauses: list[float] = []

    def take(seconds: float) -> None:
        pauses.append(seconds)
        assert world.reboots == 0
        if len(pauses) == 3:
            (pod.folder / "pod-1.reply").unlink()

    monkeypatch.setattr(world.clock, "pause", take)
    pod.ask('{"action": "apply"}')
    pod.serve()
    assert len(pauses) == 3
    assert world.reboots == 1


def test_a_refusal_is_passed_on(world: World, pod: Pod) -> None:
    world.offered = FakeRelease("0.0.1")
    answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["outcome"]) == (11, "refused")
    assert "0.0.1" in str(answer["text"])
    assert world.reboots == 0


@pytest.mark.parametrize("armed", [False, True])
@pytest.mark.parametrize("line", ["maintenance_windw=1:00-2:00", "maintenance_window=nightly"])
def test_a_window_that_is_not_known_arms_and_reboots_nothing(
    world: World, pod: Pod, armed: bool, line: str
) -> None:
    world.offered = FakeRelease("0.2.0")
    if armed:
        assert world.run("apply") == 0
        assert world.run("activate") == 0
    with Path(world.paths.config).open("a") as config:
        config.write(f"{line}\n")
    answer = pod.asked('{"action": "apply"}')
    assert answer["outcome"] == ("refused" if armed else "failed")
    assert "update.conf line" in str(answer["text"])
    assert world.reboots == 0


def test_a_window_that_cannot_be_read_at_the_last_moment_reboots_nothing(
    world: World, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.offered = FakeRelease("0.2.0")

    def spoil(seconds: float) -> None:
        with Path(world.paths.config).open("a") as config:
            config.write("maintenance_window=nightly\n")
        (pod.folder / "pod-1.reply").unlink()

    monkeypatch.setattr(world.clock, "pause", spoil)
    pod.ask('{"action": "apply"}')
    pod.serve()
    assert world.reboots == 0


def test_a_window_that_closed_meanwhile_arms_nothing(
    world: World, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(world.paths.config).open("a") as config:
        config.write("maintenance_window=12:00-12:30\n")
    world.offered = FakeRelease("0.2.0")
    real = world._fetch

    def slow(*arguments: object, **named: object) -> int:
        world.clock.minute = 13 * 60
        return real(*arguments, **named)  # type: ignore[arg-type]

    from product.agent.sources import artifact

    monkeypatch.setattr(artifact, "fetch_artifact", slow)
    answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["outcome"]) == (11, "refused")
    assert world.reboots == 0
    assert world.env()["active_slot"] == "A"


def test_a_label_set_since_holds_back_what_was_armed(
    world: World, pod: Pod, cluster: Cluster
) -> None:
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    assert world.run("activate") == 0
    cluster.api.labels = {BLOCK_LABEL: "true"}
    answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["outcome"]) == (11, "refused")
    assert BLOCK_LABEL in str(answer["text"])
    assert world.reboots == 0


def test_another_agent_at_work_is_said(world: World, pod: Pod) -> None:
    with exclusive(world.paths.lock):
        answer = pod.asked('{"action": "apply"}')
    assert (answer["exit"], answer["outcome"]) == (12, "busy")


def test_the_pods_server_goes_before_the_nodes(
    world: World, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def find(source: object, config: object, **_: object) -> None:
        seen.append(getattr(config, "server", None))

    from product.agent.trust import client

    monkeypatch.setattr(client, "find_release", find)
    pod.asked('{"action": "check", "server": "https://updates.example:8443/a"}')
    pod.asked('{"action": "check", "server": null}')
    pod.asked('{"action": "check"}')
    assert seen == ["https://updates.example:8443/a", "http://server/", "http://server/"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"\0" * 100, "not JSON"),
        ("[" * 2000, "not JSON"),
        ("[]", "no JSON object"),
        ("1", "no JSON object"),
        ("null", "no JSON object"),
        ("{}", "the action is None"),
        ('{"action": "rollback"}', "the action is 'rollback'"),
        ('{"action": ["check"]}', r"the action is \['check'\]"),
        ('{"action": {"check": 1}}', "the action is"),
        ('{"action": "check", "force": true}', "unknown key 'force'"),
        ('{"action": "check", "server": 7}', "no http or https address"),
        ('{"action": "check", "server": ""}', "no http or https address"),
        ('{"action": "check", "server": "file:///etc/shadow"}', "no http or https address"),
        ('{"action": "check", "server": "--conf=/etc/shadow"}', "no http or https address"),
        ('{"action": "check", "server": "http://user:word@host/"}', "no http or https address"),
        ('{"action": "check", "server": "http://host/\\nx"}', "no http or https address"),
        ('{"action": "check", "server": "http://h/?a=1#b"}', "no http or https address"),
        ('{"action": "check", "server": "http://' + "a" * 600 + '"}', "no http or https address"),
        ('{"action": "check"}' + " " * MAX_BYTES, "larger than 4096 bytes"),
    ],
)
def test_a_request_that_is_none_is_answered_so(
    world: World, pod: Pod, text: str | bytes, words: str
) -> None:
    answer = pod.asked(text)
    assert (answer["exit"], answer["outcome"]) == (2, "invalid")
    assert re.search(words, str(answer["text"]))
    assert world.reboots == 0


def link(folder: Path, secret: Path) -> None:
    (folder / "pod-1.request").symlink_to(secret)


def dangling(folder: Path, secret: Path) -> None:
    (folder / "pod-1.request").symlink_to(secret.with_name("nowhere"))


def pipe(folder: Path, secret: Path) -> None:
    os.mkfifo(folder / "pod-1.request")


def directory(folder: Path, secret: Path) -> None:
    inner = folder / "pod-1.request/a/b"
    inner.mkdir(parents=True)
    (inner / "out").symlink_to(secret.parent)


@pytest.mark.parametrize("make", [link, dangling, pipe, directory])
def test_what_is_no_file_is_not_followed(
    world: World, pod: Pod, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    secret = tmp_path / "secret/file"
    secret.parent.mkdir()
    secret.write_text('{"action": "check"}')
    make(pod.folder, secret)
    done = threading.Event()

    def round_of_the_service() -> None:
        pod.serve()
        done.set()

    threading.Thread(target=round_of_the_service, daemon=True).start()
    assert done.wait(20), "the service hangs"
    assert pod.answer()["outcome"] == "invalid"
    assert secret.read_text() == '{"action": "check"}'


def test_the_reply_does_not_follow_what_lies_in_its_place(pod: Pod, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("as it was")
    reply = pod.folder / "pod-1.reply"
    reply.symlink_to(secret)
    pod.asked('{"action": "check"}')
    assert secret.read_text() == "as it was"
    reply.unlink()
    (reply / "sub").mkdir(parents=True)
    pod.asked('{"action": "check"}')


@pytest.mark.parametrize(
    "name",
    ["..", ".hidden", "UPPER", "a b", "a" * 64, "a.b", "-x", "ä", "$(reboot)", "a\nb", ""],
)
def test_a_name_that_is_none_is_removed_without_an_answer(pod: Pod, name: str) -> None:
    (pod.folder / f"{name}.request").write_text('{"action": "check"}')
    pod.serve()
    assert not list(pod.folder.iterdir())


def test_other_files_are_left_alone_until_they_are_old(world: World, pod: Pod) -> None:
    for name in ("pod-1.tmp", "pod-2.reply", "junk"):
        (pod.folder / name).write_text("x")
        os.utime(pod.folder / name, (world.clock.now(), world.clock.now()))
    pod.serve()
    assert len(list(pod.folder.iterdir())) == 3
    world.clock.seconds += STALE + 1
    pod.serve()
    assert not list(pod.folder.iterdir())


def test_each_request_is_served_once_and_in_order(
    world: World, pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, name in enumerate(["c", "a", "b"]):
        pod.ask('{"action": "check"}', name)
        os.utime(pod.folder / f"{name}.request", (index, index))
    assert serve(world.node(), str(pod.folder)) == 3
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith(": check")]
    assert lines == ["c: check", "a: check", "b: check"]
    assert serve(world.node(), str(pod.folder)) == 0


def test_a_flood_is_served_in_rounds(world: World, pod: Pod) -> None:
    for index in range(3 * MAX_SERVED):
        (pod.folder / f"n{index}.request").write_text("{}")
    for left in (2, 1, 0):
        pod.serve()
        assert len(list(pod.folder.glob("*.request"))) == left * MAX_SERVED
    assert len(list(pod.folder.glob("*.reply"))) == 3 * MAX_SERVED


def test_the_agents_own_fault_is_an_answer_too(
    world: World, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of all things http://me:word@host/")

    monkeypatch.setattr("product.agent.update.operations.check_for_release", broken)
    pod.ask('{"action": "check"}', "pod-2")
    answer = pod.asked('{"action": "check"}')
    assert (answer["exit"], answer["outcome"]) == (1, "failed")
    assert "ZeroDivisionError: of all things http://***@host/" in str(answer["text"])
    assert pod.answer("pod-2")["exit"] == 1


def test_the_text_is_bounded_and_plain(
    world: World, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "x" * 5000 + "\x1b[2J\u202eend"
    monkeypatch.setattr("product.agent.update.operations.CheckResult.as_text", lambda _: shown)
    text = str(pod.asked('{"action": "check"}')["text"])
    assert len(text) == MAX_TEXT
    assert text.endswith("x?[2J?end")


def test_a_full_directory_does_not_stop_an_update(
    world: World, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("product.agent.services.request_directory.RequestDirectory.reply", full)
    world.offered = FakeRelease("0.2.0")
    pod.ask('{"action": "apply"}')
    pod.serve()
    assert world.reboots == 1


def test_the_reply_belongs_to_who_asked(pod: Pod) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file away")
    pod.ask('{"action": "check"}')
    os.chown(pod.folder / "pod-1.request", 65532, 65532)
    pod.serve()
    status = (pod.folder / "pod-1.reply").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65532, 65532, 0o640)


def test_the_directory_itself_is_not_followed(
    world: World, pod: Pod, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.request").write_text("{}")
    pod.folder.rmdir()
    pod.folder.symlink_to(other)
    assert main(world.node()) == 1
    assert "cannot serve" in capsys.readouterr().err
    assert (other / "a.request").exists()
    pod.folder.unlink()
    assert main(world.node()) == 1


def test_a_request_that_vanishes_is_none(pod: Pod) -> None:
    with opened(str(pod.folder)) as directory:
        assert directory.owner("gone.request") == (0, 0)
        start = time.monotonic()
        with pytest.raises(Exception, match="cannot be read"):
            directory.take("gone.request")
        assert time.monotonic() - start < 5
