"""The scripts that bound a node's logs, as the image's own shell runs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from product.image.tools import IMAGES

GUEST = IMAGES / "overlay/usr/lib/kubesolo"
# Of all but pods: boots before this one, and this one.
BOUND_KB = 64 * 1024
# A service's log: its file and seven older ones of 250 kB.
SERVICE_KB = 8 * 250


def prune(boots: Path, own: Path, *, free_kb: int = 10_000_000) -> list[str]:
    """Run the script with a ``df`` of its own; the boots that are left."""
    tools = boots.parent / "tools"
    tools.mkdir(exist_ok=True)
    df = tools / "df"
    df.write_text(
        "#!/bin/sh\necho 'Filesystem 1K-blocks Used Available Use% Mounted on'\n"
        f"echo '/dev/vda4 9999999 1 {free_kb} 1% /mnt/data'\n"
    )
    df.chmod(0o755)
    subprocess.run(
        ["/bin/sh", str(GUEST / "prune-logs"), str(boots), str(own)],
        env={"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"}, check=True,
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
    folders = [*IMAGES.glob("**/usr/lib/kubesolo/services/*")]
    logged = {folder.name for folder in folders if not (folder / "nolog").exists()}
    assert {"kernel", "health", "network", "kubernetes", "ssh"} <= logged
    assert "watchdog" not in logged
    # The two payloads never share an image.
    assert len(logged) * SERVICE_KB + 32 * 1024 <= BOUND_KB
    assert "s250000\\nn7\\nN1" in (GUEST / "log-service").read_text()
    assert "limit=32768" in (GUEST / "prune-logs").read_text()
