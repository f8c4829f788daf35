"""The root tree: what is made of packages, overlays and the recipe."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pytest

from product.image import rootfs
from product.image.cache import Cache
from product.image.drift import settle
from product.image.errors import RecipeError
from product.image.recipe import Recipe
from product.image.tests.copies import link_copy
from product.image.tools import IMAGES, HostTools, host_arch
from product.image.tree import Tree


def test_no_program_of_this_host_is_compiled_into_a_tree(
    tmp_path: Path, host_tools: HostTools
) -> None:
    """Debian's Python holds a link to /etc/python3.13/sitecustomize.py, which a host may have."""
    (tmp_path / "sitecustomize.py").write_text("HOST = 1\n")
    folder = tmp_path / "tree" / rootfs.PYTHON
    folder.mkdir(parents=True)
    (folder / "own.py").write_text("OWN = 1\n")
    (folder / "linked.py").symlink_to("own.py")
    (folder / "sitecustomize.py").symlink_to(tmp_path / "sitecustomize.py")
    rootfs.byte_compile(tmp_path / "tree", [rootfs.PYTHON], host_tools)
    compiled = sorted(path.name for path in (folder / "__pycache__").iterdir())
    assert compiled == ["linked.cpython-313.pyc", "own.cpython-313.pyc"]


def test_what_the_compiler_left_of_itself_reaches_no_image(
    tmp_path: Path, host_tools: HostTools
) -> None:
    """Somebody ran the same Python by hand, and byte code of its library lies there since."""
    link_copy(host_tools.root, tmp_path / "tools")
    own = HostTools(tmp_path / "tools", host_tools.arch, host_tools.digest)
    cached = own.root / rootfs.PYTHON / "__pycache__"
    found = []
    for name in ("before", "after"):
        sources = tmp_path / name / "library"
        sources.mkdir(parents=True)
        for source in (own.root / rootfs.PYTHON).glob("[a-g]*.py"):
            (sources / source.name).write_bytes(source.read_bytes())
        rootfs.byte_compile(tmp_path / name, ["library"], own)
        compiled = sources / "__pycache__"
        found.append({file.name: file.read_bytes() for file in compiled.iterdir()})
        assert cached.is_dir() == (name == "after")
        if name == "before":
            # Without -B, as nobody should.
            home = {"PYTHONHOME": str(own.root / "usr")}
            own.run("python3.13", "-m", "compileall", "-h", environment=home)
    assert "functools.cpython-313.pyc" in found[0]
    assert found[0] == found[1]


def test_a_file_that_the_node_mounts_something_over_is_told_of(
    tmp_path: Path, told: io.StringIO
) -> None:
    rootfs.note_covered(tmp_path, ["etc/motd", "var/lib/kubesolo/cni/net.d/x", "variety"])
    assert told.getvalue() == (
        f"{tmp_path}: var/lib/kubesolo/cni/net.d/x will not be seen: the node mounts something "
        "over it\n"
    )


def _recipe(**modes: str) -> Recipe:
    read = Recipe.load(IMAGES / "appliance.toml")
    names = {name.replace("_", "/"): mode for name, mode in modes.items()}
    return read.model_copy(update={"root": read.root.model_copy(update={"modes": names})})


def test_modes_and_owners_are_those_of_the_recipe_by_the_images_own_lists(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    tree.write("etc/group", b"root:x:0:\nshadow:x:77:\n")
    tree.write("data/secret", b"")
    tree.link("etc/secret", "/data/secret")
    tree.write("etc/shadow", b"")
    recipe = _recipe(etc_shadow="0640 root:shadow", etc_secret="0600")
    assert rootfs.pseudo_files(recipe, tree) == [
        "-p", "data/secret m 0600 0 0", "-p", "etc/shadow m 0640 0 77",
    ]  # fmt: skip
    with pytest.raises(RecipeError, match=r"root\.modes: the image holds no etc/gshadow"):
        rootfs.pseudo_files(_recipe(etc_gshadow="0640 root:shadow"), tree)
    with pytest.raises(RecipeError, match="etc/group has no utmp"):
        rootfs.pseudo_files(_recipe(etc_shadow="0640 root:utmp"), tree)


@pytest.mark.parametrize("wrong", ['"etc/x" = "640"', '"etc/x y" = "0640"', '"etc/x" = "0640 7:7"'])
def test_a_mode_that_cannot_be_is_an_error(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f'name = "x"\nsuite = "trixie"\n[packages]\nroot = []\n[root.modes]\n{wrong}\n')
    with pytest.raises(RecipeError, match=r"root\.modes\.etc/x"):
        Recipe.load(path)


@pytest.mark.parametrize("name", ["appliance", "appliance-ssh", "kubesolo", "upstream"])
def test_the_programs_of_every_root_find_their_libraries(
    name: str, cache: Cache, host_tools: HostTools
) -> None:
    """What a recipe leaves out, nothing that it keeps is linked to."""
    recipe, arch = Recipe.load(IMAGES / f"{name}.toml"), host_arch()
    tree = rootfs.packages_tree(recipe, settle(recipe, arch, cache).lock, arch, cache, host_tools)
    loader = next(tree.glob("usr/lib*/ld-linux-*"))
    libraries = tree / "usr/lib" / arch.multiarch
    bad, seen = [], 0
    for folder in ("usr/bin", "usr/sbin", "usr/libexec", "usr/lib/cni"):
        for program in (tree / folder).rglob("*"):
            if program.is_symlink() or not program.is_file():
                continue
            with program.open("rb") as stream:
                if stream.read(4) != b"\x7fELF":
                    continue
            seen += 1
            command = [str(loader), "--library-path", str(libraries), "--list", str(program)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            # A static program is listed as nothing at all. The host's libraries are no help.
            found = re.findall(r"(\S+) => (not found|\S+)", result.stdout)
            bad += [(program.name, name) for name, path in found if not path.startswith(str(tree))]
    assert seen > 10
    assert not bad


# Programs that people expect of any system, some of which busybox has.
_USUAL = (
    "arp bc bunzip2 bzip2 chattr cksum comm cpio crc32 cron curl dos2unix expand fmt fuser getopt "
    "hd hostid install iostat join killall5 less lsattr lsof lspci lsusb lzma md5sum mkswap nl "
    "nmeter nohup patch pgrep pkill pmap pstree rev rsync script sha1sum split strace sum tac "
    "telnet tree tsort unexpand uuencode vmstat w whoami xz zip"
)


def test_scripts_of_the_node_ask_for_no_program_that_it_lacks() -> None:
    there = (IMAGES / "overlay/usr/lib/kubesolo/applets").read_text().split()
    lacking = "|".join(sorted(set(_USUAL.split()) - set(there)))
    asked = re.compile(
        rf"(?:^|[|;&(`]|\b(?:if|while|until|then|do|exec)\s)\s*({lacking})(?=\s)", re.M
    )
    scripts = [
        path
        for folder in ("overlay", "payload", "extensions")
        for path in (IMAGES / folder).rglob("*")
        if path.is_file() and {"services", "stages", "runit"} & set(path.parts)
    ]
    assert len(scripts) > 40
    found = {
        f"{path.relative_to(IMAGES)}: {one[1]}"
        for path in scripts
        for one in asked.finditer(re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.M))
    }
    assert found == set()
