"""A developer's VM: its seed, its ports, and a whole session on a terminal."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pexpect
import pytest
import typer

from harness.errors import HarnessError
from product.cloudinit.load import load_user_data
from product.image.cli import app as image_app
from product.image.tools import host_arch
from scenarios.vm import Forward, with_edge
from scenarios.vm import app as vm_app

# An Edge key as Portainer writes one, with neutral values.
EDGE_KEY = "aHR0cHM6Ly9wb3J0YWluZXIuZXhhbXBsZXxwb3J0YWluZXIuZXhhbXBsZTo4MDAwfGFhOmJifDc"
READY = r"kubesolo-update: ready version=0\.1\.0 slot=A confirmed=1"
# A boot on a busy host that emulates.
LIMIT = 400


@pytest.mark.parametrize(
    ("text", "forward"), [("6443", Forward(6443, 6443)), ("8443:6443", Forward(8443, 6443))]
)
def test_ports(text: str, forward: Forward) -> None:
    assert Forward.parse(text) == forward


@pytest.mark.parametrize("text", ["", "x", "0", "70000", "1:2:3", "1:", "-1"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(HarnessError, match="is no port to forward"):
        Forward.parse(text)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "#cloud-config\nhostname: one\n",
        "#cloud-config\r\nkubesolo:\r\n  local-storage: true\r\n",
        "#cloud-config\nkubesolo: # ours\n\n    debug: true\nhostname: one\n",
        "#cloud-config\nkubesolo:\nhostname: one\n",
        "#cloud-config\nkubesolo:\n      # ours\n  debug: true\n",
        "#cloud-config\nkubesolo:\n# ours\n    debug: true\n",
        "#cloud-config\nkubesolo:\n      # ours\n",
        "#cloud-config\nkubesolo: ~\nhostname: one\n",
        "#cloud-config\nkubesolo: null # ours\n",
        "#cloud-config\nkubesolo: {}\n",
        "#cloud-config\n'kubesolo':\n  debug: true\n",
        "#cloud-config\nhostname: one\n...\n",
    ],
)
def test_edge_values_go_into_the_block(before: str) -> None:
    text = with_edge(before.encode(), "7", EDGE_KEY)
    settings = load_user_data(text).config.kubesolo
    assert settings is not None
    values = {name.replace("_", "-"): value for name, value in dict(settings).items()}
    assert (values["portainer-edge-id"], values["portainer-edge-key"]) == ("7", EDGE_KEY)
    if "debug" in before:
        assert values["debug"]


@pytest.mark.parametrize("block", [" {debug: true}", "\n  {debug: true}", " >-\n  debug"])
def test_edge_values_need_a_block_of_lines(block: str) -> None:
    with pytest.raises(
        HarnessError, match="the block kubesolo of line 2 is not one setting a line"
    ):
        with_edge(f"#cloud-config\nkubesolo:{block}\n".encode(), "7", None)


def session(logs: Path, *words: str | Path) -> Any:
    """The command on a terminal of its own."""
    arch = host_arch().value
    return pexpect.spawn(
        sys.executable,
        ["-m", "scenarios.vm", "--arch", arch, *map(str, words)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "TERM": "dumb", "TMPDIR": str(logs)},
        timeout=LIMIT,
        encoding="utf-8",
        codec_errors="replace",
        dimensions=(24, 200),
    )


def leave(child: Any) -> str:
    """Ctrl-]; what was printed after it."""
    child.send("\x1d")
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, child.signalstatus) == (0, None), child.before
    return str(child.before)


def test_a_vm_boots_as_configured_is_left_and_goes_on(
    images: Mapping[str, Any], tmp_path: Path
) -> None:
    assert images[host_arch().value].disk.exists()
    data, config = tmp_path / "disk.qcow2", tmp_path / "user-data"
    config.write_text("#cloud-config\nhostname: dev-07\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = session(tmp_path, "--data", data, "--config", config, "--forward", f"{port}:80")
    child.expect(f"127.0.0.1:{port} leads to port 80")
    child.expect(READY)
    assert "first boot: making the data file system" in child.before
    assert f"disk: {data}" in leave(child)
    assert data.stat().st_mode & 0o777 == 0o600
    child = session(tmp_path, "--data", data)
    child.expect(READY)
    # The disk was prepared, and what the seed asked for stays without it.
    assert "first boot" not in child.before
    leave(child)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--forward", "http"), "'http' is no port to forward"),
        (("--config", "/nonexistent/user-data"), "/nonexistent/user-data cannot be read"),
        (("--data", "/etc/passwd"), "/etc/passwd is no qcow2 disk"),
        (("--edge-key", "nonsense"), "portainer-edge-key"),
        (("--image", "/nonexistent.img"), "there is no disk image /nonexistent.img"),
        (("--image", "/etc/passwd"), "/etc/passwd is no image of this system"),
        (("--memory", "1"), "greater than or equal"),
    ],
)
def test_mistakes_are_one_error(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    child = session(tmp_path, *words)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert reason in child.before
    assert "Traceback" not in child.before


DOCUMENT = (Path(__file__).parents[2] / "docs/deploy.md").read_text()


def test_the_document_names_every_option() -> None:
    flash: Any = typer.main.get_command(image_app)
    for command in (typer.main.get_command(vm_app), flash.commands["flash"]):
        options = {word for param in command.params for word in param.opts}
        assert {word for word in options if word.startswith("--") and word not in DOCUMENT} == set()
