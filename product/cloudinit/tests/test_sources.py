"""Which source of a configuration counts, and in which forms a seed disk is found."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from product.cloudinit.errors import CloudInitError
from product.cloudinit.sources import META_DATA, NETWORK, USER_DATA, Seed, find_seeds
from product.cloudinit.tests.support_node import DISK, ESP, FakeNode, fat, iso, write

DATA = {"user-data": "#cloud-config\nhostname: edge-07\n", "meta-data": "instance-id: a\n"}


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


def found(node: FakeNode) -> list[Seed]:
    seeds, errors = find_seeds(node, DISK, ESP)
    assert errors == []
    return seeds


def test_nothing_is_there(node: FakeNode) -> None:
    assert found(node) == []


@pytest.mark.parametrize("label", ["cidata", "CIDATA"])
@pytest.mark.parametrize(("kind", "content"), [("vfat", fat), ("iso9660", iso)])
def test_a_disk_with_either_label(node: FakeNode, label: str, kind: str, content: object) -> None:
    write(node.disk("sdb", content(label)), DATA)  # type: ignore[operator]
    (seed,) = found(node)
    assert (seed.place, seed.device, seed.kind) == ("the seed disk /dev/sdb", "/dev/sdb", kind)
    assert seed.files == {name: text.encode() for name, text in DATA.items()}


def test_a_partition_of_a_stick(node: FakeNode) -> None:
    node.disk("sdb", bytes(512))
    write(node.partition("sdb", 1, fat("CIDATA")), DATA)
    assert [seed.device for seed in found(node)] == ["/dev/sdb1"]


def test_an_iso_image_that_shows_in_the_disk_and_in_its_partition_is_one(node: FakeNode) -> None:
    write(node.disk("sdb", iso("cidata")), DATA)
    write(node.partition("sdb", 1, iso("cidata")), DATA)
    assert [seed.device for seed in found(node)] == ["/dev/sdb1"]


def test_two_seed_disks_are_an_error_that_names_both(node: FakeNode) -> None:
    write(node.disk("sdb", fat("cidata")), DATA)
    write(node.disk("sr0", iso("cidata")), DATA)
    with pytest.raises(CloudInitError, match=r"/dev/sdb \(vfat\) and /dev/sr0 \(iso9660\)"):
        found(node)


def test_the_boot_disk_and_other_disks_are_no_seeds(node: FakeNode) -> None:
    node.partition("vda", 5, fat("cidata"))
    node.disk("sdb", fat("photos"))
    node.disk("loop0", fat("cidata"))
    assert found(node) == []


@pytest.mark.parametrize(
    "names",
    [
        ("USER-DATA", "META-DATA", "NETWORK-CONFIG"),
        ("user_data", "meta_data", "network_config"),
        ("user_dat", "meta_dat", "network_"),
        ("USER_DATA.", "META_DATA.", "NETWORK_CONFIG."),
    ],
)
def test_names_on_an_iso_image_without_rock_ridge(node: FakeNode, names: tuple[str, ...]) -> None:
    write(node.disk("sr0", iso("cidata")), dict.fromkeys(names, "x"))
    (seed,) = found(node)
    assert sorted(seed.files) == sorted((USER_DATA, META_DATA, NETWORK))


def test_a_seed_disk_without_a_usable_name_says_what_is_there(node: FakeNode) -> None:
    write(node.disk("sdb", fat("cidata")), {"user-data.txt": "x", "meta-data": ""})
    with pytest.raises(
        CloudInitError, match=r"neither .* there is meta-data, user-data.txt$"
    ) as raised:
        found(node)
    assert ".txt" in str(raised.value.hint)


def test_the_order_of_sources(node: FakeNode) -> None:
    write(node.disk("sdb", fat("cidata")), DATA)
    write(node.esp / "kubesolo", DATA)
    node.serial("ds=nocloud;i=serial-1;h=edge-09")
    write(node.file("/usr/lib/kubesolo/config"), DATA)
    assert [(seed.rank, seed.device) for seed in found(node)] == [
        (0, "/dev/sdb"),
        (1, ESP),
        (2, None),
        (3, None),
    ]
    assert found(node)[1].folder == "kubesolo"
    assert found(node)[2].files == {
        META_DATA: b"instance-id: serial-1\n",
        USER_DATA: b"#cloud-config\nhostname: edge-09\n",
    }


@pytest.mark.parametrize("serial", ["", "VM-1234", "ds=ec2", "nocloud"])
def test_any_other_serial_number_is_none(node: FakeNode, serial: str) -> None:
    node.serial(serial)
    assert found(node) == []


def test_a_serial_number_may_name_a_server(node: FakeNode) -> None:
    url = "http://192.0.2.1/seed/"
    node.serial(f"ds=nocloud;s={url}")
    assert found(node) == [Seed(2, f"the seed {url}", {}, url=url)]
    write(node.file("/var/lib/kubesolo/config/fetched"), {**DATA, "url": url})
    assert found(node)[0].files == {name: text.encode() for name, text in DATA.items()}
    node.serial("ds=nocloud-net;seedfrom=https://192.0.2.2/")
    assert found(node)[0].files == {}


def test_a_seed_by_another_protocol_is_refused(node: FakeNode) -> None:
    node.serial("ds=nocloud;s=file:///seed/")
    with pytest.raises(CloudInitError, match="over http and https alone"):
        found(node)


@pytest.mark.parametrize(
    "url", ["http://[bad/", "http://srv:99999/", "http:///x", "http://srv:0/", "http://s/?a=b"]
)
def test_a_url_that_is_none_is_refused(node: FakeNode, url: str) -> None:
    node.serial(f"ds=nocloud;s={url}")
    with pytest.raises(CloudInitError, match="over http and https alone"):
        found(node)


def test_a_login_in_the_url_is_refused_and_not_repeated(node: FakeNode) -> None:
    node.serial("ds=nocloud;s=http://bob:hunter22@srv/")
    with pytest.raises(CloudInitError, match="a login") as raised:
        found(node)
    assert "hunter22" not in str(raised.value)


def test_a_fault_behind_a_good_source_is_told_and_stops_nothing(node: FakeNode) -> None:
    write(node.disk("sdb", fat("cidata")), DATA)
    del node.folders[ESP]
    node.serial("ds=nocloud;s=ftp://x/")
    seeds, errors = find_seeds(node, DISK, ESP)
    assert [seed.device for seed in seeds] == ["/dev/sdb"]
    assert [ESP in error.message for error in errors] == [True, False]


def test_a_misnamed_file_on_ksoloefi_is_said(node: FakeNode) -> None:
    write(node.esp / "kubesolo", {"user-data.txt": "x"})
    with pytest.raises(CloudInitError, match=r"KSOLOEFI holds neither .* user-data.txt"):
        found(node)


def test_what_the_node_wrote_itself_is_no_configuration(node: FakeNode) -> None:
    write(node.esp / "kubesolo", {"kubesolo-result.txt": "x", "kubeconfig": "{}"})
    write(node.esp / "kubesolo", {"encryption": "key=tpm"})
    assert found(node) == []


def test_a_fifo_or_a_link_on_a_medium_is_not_opened(node: FakeNode) -> None:
    folder = node.disk("sr0", iso("cidata"))
    os.mkfifo(folder / "user-data")
    with pytest.raises(CloudInitError, match="user-data is no plain file"):
        found(node)
    (folder / "user-data").unlink()
    (folder / "user-data").symlink_to("/etc/shadow")
    with pytest.raises(CloudInitError, match="user-data is a link"):
        found(node)


def test_a_folder_of_a_similar_name_spoils_nothing(node: FakeNode) -> None:
    folder = node.disk("sr0", iso("cidata"))
    write(folder, {**DATA, "network-config": "version: 2\n"})
    (folder / "network").mkdir()
    assert found(node)[0].files["network-config"] == b"version: 2\n"


def test_a_medium_that_fails_is_an_error_that_names_it(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.disk("sdb", fat("cidata"))

    def failing(*_: object, **__: object) -> object:
        raise OSError(errno.EIO, "Input/output error", "/dev/sdb")

    monkeypatch.setattr("product.cloudinit.sources._seed_disk", failing)
    with pytest.raises(CloudInitError, match="cannot read /dev/sdb: Input/output error"):
        found(node)


def test_only_the_seed_is_mounted_and_never_to_write(node: FakeNode) -> None:
    write(node.disk("sdb", fat("cidata")), DATA)
    node.disk("sdc", fat("other"))
    found(node)
    assert node.mounts == [("/dev/sdb", "vfat", False), (ESP, "vfat", False)]
