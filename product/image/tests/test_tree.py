"""Nothing is written outside of a tree, whatever links an earlier part put there."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from product.image.errors import TreeError
from product.image.packages import compile_globs, unpack, unpack_all
from product.image.tests.debian_archive import make_deb
from product.image.tools import IMAGES
from product.image.tree import Tree


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the build host, which holds one file."""
    folder = tmp_path / "host"
    (folder / "net.d").mkdir(parents=True)
    (folder / "net.d/x").write_text("the host's")
    return folder


def _everything(folder: Path) -> dict[str, str]:
    return {str(p): p.read_text() if p.is_file() else "" for p in sorted(folder.rglob("*"))}


def _overlay(
    folder: Path, files: Mapping[str, str] | None = None, links: Mapping[str, str] | None = None
) -> Path:
    for name, text in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, target in (links or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return folder


def test_an_absolute_link_of_an_earlier_overlay_leads_into_the_root(
    tmp_path: Path, outside: Path
) -> None:
    before = _everything(outside)
    first = _overlay(tmp_path / "a", links={"etc/cni": str(outside)})
    second = _overlay(tmp_path / "b", {"etc/cni/net.d/x": "the overlay's"})
    root = tmp_path / "root"
    root.mkdir()
    Tree(root).lay(first)
    written = Tree(root).lay(second)
    assert _everything(outside) == before
    inside = str(outside).lstrip("/")
    assert (root / inside / "net.d/x").read_text() == "the overlay's"
    assert (root / "etc/cni").readlink() == outside
    assert written == [f"{inside}/net.d/x"]


def test_relative_links_are_followed_as_far_as_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    links = {"bin": "usr/bin", "etc/up": "../usr/./lib", "usr/lib/more": "/etc/up/deep"}
    _overlay(root, links=links)
    _overlay(tmp_path / "b", {"bin/x": "1", "etc/up/more/y": "2"})
    assert Tree(root).lay(tmp_path / "b") == ["usr/bin/x", "usr/lib/deep/y"]
    assert (root / "usr/bin/x").read_text() == "1"
    assert (root / "usr/lib/deep/y").read_text() == "2"


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ({"etc/cni": "../../host"}, "the link etc/cni -> ../../host leads out of the root"),
        ({"etc/cni": "../x/../../y"}, "leads out of the root"),
        ({"etc/cni": "a", "etc/a": "../.."}, "the link etc/a -> ../.. leads out of the root"),
        ({"etc/cni": "../etc/cni"}, "the link etc/cni leads round in a circle"),
    ],
)
def test_a_link_that_leads_nowhere_in_the_root_is_named(
    tmp_path: Path, outside: Path, links: dict[str, str], words: str
) -> None:
    before = _everything(outside)
    root = _overlay(tmp_path / "root", links=links)
    overlay = _overlay(tmp_path / "b", {"etc/cni/x": "1"})
    with pytest.raises(TreeError, match=re.escape(words)) as caught:
        Tree(root).lay(overlay)
    assert f"overlay {overlay}: etc/cni/x cannot be put below {root}" in caught.value.message
    assert _everything(outside) == before


@pytest.mark.parametrize(
    ("there", "over", "words"),
    [
        ({"etc/x/y": "1"}, {"etc/x": "1"}, "etc/x is a folder, which stays"),
        ({"etc/x": "1"}, {"etc/x/y": "1"}, "etc/x is in its way, which is no folder"),
        ({"etc/x": "1"}, {"etc/x/y/z": "1"}, "etc/x is in its way, which is no folder"),
    ],
)
def test_a_file_and_a_folder_of_one_name_are_an_error(
    tmp_path: Path, there: dict[str, str], over: dict[str, str], words: str
) -> None:
    root = _overlay(tmp_path / "root", there)
    with pytest.raises(TreeError, match=words):
        Tree(root).lay(_overlay(tmp_path / "b", over))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b/pipe")
    with pytest.raises(TreeError, match=r"pipe cannot be put .* neither a file"):
        Tree(tmp_path / "root").lay(tmp_path / "b")


def test_files_are_replaced_and_never_written_through(tmp_path: Path, outside: Path) -> None:
    """A link at the file's own name is replaced; what shares its bytes elsewhere stays."""
    root = _overlay(tmp_path / "root", {"etc/y": "cache's"}, {"etc/x": str(outside / "net.d/x")})
    (tmp_path / "cached").hardlink_to(root / "etc/y")
    Tree(root).lay(_overlay(tmp_path / "b", {"etc/x": "1", "etc/y": "2"}))
    assert (root / "etc/x").read_text() == "1"
    assert not (root / "etc/x").is_symlink()
    assert (tmp_path / "cached").read_text() == "cache's"
    assert (outside / "net.d/x").read_text() == "the host's"


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **more: int
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.mode = 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info


def _deb(path: Path, *members: tarfile.TarInfo) -> Path:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for info in members:
            info.size = 4 if info.type == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"deb!"))
    path.write_bytes(make_deb("Package: thing\nVersion: 1\n", {}, data=output.getvalue()))
    return path


SYMLINK, HARDLINK = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../evil",)], r"bad\.deb holds a path outside of its root: \.\./evil"),
        ([("/etc/evil",)], r"bad\.deb holds a path outside of its root: /etc/evil"),
        ([("./usr/../../evil",)], "outside of its root"),
        (
            [("./l", SYMLINK, "../host"), ("./l/evil",)],
            r"bad\.deb: l/evil cannot .*the link l -> \.\./host leads out of the root",
        ),
        ([("./x", HARDLINK, "../host/net.d/x")], "outside of its root: ../host/net.d/x"),
        ([("./x", HARDLINK, "/etc/passwd")], "outside of its root: /etc/passwd"),
        ([("./x", HARDLINK, "./y")], r"bad\.deb: x cannot .* hard link to \./y, which is no file"),
        (
            [("./y", SYMLINK, "/etc/passwd"), ("./x", HARDLINK, "./y")],
            "hard link to ./y, which is no file",
        ),
        ([("./dev/sda", tarfile.BLKTYPE)], r"bad\.deb: dev/sda cannot .* it is a device"),
        ([("./pipe", tarfile.FIFOTYPE)], "it is a device or a pipe"),
    ],
)
def test_an_archive_that_leaves_its_root_is_refused(
    tmp_path: Path, outside: Path, members: list[tuple[str]], words: str
) -> None:
    before = _everything(outside)
    bad = _deb(tmp_path / "bad.deb", *(_member(*one) for one in members))
    with pytest.raises(TreeError, match=words):
        unpack(bad, tmp_path / "root")
    assert _everything(outside) == before
    assert not (tmp_path / "evil").exists()


def test_an_archive_writes_through_an_absolute_link_inside_the_root(
    tmp_path: Path, outside: Path
) -> None:
    before = _everything(outside)
    deb = _deb(
        tmp_path / "a.deb",
        _member("./etc/l", SYMLINK, str(outside)),
        _member("./etc/l/net.d/x"),
        _member("./etc/again", HARDLINK, "./etc/l/net.d/x"),
        _member("./etc/l", tarfile.DIRTYPE),
    )
    root = tmp_path / "root"
    unpack(deb, root)
    assert _everything(outside) == before
    assert (root / str(outside).lstrip("/") / "net.d/x").read_bytes() == b"deb!"
    assert (root / "etc/again").read_bytes() == b"deb!"


def test_modes_are_the_packages(tmp_path: Path) -> None:
    """A bit that was to give somebody's rights who is not root gives nobody's."""
    deb = _deb(
        tmp_path / "a.deb",
        _member("./bin/mount", mode=0o4755),
        _member("./bin/agent", mode=0o2755, gid=42),
        _member("./bin/other", mode=0o4755, uid=7),
        _member("./etc/sudoers", mode=0o440),
        _member("./etc/none", mode=0o000),
        _member("./var/private", tarfile.DIRTYPE, mode=0o700),
        _member("./var/private/x"),
        _member("./var/sticky", tarfile.DIRTYPE, mode=0o1777),
        _member("./var/closed", tarfile.DIRTYPE, mode=0o555),
        _member("./var/closed/x"),
    )
    root = tmp_path / "root"
    unpack_all([deb], root)
    modes = {
        p.relative_to(root).as_posix(): oct(p.lstat().st_mode & 0o7777) for p in root.rglob("*")
    }
    assert modes["bin/mount"] == "0o4755"
    assert modes["bin/agent"] == modes["bin/other"] == "0o755"
    assert modes["etc/sudoers"] == "0o440"
    # The builder itself must read and write it, who need not be root.
    assert modes["etc/none"] == "0o400"
    assert modes["var/private"] == "0o700"
    assert modes["var/sticky"] == "0o1777"
    assert modes["var/closed"] == "0o755"


def test_a_folders_mode_is_the_first_packages(tmp_path: Path) -> None:
    debs = [
        _deb(tmp_path / f"{mode:o}.deb", _member("./srv", tarfile.DIRTYPE, mode=mode))
        for mode in (0o750, 0o755, 0o700)
    ]
    unpack_all(debs, tmp_path / "root")
    assert (tmp_path / "root/srv").stat().st_mode & 0o7777 == 0o750


def test_pruned_hard_links_are_left_out(tmp_path: Path) -> None:
    deb = _deb(
        tmp_path / "a.deb",
        _member("./usr/share/doc/x"),
        _member("./usr/lib/x", HARDLINK, "./usr/share/doc/x"),
        _member("./usr/lib/y"),
    )
    root = tmp_path / "root"
    assert unpack(deb, root, compile_globs(["usr/share/doc/*"])).names == ["usr/lib/y"]
    assert [p.name for p in (root / "usr/lib").iterdir()] == ["y"]


def test_an_overlay_over_kubesolos_links_stays_in_the_image(tmp_path: Path) -> None:
    """Its payload has ``etc/cni -> /var/lib/kubesolo/cni``, and more of the kind."""
    payload = IMAGES / "payload/kubesolo"
    overlay = _overlay(tmp_path / "b", {"etc/cni/net.d/x": "1", "opt/cni/bin/y": "2"})
    tree = Tree(tmp_path / "root")
    tree.lay(payload)
    assert tree.lay(overlay) == ["var/lib/kubesolo/cni/net.d/x", "var/lib/kubesolo/opt-cni/bin/y"]
    assert (tmp_path / "root/etc/cni").readlink() == Path("/var/lib/kubesolo/cni")
    assert not Path("/var/lib/kubesolo/cni/net.d/x").exists()
