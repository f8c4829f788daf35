"""The examples and the reference: every file is valid, every command runs, every key is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from product.cloudinit import load_network, load_user_data
from product.cloudinit.cli import main
from product.cloudinit.netplan_schema import SHAPES, ShortShape
from product.cloudinit.plan import INSTALL_NOTE
from product.cloudinit.schema import CloudConfig, Install, InstallDisk
from product.cloudinit.settings import SETTINGS
from product.cloudinit.tests.support import EXAMPLES, ROOT
from product.cloudinit.updates import Updates
from product.cloudinit.write_files import WriteFile

REFERENCE = (ROOT / "docs/configuration.md").read_text()
FILES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_is_valid_without_a_note_and_can_be_rendered(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(path)]) == 0
    kind = "network-config" if path.name.startswith("network-config") else "user-data"
    assert capsys.readouterr().out == f"{path}: valid {kind}\n"
    words = ["render", str(path), "--show-secrets"]
    if kind == "network-config":
        words = ["render", str(EXAMPLES / "minimal.yaml"), "--network-config", str(path)]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("# /etc/kubesolo/")
    said = f"note: {INSTALL_NOTE}\n" if path.name == "full.yaml" else ""
    assert printed.err == said


def test_the_reference_names_every_example() -> None:
    for path in FILES:
        assert f"(examples/{path.name})" in REFERENCE


def test_what_a_document_says_of_user_data_is_valid() -> None:
    found = 0
    for path in (ROOT / "docs").glob("*.md"):
        for block in re.findall(
            r"^```yaml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL
        ):
            if block.split(":")[0] not in CloudConfig.model_fields:
                continue
            found += 1
            load_user_data(f"#cloud-config\n{block}".encode(), path.name)
    assert found >= 3


def test_the_reference_has_every_key() -> None:
    keys = {
        field.alias or name
        for model in (
            CloudConfig,
            Updates,
            WriteFile,
            ShortShape,
            Install,
            InstallDisk,
            *SHAPES.values(),
        )
        for name, field in model.model_fields.items()
    }
    # Accepted, and of no use to anybody.
    keys -= {"defer", "source"}
    for key in sorted(keys | SETTINGS.keys()):
        assert f"`{key}`" in REFERENCE, key
    for name, setting in SETTINGS.items():
        assert not setting.place or f"`{setting.place}`" in REFERENCE, name


def test_the_full_example_has_every_key_but_alternatives() -> None:
    config = load_user_data((EXAMPLES / "full.yaml").read_bytes()).config
    said = {name for name in CloudConfig.model_fields if getattr(config, name) is not None}
    assert CloudConfig.model_fields.keys() - said == {"fqdn", "ca_certs_hyphen"}


def test_the_examples_of_networks_mean_what_they_say() -> None:
    def network(name: str) -> list[str]:
        return [i.id for i in load_network((EXAMPLES / name).read_bytes()).interfaces]

    assert network("network-config.yaml") == ["eth0", "eth1"]
    assert network("network-config-vlan-bond.yaml") == ["port1", "port2", "bond0", "site"]
    config = load_user_data((EXAMPLES / "air-gap.yaml").read_bytes()).config
    assert config.network is not None
    assert config.network.interfaces[0].routes == ()
