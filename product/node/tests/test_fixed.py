"""What an operator's file must leave as the image has it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from product.node.cli import main
from product.node.errors import NodeError
from product.node.fixed import require_fixed
from product.node.tests.conftest import NodeWorld

ENDPOINT = '{"runtime": {"endpoint": "/run/x"}}'
KEYS = ["path=/var/lib/k", "runtime.endpoint="]


def _files(folder: Path, image: str, own: str) -> tuple[str, str]:
    (folder / "image.yaml").write_text(image)
    (folder / "own.yaml").write_text(own)
    return str(folder / "image.yaml"), str(folder / "own.yaml")


@pytest.mark.parametrize(
    ("image", "own"),
    [
        ("{}", "{}"),
        ("{}", '{"runtime": null, "path": null}'),
        ("{}", '{"path": "/var/lib/k/", "runtime": {"endpoint": "", "containerMode": true}}'),
        ("{}", '{"network": {"nodeIP": "10.0.0.1"}}'),
        ("{}", '{"runtime": "words"}'),
        ('{"path": "/var/lib/k"}', '{"logging": {"debug": true}}'),
        (ENDPOINT, '{"runtime": {"endpoint": "unix:///run/x"}}'),
    ],
)
def test_what_changes_none_of_the_keys_is_taken(tmp_path: Path, image: str, own: str) -> None:
    require_fixed(*_files(tmp_path, image, own), KEYS)


@pytest.mark.parametrize(
    ("image", "own", "words"),
    [
        ("{}", '{"path": "/mnt"}', "has path '/mnt', which this image fixes as '/var/lib/k'"),
        ("{}", '{"path": ""}', "own.yaml has path ''"),
        ("{}", '{"path": 5}', "has path 5"),
        ("{}", ENDPOINT, "has runtime.endpoint '/run/x', which this image fixes as ''"),
        ("{}", '{"Runtime": {"ENDPOINT": "/run/x"}}', "has runtime.endpoint '/run/x'"),
        ("{}", '{"runtime": {"endpoint": ""}, "Runtime": {"endpoint": "/x"}}', "endpoint '/x'"),
        (ENDPOINT, "{}", "has runtime.endpoint '', which this image fixes as '/run/x'"),
        ("{}", "{", "own.yaml is no usable YAML"),
        ("{", "{}", "image.yaml is no usable YAML"),
    ],
)
def test_what_changes_one_is_refused_by_its_name(
    tmp_path: Path, image: str, own: str, words: str
) -> None:
    with pytest.raises(NodeError, match=words):
        require_fixed(*_files(tmp_path, image, own), KEYS)


@pytest.mark.parametrize("found", [None, [], "words", 5])
def test_what_is_no_mapping_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: object
) -> None:
    class YamlError(Exception):
        pass

    def load(text: str, Loader: str) -> object:
        return found

    yaml = SimpleNamespace(load=load, SafeLoader="safe", YAMLError=YamlError)
    monkeypatch.setitem(sys.modules, "yaml", yaml)
    files = _files(tmp_path, "{}", "# nothing but this\n")
    require_fixed(*files, KEYS)
    monkeypatch.setattr(yaml, "load", _raise(YamlError("line 3")))
    with pytest.raises(NodeError, match="is no usable YAML: line 3"):
        require_fixed(*files, KEYS)


def _raise(error: Exception) -> Callable[..., object]:
    def load(*_: object, **__: object) -> object:
        raise error

    return load


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    files = _files(tmp_path, "{}", "{}")
    Path(files[1]).write_bytes(b"\xff")
    with pytest.raises(NodeError, match="is no usable YAML"):
        require_fixed(*files, KEYS)
    Path(files[1]).unlink()
    with pytest.raises(NodeError, match=r"cannot read .*own\.yaml: No such file"):
        require_fixed(*files, KEYS)


def test_the_command_says_it_on_the_console_once(world: NodeWorld, tmp_path: Path) -> None:
    files = _files(tmp_path, "{}", "{}")
    assert main(["fixed", *files, *KEYS], world.paths) == 0
    files = _files(tmp_path, "{}", '{"path": "/mnt"}')
    for _ in range(2):
        assert main(["fixed", *files, *KEYS], world.paths) == 1
    (line,) = world.console.splitlines()
    assert "own.yaml has path '/mnt'" in line
    assert len(world.problems) == 1


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b"], ["a", "b", "path"]])
def test_without_files_and_keys_it_is_wrong_usage(world: NodeWorld, arguments: list[str]) -> None:
    assert main(["fixed", *arguments], world.paths) == 2
