"""A system that runs from a medium has nothing to update, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from product.agent.bootloader.live import LiveBootEnv
from product.agent.bootloader.protocol import BootEnvError
from product.agent.config import Config
from product.agent.errors import RefusedError
from product.agent.node import Node
from product.agent.system.paths import Paths
from product.agent.update.operations import (
    activate_release,
    apply_release,
    check_for_release,
    rehearse,
)


def booted(tmp_path: Path, mode: str) -> Node:
    folder = tmp_path / "run/kubesolo"
    folder.mkdir(parents=True)
    partitions = dict.fromkeys(("KSOLOEFI", "KSOLOA", "KSOLOB", "KSOLODATA"), "")
    report = {"slot": "A", "disk": "/dev/sr0", "boot_id": "1", "mode": mode, "data": "nopersist"}
    (folder / "boot.json").write_text(json.dumps({**report, "partitions": partitions}))
    return Node(Paths(str(tmp_path)))


def test_every_update_command_refuses(tmp_path: Path) -> None:
    node, config = booted(tmp_path, "live"), Config()
    for command in (
        lambda: check_for_release(node, config),
        lambda: rehearse(node, config, force=True, say=print),
        lambda: apply_release(node, config, force=True, say=print),
        lambda: activate_release(node, config, force=True, say=print),
    ):
        with pytest.raises(RefusedError, match="runs from a medium") as found:
            command()
        assert (found.value.code, found.value.exit_code) == ("live-system", 11)


def test_an_installed_system_is_none(tmp_path: Path) -> None:
    booted(tmp_path, "normal").require_installed()


def test_its_boot_environment_never_changes(tmp_path: Path) -> None:
    env = booted(tmp_path, "live").boot_env
    assert isinstance(env, LiveBootEnv)
    assert env.read().confirms("A")
    env.repair()
    writes: list[Callable[[], None]] = [
        partial(env.arm, "B", "x"),
        partial(env.commit, "A"),
        partial(env.force_rollback, "A"),
    ]
    for write in writes:
        with pytest.raises(BootEnvError, match="no boot environment"):
            write()
