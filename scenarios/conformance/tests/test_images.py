"""What is in the container images, with stand-ins for packages and programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.image.oci.layer import Entry, pack
from scenarios.conformance.images import IMAGES_MADE, made_layers

PROGRAMS = ("agnhost", "nonewprivs", "sample-apiserver", "etcd", "pause")


@pytest.fixture
def layers(tmp_path: Path) -> dict[str, dict[str, Entry]]:
    """Entries by their paths, by the names of layers."""
    work, sources = tmp_path / "packages", tmp_path / "sources"
    for name, text in {
        "usr/bin/busybox": "busybox", "usr/bin/nc.openbsd": "nc", "usr/bin/bash": "bash",
        "usr/sbin/nginx": "nginx", "usr/lib/x86_64-linux-gnu/libc.so.6": "libc",
        "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so": "table", "usr/share/doc/bash/copyright": "x",
        "usr/bin/sleep": "a real one",
    }.items():  # fmt: skip
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if "bin/" in name else 0o644)
    (work / "usr/lib64").mkdir()
    (work / "usr/lib64/ld.so").symlink_to("../lib/x86_64-linux-gnu/ld.so")
    for name in ("agnhost/porter/localhost.crt", "agnhost/porter/localhost.key",
                 "kitten/html/data.json", "nautilus/html/data.json"):  # fmt: skip
        path = sources / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    built = {name: name.encode() for name in PROGRAMS}
    return {
        name: {entry.path: entry for entry in entries}
        for name, entries in made_layers(work, sources, built).items()
    }


def test_each_image_is_made_of_layers_that_there_are(layers: dict[str, dict[str, Entry]]) -> None:
    used = {name for made in IMAGES_MADE.values() for name in made.layers}
    assert used == layers.keys()


def test_each_layer_can_be_packed(layers: dict[str, dict[str, Entry]]) -> None:
    assert all(pack(entries.values(), 0) for entries in layers.values())


def test_programs_of_packages_go_before_busybox(layers: dict[str, dict[str, Entry]]) -> None:
    debian = layers["debian"]
    assert debian["usr/bin/sleep"].data == b"a real one"
    assert debian["usr/bin/sh"].target == "busybox"
    assert debian["usr/bin/nc"].target == "nc.openbsd"
    assert debian["bin"].target == "usr/bin"
    assert debian["usr/lib64/ld.so"].target == "../lib/x86_64-linux-gnu/ld.so"
    assert debian["usr/sbin/nginx"].mode == 0o755
    assert debian["usr/lib/x86_64-linux-gnu/libc.so.6"].mode == 0o644


def test_what_no_program_needs_is_left_out(layers: dict[str, dict[str, Entry]]) -> None:
    assert not [name for name in layers["debian"] if "gconv" in name or "/share/" in name]


def test_images_have_the_users_that_tests_look_for(layers: dict[str, dict[str, Entry]]) -> None:
    assert b"user-defined-in-image:x:1000:1000:" in layers["debian"]["etc/passwd"].data
    group = b"group-defined-in-image:x:50000:user-defined-in-image\n"
    assert group in layers["debian"]["etc/group"].data


def test_agnhost_has_its_files(layers: dict[str, dict[str, Entry]]) -> None:
    assert {"agnhost", "agnhost-2", "localhost.crt", "localhost.key", "uploads"} == (
        layers["agnhost"].keys()
    )
    assert layers["nautilus"]["data.json"].data == b"nautilus/html/data.json"
    assert layers["nonewprivs"]["usr/local/bin/nnp"].mode & 0o4000
