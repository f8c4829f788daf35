"""The environment files of docs/examples/lab describe boards that scenarios can use."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.lab.settings import LabSettings

ROOT = Path(__file__).parents[3]
FILES = sorted(
    path for path in (ROOT / "docs" / "examples" / "lab").glob("*.yaml")
    if path.name != "exporter.yaml"
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """As labgrid reads them, with the text of a template in its place."""


_Loader.add_constructor("!template", lambda _loader, node: node.value)


def test_there_are_boards() -> None:
    assert [path.stem for path in FILES] == ["qemu-board", "raspi3b", "usb-board"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_board_is_one(path: Path) -> None:
    document = yaml.load(path.read_text(), _Loader)
    settings = LabSettings.parse(document["options"]["harness"], str(path))
    assert settings.name == path.stem
    drivers = [name for one in document["targets"]["main"]["drivers"] for name in one]
    assert {"HarnessStrategy", "HarnessStorageDriver", "SerialDriver"} <= set(drivers)
    if settings.hardware is not None:
        assert (ROOT / "images" / "hardware" / f"{settings.hardware}.toml").is_file()
        lock = f"appliance-ssh-{settings.hardware}-{settings.arch}.json"
        assert (ROOT / "images" / "locks" / lock).is_file()


def test_the_session_knows_them() -> None:
    text = (ROOT / "noxfile.py").read_text()
    assert all(f'"{path.name}"' in text for path in FILES)
