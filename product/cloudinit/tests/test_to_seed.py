"""A kubeconfig for whoever takes the seed back."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.cloudinit.errors import CloudInitError
from product.cloudinit.tests.support_node import DISK, ESP, FakeNode, fat, iso, write
from product.cloudinit.to_seed import main, write_to_seed

USER_DATA = "#cloud-config\nkubeconfig: to-seed\n"
OWED = "/var/lib/kubesolo/config/kubeconfig-owed"


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


def give(node: FakeNode) -> str:
    return write_to_seed(node, DISK, ESP, b"{}")


def test_it_lies_on_the_seed_disk_under_whatever_name_that_has_now(node: FakeNode) -> None:
    write(node.disk("sdb", fat("cidata")), {"user-data": USER_DATA})
    assert node.boot().outcome == "applied"
    assert node.file(OWED).exists()
    node.unplug("sdb")
    folder = node.disk("sdc", fat("cidata"))
    write(folder, {"user-data": USER_DATA})
    assert give(node) == "kubeconfig on the seed disk /dev/sdc"
    assert (folder / "kubeconfig").read_bytes() == b"{}"
    assert not node.file(OWED).exists()


def test_it_lies_in_the_folder_of_ksoloefi(node: FakeNode) -> None:
    write(node.esp / "kubesolo", {"user-data": USER_DATA})
    node.boot()
    give(node)
    assert (node.esp / "kubesolo/kubeconfig").read_bytes() == b"{}"


def test_without_being_asked_none_is_owed(node: FakeNode) -> None:
    write(node.disk("sdb", fat("cidata")), {"user-data": "#cloud-config\n"})
    node.boot()
    assert not node.file(OWED).exists()


def test_a_seed_that_is_gone_or_cannot_be_written_is_said(node: FakeNode) -> None:
    write(node.disk("sr0", iso("cidata")), {"user-data": USER_DATA})
    node.boot()
    with pytest.raises(CloudInitError, match="cannot be written"):
        give(node)
    node.unplug("sr0")
    with pytest.raises(CloudInitError, match="is not there"):
        give(node)
    assert node.file(OWED).exists()


@pytest.mark.parametrize("other", ["#cloud-config\nbogus: 1\n", "#cloud-config\nhostname: b\n"])
def test_no_other_seed_gets_it(node: FakeNode, other: str) -> None:
    write(node.disk("sdb", fat("cidata")), {"user-data": USER_DATA, "meta-data": "instance-id: a"})
    node.boot()
    node.unplug("sdb")
    folder = node.disk("sdc", fat("cidata"))
    write(folder, {"user-data": other, "meta-data": "instance-id: b"})
    node.boot()
    with pytest.raises(CloudInitError):
        give(node)
    assert not (folder / "kubeconfig").exists()
    assert node.file(OWED).exists() == ("bogus" in other)


def test_main_prints_the_reason(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    write(node.disk("sr0", iso("cidata")), {"user-data": USER_DATA})
    node.boot()
    node.file("made").write_text("{}")
    assert main([DISK, ESP, str(node.file("made"))], node) == 1
    assert "cannot be written" in capsys.readouterr().out
