"""A device tree is changed as its compiler would have written it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.qemu.device_tree import DeviceTree, DeviceTreeError
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools

SOURCE = """
/dts-v1/;
/ {
    model = "A board";
    chosen { bootargs = "quiet"; };
    cpus { #address-cells = <1>; #size-cells = <0>;
        cpu@0 { reg = <0>; }; cpu@1 { reg = <1>; }; };
    soc { watchdog@7e100000 { compatible = "brcm,bcm2835-pm"; }; };
};
"""


@pytest.fixture(scope="module")
def board_tools(cache: Cache) -> HostTools:
    return HostTools.prepare(cache, IMAGES / "board-tools.toml")


@pytest.fixture
def tree(tmp_path: Path, board_tools: HostTools) -> DeviceTree:
    path = tmp_path / "board.dtb"
    board_tools.run("dtc", "-q", "-I", "dts", "-O", "dtb", "-o", path, stdin=SOURCE.encode())
    return DeviceTree(path, board_tools)


def _source(tree: DeviceTree, tools: HostTools) -> str:
    return tools.run("dtc", "-q", "-I", "dtb", "-O", "dts", tree.path).decode()


def test_properties_are_set_and_the_rest_stays(tree: DeviceTree, board_tools: HostTools) -> None:
    tree.set("/chosen", {"kubesolo,channel": "ttyAMA0"})
    tree.disable("/soc/watchdog@7e100000")
    assert tree.text("/chosen", "kubesolo,channel") == "ttyAMA0"
    assert tree.text("/chosen", "bootargs") == "quiet"
    assert tree.text("/soc/watchdog@7e100000", "status") == "disabled"
    assert tree.text("/", "model") == "A board"
    assert tree.text("/chosen", "kubesolo,ntp") is None
    assert 'kubesolo,channel = "ttyAMA0";' in _source(tree, board_tools)


def test_numbers_and_new_nodes(tree: DeviceTree, board_tools: HostTools) -> None:
    tree.set("/chosen/bootloader", {"partition": (2,), "tryboot": (1, 0x10)}, create=True)
    text = _source(tree, board_tools)
    assert "partition = <0x02>;" in text
    assert "tryboot = <0x01 0x10>;" in text
    assert tree.nodes("/chosen") == ["bootloader"]


def test_a_node_is_removed_with_what_is_below_it(tree: DeviceTree) -> None:
    tree.remove("/cpus/cpu@1")
    assert tree.nodes("/cpus") == ["cpu@0"]


def test_a_place_that_is_not_there_is_an_error_and_nothing_is_made(tree: DeviceTree) -> None:
    before = tree.path.read_bytes()
    with pytest.raises(DeviceTreeError, match=r"board\.dtb cannot be read or changed"):
        tree.set("/nothing/here", {"a": "b"})
    with pytest.raises(DeviceTreeError, match="cannot be read or changed"):
        tree.disable("/soc/watchdog@0")
    assert tree.path.read_bytes() == before


def test_what_is_no_device_tree_is_an_error(tmp_path: Path, board_tools: HostTools) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"text")
    with pytest.raises(DeviceTreeError, match="other cannot be read"):
        DeviceTree(path, board_tools).nodes()
