"""The boot stage that settles on a datastore and starts Kubernetes, with its functions played."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

STAGE = (
    Path(__file__).resolve().parents[3] / "images/overlay/usr/lib/kubesolo/stages/85-payload"
).read_text()

# What lib.sh and the initramfs give.
PRELUDE = """
slot=B confirmed={confirmed} env={env}
installs() {{ {installs}; }}
patiently() {{ echo settled; return {code}; }}
supervise() {{ echo "started $1"; }}
problem() {{ echo "problem $*"; }}
stage() {{
{stage}
}}
stage
"""


def run(
    folder: Path, *, confirmed: int = 0, env: str = "ok", code: int = 0, installs: str = "false"
) -> list[str]:
    for name in ("usr/lib", "var/lib", "run"):
        (folder / name / "kubesolo").mkdir(parents=True, exist_ok=True)
    image = folder / "usr/lib/kubesolo"
    payload = {"services": ["containerd", "kubernetes"]}
    (image / "payload.json").write_text(json.dumps(payload, indent=1))
    (image / "release.json").write_text("{}\n")
    stage = STAGE
    for name in ("usr/lib", "var/lib", "run"):
        stage = stage.replace(f"/{name}/kubesolo", f"{folder}/{name}/kubesolo")
    text = PRELUDE.format(confirmed=confirmed, env=env, code=code, stage=stage, installs=installs)
    done = subprocess.run(["/bin/sh", "-c", text], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    log = folder / "run/kubesolo/settle.log"
    settled = log.read_text().split() if log.exists() else []
    return settled + [line.split(",")[0] for line in done.stdout.splitlines()]


STARTED = ["started containerd", "started kubernetes"]
PROBLEM = "problem Kubernetes: cannot settle on its datastore"


def test_it_settles_and_starts_all_services(tmp_path: Path) -> None:
    assert run(tmp_path) == ["settled", *STARTED]


def test_the_installer_has_the_machine_to_itself(tmp_path: Path) -> None:
    assert run(tmp_path, installs="true") == []


def test_where_it_ran_last_there_is_nothing_to_settle(tmp_path: Path) -> None:
    run(tmp_path)
    image = tmp_path / "usr/lib/kubesolo"
    own = "slot=B\n" + "".join((image / f"{n}.json").read_text() for n in ("release", "payload"))
    settled = tmp_path / "var/lib/kubesolo/update/datastore/settled"
    settled.parent.mkdir(parents=True)
    settled.write_text(own)
    (tmp_path / "run/kubesolo/settle.log").unlink()
    assert run(tmp_path, code=1) == STARTED


def test_on_trial_nothing_starts_on_a_datastore_that_was_not_settled(tmp_path: Path) -> None:
    """A newer Kubernetes would change it, and the older one find it so after the rollback."""
    assert run(tmp_path, code=1) == ["settled", PROBLEM]


@pytest.mark.parametrize(("confirmed", "env"), [(1, "ok"), (0, "missing")])
def test_where_there_is_no_way_back_it_starts_all_the_same(
    tmp_path: Path, confirmed: int, env: str
) -> None:
    lines = run(tmp_path, confirmed=confirmed, env=env, code=1)
    assert lines == ["settled", PROBLEM, *STARTED]
