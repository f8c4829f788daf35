"""What the status says of the SSH server, and of keys that nobody uses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import paramiko
import pytest

from product.agent.system.paths import Paths
from product.agent.system.ssh import SshServer, fingerprint, read_server

RUN = Path(__file__).resolve().parents[4] / (
    "images/extensions/ssh/usr/lib/kubesolo/services/ssh/run"
)
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    for name in ("etc/kubesolo", "run/kubesolo", "usr/lib/kubesolo/services"):
        (tmp_path / name).mkdir(parents=True)
    return Paths(str(tmp_path))


def test_its_state(paths: Paths) -> None:
    assert read_server(paths) == SshServer("absent")
    Path(paths.authorized_keys).write_text(f"ssh-ed25519 {KEY} operator@desk\n")
    server = read_server(paths)
    assert server.state == "absent"
    assert server.problem is not None
    assert "this image has no SSH server" in server.problem
    Path(paths.ssh).mkdir()
    assert read_server(paths) == SshServer("starting")
    Path(paths.ssh_host_key).write_text(f"ssh-ed25519 {KEY} root@node\n")
    assert read_server(paths) == SshServer("running", f"ssh-ed25519 {KEY}", fingerprint(KEY))
    Path(paths.authorized_keys).write_text("")
    assert read_server(paths) == SshServer("off")


@pytest.mark.parametrize(
    ("encoding", "end", "problem"),
    [
        ("utf-8", "\n", None),
        ("utf-8-sig", "\n", "byte order mark"),
        ("utf-8", "\r\n", "CR"),
        ("utf-16", "\n", "UTF-16"),
        ("utf-16-le", "\n", "UTF-16"),
    ],
)
def test_keys_that_a_windows_editor_wrote(
    paths: Paths, encoding: str, end: str, problem: str | None
) -> None:
    Path(paths.ssh).mkdir()
    Path(paths.ssh_host_key).write_text(f"ssh-ed25519 {KEY} root@node\n")
    Path(paths.authorized_keys).write_bytes(f"ssh-ed25519 {KEY}{end}".encode(encoding))
    server = read_server(paths)
    assert server.state == "running"
    assert (problem or "") in (server.problem or "")
    assert bool(server.problem) == bool(problem)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_service_mends_them(tmp_path: Path, before: bytes, end: bytes) -> None:
    lines = [f"ssh-ed25519 {KEY} one".encode(), f"ssh-ed25519 {KEY}".encode()]
    (tmp_path / "bin").mkdir()
    keys = tmp_path / "authorized_keys"
    keys.write_bytes(before + end.join(lines) + end)
    for name in ("dropbear", "dropbearkey"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / "bin" / name).chmod(0o755)
    text = RUN.read_text()
    for place in ("/etc/kubesolo", "/var/lib/kubesolo", "/run/kubesolo", "/root"):
        text = text.replace(place, str(tmp_path))
    (tmp_path / "lib.sh").write_text("say() { :; }\nproblem() { :; }\n")
    text = text.replace(". /usr/lib/kubesolo/lib.sh", f". {tmp_path}/lib.sh")
    text = text.replace("exec /usr/lib/kubesolo/confined dropbear ", "exec ")
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh/host_ed25519").touch()
    done = subprocess.run(
        ["/bin/sh", "-c", text], check=False, timeout=20, capture_output=True,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"")
    assert keys.read_bytes() == b"".join(line + b"\n" for line in lines)
    assert keys.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 !!!", "\xff"])
def test_a_host_key_that_is_none_is_one_that_is_not_there_yet(paths: Paths, text: str) -> None:
    Path(paths.ssh).mkdir()
    Path(paths.authorized_keys).write_text("x\n")
    Path(paths.ssh_host_key).write_text(text)
    assert read_server(paths).state == "starting"


def test_fingerprints_are_those_of_openssh() -> None:
    key = paramiko.ECDSAKey.generate()
    assert fingerprint(key.get_base64()) == key.fingerprint
