"""The root file system: packages, the project's own code and modules in one squashfs.

Two steps are cached apart: the packages' tree with its byte code, which changes with the lock, and
the image, which changes with the version, the overlay or the code.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from product.disk.loader import IN_ROOT, RECORD, describe
from product.image import apparmor, progress
from product.image.cache import Cache, digest_of
from product.image.errors import ImageError, RecipeError
from product.image.images import find_product
from product.image.kernel import Kernel, ModuleIndex
from product.image.locks import Lock
from product.image.packages import compile_globs, fetch, unpack_all
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools
from product.image.tree import Tree

BLOCK_SIZE = 64 * 1024
PYTHON = "usr/lib/python3.13"
# Where the project's code lies in the guest; its launchers put it on the path themselves.
CODE = "usr/lib/kubesolo/python"
# Modules that a node loads before it locks them.
HOTPLUG = "usr/lib/kubesolo/hotplug"
PRODUCT = find_product()
# What of `product` ships in the guest.
SHIPPED = (
    "__init__.py",
    "deltas.py",
    "errors.py",
    "manifest.py",
    "agent",
    "channel",
    "cloudinit",
    "disk",
    "encryption",
    "installer",
    "netconf",
    "node",
    "terms.py",
    "version.py",
)
# compileall, loaded while byte code is looked for where there is none, writes it where it belongs.
_COMPILE = (
    "import sys, compileall, argparse, filecmp; "
    "sys.pycache_prefix = None; sys.exit(not compileall.main())"
)
_MERGED = ("bin", "sbin", "lib", "lib64")
_FOLDERS = (
    "dev", "proc", "sys", "run", "tmp", "mnt/data", "root", "etc/kubesolo", "var/lib/kubesolo",
    "var/lib/containerd", "var/log", "usr/local",
)  # fmt: skip
# What the node mounts a file system over, or the data partition's folder.
_COVERED = ("dev/", "proc/", "sys/", "run/", "tmp/", "var/", "etc/kubesolo/")


def packages_tree(recipe: Recipe, lock: Lock, arch: Arch, cache: Cache, tools: HostTools) -> Path:
    """The packages of the image, pruned and byte-compiled."""
    packages = lock.group("root")
    only = recipe.root.only
    key = digest_of([p.sha256 for p in packages], recipe.root.prune, only, tools.digest, 7)
    unknown = only.keys() - {p.name for p in packages}
    if unknown:
        raise RecipeError(f"root.only names packages that are not locked: {sorted(unknown)}")

    def build(tree: Path) -> None:
        blobs = fetch(packages, cache)
        with progress.step(f"unpack {len(blobs)} packages of the {arch} root"):
            for name in _MERGED:
                (tree / "usr" / name).mkdir(parents=True)
                (tree / name).symlink_to(f"usr/{name}")
            some = {
                deb: compile_globs(only[name])
                for key, deb in blobs.items()
                if (name := key.partition(":")[0]) in only
            }
            unpack_all(list(blobs.values()), tree, compile_globs(recipe.root.prune), some)
            _certificates(Tree(tree))
            _alternatives(Tree(tree))
        with progress.step("byte-compile Python"):
            byte_compile(tree, [PYTHON, "usr/lib/python3/dist-packages"], tools)

    return cache.tree(f"packages-{arch}", key, build)


def _certificates(tree: Tree) -> None:
    """What ca-certificates' maintainer script would make: every authority in one file."""
    authorities = tree.follow("usr/share/ca-certificates")
    found = sorted((authorities / "mozilla").glob("*.crt"))
    if not found:
        raise ImageError("the packages hold no certificate authorities")
    together = b"".join(path.read_bytes() for path in found)
    tree.write("etc/ssl/certs/ca-certificates.crt", together)
    shutil.rmtree(authorities)


def _alternatives(tree: Tree) -> None:
    """What iptables' maintainer script would choose: the programs for the kernel's nftables."""
    if tree.follow("usr/sbin/xtables-nft-multi").exists():
        for family in ("iptables", "ip6tables"):
            for name in ("", "-save", "-restore"):
                tree.link(f"usr/sbin/{family}{name}", "xtables-nft-multi")


def byte_compile(tree: Path, folders: list[str], tools: HostTools) -> None:
    """Compile with the host tools' Python, which has the guest's version.

    ``unchecked-hash`` byte code is valid whatever the sources' times are, and serves every
    architecture. The compiler itself is always run from its source, even where somebody's use of
    the same Python left byte code of it: which of its strings are shared with the code that it
    compiles, and so the bytes, depend on how it was loaded. Raises ToolError for a source that does
    not compile.
    """
    tools.run(
        "python3.13", "-s", "-S", "-P", "-B", "-X", f"pycache_prefix={os.devnull}",
        "-c", _COMPILE, "-q", "-j1",
        # No link to a file of this host, such as that of Debian's sitecustomize.py, is followed.
        "-e", str(tree),
        "--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/",
        *[str(Tree(tree).follow(folder)) for folder in folders],
        environment={"PYTHONHOME": str(tools.root / "usr"), "PYTHONHASHSEED": "0"},
    )  # fmt: skip


def build(
    recipe: Recipe,
    packages: Path,
    kernel: Kernel,
    overlays: list[Path],
    version: str,
    tools: HostTools,
    work: Path,
    target: Path,
    modules: tuple[str, ...] = (),
) -> None:
    """Write the squashfs of one version. ``work`` is an empty scratch directory.

    Later overlays win over earlier ones and over the packages. ``modules`` come on top of the
    recipe's. Raises RecipeError where the kernel lacks one of them, TreeError where
    an overlay does not fit.
    """
    root = work / "root"
    _link_tree(packages, root)
    tree = Tree(root)
    for folder in _FOLDERS:
        tree.folder(folder)
    _modules(recipe, kernel, modules, tree, tools)
    copy_code(root, tools)
    _identity(recipe, kernel.arch, version, tree)
    for overlay in overlays:
        note_covered(overlay, tree.lay(overlay))
    apparmor.compile_profiles(root, tools)
    if (loader := tree.follow(IN_ROOT)).is_dir():
        tree.write(f"{IN_ROOT}/{RECORD}", describe(str(loader), version).to_bytes())
    _applets(tree)
    tools.run(
        "mksquashfs", root, target, "-comp", "zstd", "-Xcompression-level", "6",
        "-b", str(BLOCK_SIZE), "-all-root", "-no-xattrs", "-noappend", "-no-progress", "-quiet",
        "-exit-on-error", "-all-time", str(recipe.source_date),
        "-mkfs-time", str(recipe.source_date),
        # What the recipe says of single files goes before that all is root's.
        "-pseudo-override", *pseudo_files(recipe, tree),
    )  # fmt: skip


def pseudo_files(recipe: Recipe, tree: Tree) -> list[str]:
    """Arguments of mksquashfs for the modes and owners of ``root.modes``.

    Owners are looked up in the image's own lists. Raises RecipeError for a file or an owner that
    the image does not have.
    """
    arguments = []
    for name, wanted in sorted(recipe.root.modes.items()):
        mode, _, owner = wanted.partition(" ")
        user, _, group = (owner or "root:root").partition(":")
        if not os.path.lexists(tree.follow(name)):
            raise RecipeError(
                f"recipe {recipe.name}: root.modes: the image holds no {name}",
                hint="name a file as it lies in the root, without a leading slash",
            )
        path = tree.follow(name).relative_to(tree.root)
        uid, gid = _number(recipe, tree, "passwd", user), _number(recipe, tree, "group", group)
        arguments += ["-p", f"{path} m {mode} {uid} {gid}"]
    return arguments


def _number(recipe: Recipe, tree: Tree, listing: str, name: str) -> int:
    """The number of a user or group in the image."""
    lines = tree.follow(f"etc/{listing}").read_text().splitlines()
    for fields in (line.split(":") for line in lines):
        if fields[0] == name and len(fields) > 2 and fields[2].isdecimal():
            return int(fields[2])
    raise RecipeError(f"recipe {recipe.name}: root.modes: the image's etc/{listing} has no {name}")


def note_covered(overlay: Path, written: list[str]) -> None:
    """Tell of files that no program will see; links may have led them there."""
    for name in written:
        if name.startswith(_COVERED):
            progress.note(f"{overlay}: {name} will not be seen: the node mounts something over it")


def _link_tree(source: Path, target: Path) -> None:
    """Copy a tree by hard links: the cache's files are never written through them."""
    for folder, names, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir()
        here.chmod(stat.S_IMODE(Path(folder).stat().st_mode))
        for name in [n for n in names if (Path(folder) / n).is_symlink()]:
            (here / name).symlink_to((Path(folder) / name).readlink())
        for name in files:
            os.link(Path(folder) / name, here / name, follow_symlinks=False)


def _modules(
    recipe: Recipe, kernel: Kernel, more: tuple[str, ...], tree: Tree, tools: HostTools
) -> None:
    index = ModuleIndex(kernel)
    folder = f"usr/lib/modules/{kernel.release}"
    settings = recipe.kernel.of(kernel.arch)
    # What early boot loads at every boot is there already.
    names = [name for name in settings.all() if name not in settings.early]
    for file in index.closure([*names, *more]):
        tree.write(f"{folder}/{file}", index.content(file))
    tree.write(HOTPLUG, hotplug_lines(settings.hotplug, more).encode())
    for listing in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        tree.write(f"{folder}/{listing}", (kernel.modules / listing).read_bytes())
    tools.run("depmod", "-b", tree.root, kernel.release)


def hotplug_lines(hotplug: Mapping[str, Sequence[str]], more: Sequence[str]) -> str:
    """What a node loads before it locks modules: lines of ``BUS MODULE``, with the payload's."""
    groups = [*hotplug.items(), ("any", more)]
    return "".join(dict.fromkeys(f"{bus} {name}\n" for bus, names in groups for name in names))


def copy_code(tree: Path, tools: HostTools) -> None:
    """Put what ships of the product into the image's tree, compiled."""
    target = Tree(tree).folder(f"{CODE}/product")
    ignore = shutil.ignore_patterns("__pycache__", "tests", "*.pyc")
    for name in SHIPPED:
        source = PRODUCT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore, copy_function=shutil.copyfile)
            # From the bottom up: a folder that holds nothing but what is left out, as one whose
            # modules have moved does, is no part of the digest and none of the image.
            for folder, _, _ in os.walk(target / name, topdown=False):
                if os.listdir(folder):
                    Path(folder).chmod(0o755)
                else:
                    Path(folder).rmdir()
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    byte_compile(tree, [CODE], tools)


def _applets(tree: Tree) -> None:
    """Give busybox's applets their names where no package has a program of that name."""
    listing = tree.follow("usr/lib/kubesolo/applets")
    for name in listing.read_text().split():
        if not any(os.path.lexists(tree.place(f"usr/{where}/{name}")) for where in ("bin", "sbin")):
            tree.link(f"usr/bin/{name}", "busybox")


def _identity(recipe: Recipe, arch: Arch, version: str, tree: Tree) -> None:
    release = {"version": version, "architecture": arch.value, "source_date": recipe.source_date}
    text = json.dumps(release, sort_keys=True) + "\n"
    tree.write("usr/lib/kubesolo/release.json", text.encode())
    tree.write(
        "usr/lib/os-release",
        (
            'NAME="KubeSolo OS"\nID=kubesolo-os\nID_LIKE=debian\n'
            f'VERSION_ID={version}\nPRETTY_NAME="KubeSolo OS {version}"\nVARIANT_ID={recipe.name}\n'
        ).encode(),
    )
    tree.link("etc/os-release", "../usr/lib/os-release")
