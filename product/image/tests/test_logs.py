"""The scripts that bound a node's logs, as the image's own shell runs them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from product.image.tools import IMAGES

GUEST = IMAGES / "overlay/usr/lib/kubesolo"
# Of all but pods: boots before this one, and this one.
BOUND_KB = 64 * 1024
# A service's log: its file and seven older ones of 250 kB.
SERVICE_KB = 8 * 250


def path_with_df(folder: Path, free_kb: int) -> str:
    """A PATH on which ``df`` sees an encrypted data partition with so much free.

    As busybox's, it begins a new line after a long name unless it is told not to (-P).
    """
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    df = tools / "df"
    df.write_text(
        "#!/bin/sh\ncase $1 in *P*) gap=' ' ;; *) gap='\n' ;; esac\n"
        "echo 'Filesystem 1K-blocks Used Available Use% Mounted on'\n"
        f'printf "/dev/mapper/kubesolo-data${{gap}}9999999 1 {free_kb} 1%% /mnt/data\\n"\n'
    )
    df.chmod(0o755)
    return f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"


def prune(boots: Path, own: Path, *, free_kb: int = 10_000_000) -> list[str]:
    """Run the script with a ``df`` of its own; the boots that are left."""
    subprocess.run(
        ["/bin/sh", str(GUEST / "prune-logs"), str(boots), str(own)],
        env={"PATH": path_with_df(boots.parent, free_kb)}, check=True,
    )  # fmt: skip
    return sorted(path.name for path in boots.iterdir())


def make(boots: Path, numbers: range, kilobytes: int) -> list[str]:
    for number in numbers:
        folder = boots / f"{number:08d}/noisy"
        folder.mkdir(parents=True)
        (folder / "current").write_bytes(b"x" * 1024 * kilobytes)
    return [f"{number:08d}" for number in numbers]


@pytest.fixture
def boots(tmp_path: Path) -> Path:
    made = tmp_path / "boots"
    made.mkdir()
    return made


def test_few_small_ones_stay(boots: Path) -> None:
    names = make(boots, range(1, 20), 10)
    assert prune(boots, boots / names[-1]) == names


def test_the_oldest_make_room(boots: Path) -> None:
    names = make(boots, range(1, 21), 4000)
    left = prune(boots, boots / names[-1])
    assert left == names[-len(left) :]
    # This boot's own does not count: it has a bound of its own.
    assert 8 <= len(left) <= 9


def test_there_are_not_too_many(boots: Path) -> None:
    names = make(boots, range(1, 101), 1)
    assert prune(boots, boots / names[-1]) == names[-51:]


def test_a_disk_that_is_nearly_full_keeps_little(boots: Path) -> None:
    names = make(boots, range(1, 11), 1000)
    left = prune(boots, boots / names[-1], free_kb=50_000)
    assert left == names[-len(left) :]
    assert 3 <= len(left) <= 5


def test_this_boots_own_stays_whatever_it_has(boots: Path) -> None:
    names = make(boots, range(1, 3), 50_000)
    assert prune(boots, boots / names[-1]) == names[-1:]


def test_all_services_of_a_node_together_keep_the_bound() -> None:
    def logged(folder: Path) -> set[str]:
        services = folder.glob("**/usr/lib/kubesolo/services/*")
        return {service.name for service in services if not (service / "nolog").exists()}

    common = logged(IMAGES / "overlay") | logged(IMAGES / "extensions")
    assert {"kernel", "health", "network", "ssh"} <= common
    assert "watchdog" not in common
    # Payloads never share an image.
    payloads = [common | logged(folder) for folder in (IMAGES / "payload").iterdir()]
    assert any("kubernetes" in services for services in payloads)
    for services in payloads:
        assert len(services) * SERVICE_KB + 32 * 1024 <= BOUND_KB
    assert "s250000\\nn7\\nN1" in (GUEST / "log-service").read_text()
    assert "limit=32768" in (GUEST / "prune-logs").read_text()


def run_log(folder: Path, said: bytes) -> tuple[str, float]:
    """What the log of a service says to the console, and how many seconds it reads ``said``.

    Its programs are the image's; who it runs as is left out, and a minute is a second.
    """
    service = folder / "services/network/log"
    service.mkdir(parents=True)
    (folder / "confine").write_text(
        'confine() { while [ "$1" != -- ]; do shift; done; shift; exec "$@"; }\n'
    )
    script = (GUEST / "log-service").read_text()
    assert "timeout 60 " in script
    for old, new in (
        ("/var/log", str(folder / "log")), ("/usr/lib/kubesolo", str(folder)),
        ("_log:_log", f"{os.getuid()}:{os.getgid()}"), ("timeout 60 ", "timeout 1 "),
    ):  # fmt: skip
        script = script.replace(old, new)
    (folder / "run").write_text(script)
    begun = time.monotonic()
    with subprocess.Popen(
        ["/bin/sh", str(folder / "run")], cwd=service,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(said)
        process.stdin.flush()
        # The service stays: its end of the pipe is open all the time.
        console = process.stdout.read().decode()
        process.stdin.close()
    return console, time.monotonic() - begun


def test_a_log_that_cannot_be_written_waits_before_its_next_try(tmp_path: Path) -> None:
    # More than a pipe holds: a service must not wait for its log.
    (tmp_path / "log").write_text("no folder can be made beneath a file\n")
    console, seconds = run_log(tmp_path, b"x" * 200_000)
    assert console == (
        f"kubesolo: no log of network for a minute: {tmp_path}/log/network cannot be written\n"
    )
    assert seconds >= 0.9


class Pods:
    """Logs of pods as the kubelet and containerd leave them, and what the kubelet knows of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs, self.kubelet = root / "pods", root / "kubelet/pods"
        self.logs.mkdir()
        self.kubelet.mkdir(parents=True)

    def add(self, pod: str, *, gone: bool = False, **kilobytes: int) -> None:
        """``_0_log__old`` in ``kilobytes`` is a file ``0.log.old``; later ones are younger."""
        folder = self.logs / f"default_{pod}_uid-{pod}/main"
        folder.mkdir(parents=True)
        if not gone:
            (self.kubelet / f"uid-{pod}").mkdir()
        for age, (name, size) in enumerate(kilobytes.items()):
            path = folder / name.strip("_").replace("_", ".")
            path.write_bytes(os.urandom(size * 1024))
            moment = time.time() - 10_000 + 100 * age
            os.utime(path, (moment, moment))
        os.utime(folder.parent, (time.time() - 7200,) * 2)

    def prune(self, limit_kb: int, *, free_kb: int = 10_000_000) -> list[str]:
        subprocess.run(
            ["/bin/sh", str(GUEST / "prune-pods"), str(self.logs), str(self.kubelet), "/none"],
            env={"PATH": path_with_df(self.root, free_kb), "LIMIT_KB": str(limit_kb)}, check=True,
        )  # fmt: skip
        return sorted(
            f"{path.parent.parent.name.split('_')[1]}/{path.name}"
            for path in self.logs.glob("*/*/*")
        )


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(tmp_path)


def test_pods_that_say_little_keep_it(pods: Pods) -> None:
    pods.add("web", _0_log=10, _1_log=10)
    pods.add("old", gone=True, _0_log=10)
    assert len(pods.prune(100)) == 3


def test_pods_that_are_gone_make_room_first(pods: Pods) -> None:
    pods.add("web", _0_log_20260101=100, _0_log=100)
    pods.add("old", gone=True, _0_log=100, _0_log_20260101=100)
    assert pods.prune(300) == ["web/0.log", "web/0.log.20260101"]


def test_a_pod_that_has_just_begun_is_not_gone(pods: Pods) -> None:
    pods.add("web", _0_log=100)
    pods.add("new", gone=True, _0_log=100)
    os.utime(pods.logs / "default_new_uid-new")
    assert pods.prune(100) == ["new/0.log", "web/0.log"]


def test_without_a_kubelet_no_pod_is_gone(pods: Pods) -> None:
    pods.add("web", gone=True, _0_log_20260101=100, _0_log=100)
    assert pods.prune(10) == ["web/0.log"]


def test_then_the_oldest_that_were_rotated_away_make_room(pods: Pods) -> None:
    pods.add("web", _3_log_20260101=100, _3_log_20260102_gz=100, _3_log=100)
    pods.add("job", _9_log=100, _10_log=100)
    # 300 are the three that stay, and one.
    assert pods.prune(330) == ["job/10.log", "web/3.log", "web/3.log.20260102.gz"]


def test_what_is_written_stays_whatever_it_has(pods: Pods) -> None:
    pods.add("web", _0_log=500, _1_log_tmp=100, _1_log=500)
    late = pods.logs / "default_web_uid-web/main/1.log.20260103"
    late.write_bytes(bytes(100))
    assert pods.prune(10) == ["web/1.log", "web/1.log.20260103", "web/1.log.tmp"]


def test_a_disk_that_is_nearly_full_keeps_an_eighth(pods: Pods) -> None:
    pods.add("web", _0_log_20260101=100, _0_log_20260102=100, _0_log=20)
    assert len(pods.prune(1000)) == 3
    assert len(pods.prune(1000, free_kb=50_000)) == 2


def test_pods_logs_have_a_bound_on_a_node() -> None:
    run = (GUEST / "services/pod-logs/run").read_text()
    assert "prune-pods /mnt/data/log/pods /var/lib/kubelet/pods" in run
    assert "supervise pod-logs" in (GUEST / "stages/90-services").read_text()
    assert "LIMIT_KB:-262144" in (GUEST / "prune-pods").read_text()
