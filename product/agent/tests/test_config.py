"""The configuration file and what lies over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.config import Config, load_config
from product.agent.errors import ConfigError


def load(tmp_path: Path, text: str, **flags: str | int | None) -> Config:
    path = tmp_path / "update.conf"
    path.write_text(text)
    return load_config(str(path), flags)


def test_a_missing_file_gives_the_defaults(tmp_path: Path) -> None:
    config = load_config(str(tmp_path / "none"))
    assert config == Config()
    assert (config.channel, config.auto_rollback_after, config.kube_system_settle) == (
        "stable",
        3,
        30,
    )
    config.require_usable()


def test_flag_over_file_over_default(tmp_path: Path) -> None:
    text = (
        "# a comment\n\n server = http://a/?x=1 \nchannel=beta\nauto_rollback_after=5\nnew_key=1\n"
    )
    config = load(tmp_path, text, channel="edge", pubkey=None, auto_rollback_after=0)
    assert config == Config(
        server="http://a/?x=1", channel="edge", auto_rollback_after=0, problems=()
    )


def test_the_last_line_of_a_key_counts_and_empty_means_default(tmp_path: Path) -> None:
    config = load(tmp_path, "channel=a\nchannel=b\nmaintenance_window=\nserver=\n")
    assert (config.channel, config.maintenance_window, config.server) == ("b", "", None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("auto_rollback_after=many\n", "line 1: auto_rollback_after is 'many'"),
        ("\nkube_system_settle=-1\n", "line 2: kube_system_settle is '-1'"),
        ("server\n", "line 1: 'server' is not key=value"),
    ],
)
def test_bad_values_are_named_and_replaced_by_defaults(
    tmp_path: Path, text: str, problem: str
) -> None:
    config = load(tmp_path, text)
    assert problem in config.problems[0]
    assert config._replace(problems=()) == Config()
    with pytest.raises(ConfigError, match=r"update\.conf line"):
        config.require_usable()


def test_a_flag_mends_a_bad_value(tmp_path: Path) -> None:
    assert load(tmp_path, "auto_rollback_after=x\n", auto_rollback_after=2).problems == ()


@pytest.mark.parametrize("content", [b"\xff\xfe=1", b"a=b\n" * 20000])
def test_garbage_is_a_problem_not_a_crash(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "update.conf"
    path.write_bytes(content)
    assert len(load_config(str(path)).problems) == 1
    assert len(load_config(str(tmp_path)).problems) == 1
